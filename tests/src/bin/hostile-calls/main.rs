//! Calls that are meant to do harm. Ring 0: every argument of every service in
//! turn leads where it must not, and then all numbers with random registers.
//! Ring 3: guesses of the owner's token, and pointers at Underlay. Nothing may
//! be written by a call that fails, nothing of Underlay shown, nobody stopped.
//!
//! A kernel may have a service overwrite any memory of its own, this program
//! too. So what is random leads to memory set aside, to what is nobody's, or
//! nowhere; see [`places`].
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

mod guesses;
mod places;

use abi::call::{self, AS_PROGRAM, MAY_FAULT, SERVICES, Service};
use abi::record::ServiceRecord;
use alloc::vec;
use alloc::vec::Vec;
use places::Places;
use tests::Report;
use tests::attempt::{Fault, GP, PF};
use tests::call::{Registers, alive};
use tests::random::Random;
use tests::transcript::Options;

tests::guest!(check);

/// Random calls, if the command line does not say.
const RANDOM: u64 = 90_000;
/// Of so many random calls one is looked at closely.
const LOOK_EVERY: u64 = 32;
/// What the level of the log is without a config.
const LEVEL: u64 = 3;

fn check(report: &mut Report) {
    let calls = Options::of_this_guest().random(RANDOM);
    let mut places = Places::new();
    report.say(format_args!("aimed at {:#x}", places.underlay()));
    each_argument(report, &mut places);
    report.holds("ping answers after bad arguments", alive());
    random_calls(report, &mut places, calls);
    report.holds("ping answers after random calls", alive());
    drop(places);
    guesses::check(report, calls / 10);
    let level = tests::call::call(call::LOG_LEVEL, [LEVEL, 0, 0, 0, 0]);
    report.holds("the log has its level again", level.is_ok());
    let rows = rows();
    let same = rows.iter().zip(SERVICES);
    let same = same.filter(|(row, service)| **row == ServiceRecord::from(*service));
    report.equal(
        "the table of services is as it was",
        same.count(),
        SERVICES.len(),
    );
    report.holds("ping answers at the end", alive());
}

fn rows() -> Vec<ServiceRecord> {
    let room = vec![[0u8; ServiceRecord::SIZE]; SERVICES.len()];
    let bytes = (room.len() * ServiceRecord::SIZE) as u64;
    let at = room.as_ptr() as u64;
    let reply = tests::call::call(call::LIST, [at, bytes, 0, 0, 0]);
    let written = reply.map_or(0, |reply| reply.rax as usize);
    room.iter()
        .take(written)
        .map(ServiceRecord::from_bytes)
        .collect()
}

/// What may be added to a number.
const FLAGS: [u64; 3] = [0, MAY_FAULT, AS_PROGRAM];

/// Whether a call did nothing: an error in RAX, or a fault.
fn failed(reply: &Result<Registers, Fault>) -> bool {
    reply
        .as_ref()
        .map_or(true, |reply| (-4095..0).contains(&(reply.rax as i64)))
}

/// Every argument that is an address leads to each bad place, the others being
/// good; as an error and, where the caller asks for it, as a fault.
fn each_argument(report: &mut Report, places: &mut Places) {
    for service in SERVICES {
        let (mut calls, mut answered) = (0u32, Vec::new());
        let before = places.digest();
        for (index, _) in service.arguments.iter().enumerate() {
            for bad in places.bad(service, index) {
                for flag in FLAGS {
                    let mut arguments = places.good(service);
                    arguments[index] = bad;
                    let reply = tests::call::call(service.number | flag, arguments);
                    calls += 1;
                    if !failed(&reply) {
                        answered.push(bad);
                    }
                }
            }
        }
        if calls == 0 {
            continue;
        }
        let name = service.name;
        report.holds(
            format_args!("{name} refuses all of {calls} bad addresses, but {answered:x?}"),
            answered.is_empty(),
        );
        report.holds(
            format_args!("{name} writes nothing then"),
            places.digest() == before,
        );
    }
}

/// What came of random calls.
#[derive(Default)]
struct Outcomes {
    answered: u64,
    refused: u64,
    faults: u64,
    others: u64,
    unkept: u64,
    written: u64,
}

fn random_calls(report: &mut Report, places: &mut Places, calls: u64) {
    let mut outcomes = Outcomes::default();
    for index in 0..calls {
        let mut random = Random::of(5, index);
        // Some beyond the table, and any.
        let number = match random.below(16) {
            0 => random.word(),
            1 => random.below(1 << 16),
            _ => random.below(SERVICES.len() as u64),
        };
        let number = number | random.one_of(&FLAGS);
        let arguments = places.random(row_of(number), &mut random);
        let looked_at = index % LOOK_EVERY == 0;
        let before = if looked_at { places.digest() } else { 0 };
        let reply = tests::call::call(number, arguments);
        outcomes.count(&reply);
        if looked_at && failed(&reply) && places.digest() != before {
            outcomes.written += 1;
        }
    }
    let Outcomes {
        answered,
        refused,
        faults,
        ..
    } = outcomes;
    report.say(format_args!(
        "of {calls} random calls {answered} were answered, {refused} refused, {faults} faulted"
    ));
    report.holds("some of each", answered.min(refused).min(faults) > 0);
    report.equal("no other fault", outcomes.others, 0);
    report.equal("other registers are preserved", outcomes.unkept, 0);
    report.equal("those that failed wrote nothing", outcomes.written, 0);
}

impl Outcomes {
    fn count(&mut self, reply: &Result<Registers, Fault>) {
        match reply {
            Ok(registers) => {
                let kept = registers.others[1] == 0x5a5a_0000_0000_0001;
                self.unkept += u64::from(!kept || registers.stack_moved != 0);
                if failed(reply) {
                    self.refused += 1;
                } else {
                    self.answered += 1;
                }
            }
            Err(fault) if matches!(fault.vector, GP | PF) => self.faults += 1,
            Err(_) => self.others += 1,
        }
    }
}

/// The service that `number` calls.
fn row_of(number: u64) -> Option<&'static Service> {
    let row = usize::try_from(number & !(MAY_FAULT | AS_PROGRAM)).ok()?;
    SERVICES.get(row)
}
