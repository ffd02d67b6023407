//! A program at ring 3 that guesses the owner's token, and has page tables that
//! lead to Underlay.

use abi::Errno;
use abi::call::{self, SERVICES, Service, Who};
use abi::record::OddityRecord;
use alloc::vec;
use tests::Report;
use tests::attempt::PF;
use tests::cpu;
use tests::machine::reserved_ranges;
use tests::random::Random;
use tests::sandbox::{CODE, DATA, DATA_PAGES, Ending, General, Place, Sandbox};

/// Numbers of registers in [`General`]: RAX, the arguments, the token.
const RAX: usize = 0;
const ARGUMENTS: [usize; 5] = [3, 1, 2, 6, 7];
const TOKEN: [usize; 2] = [8, 9];
const BREAKPOINT: u8 = 3;
/// A page of the sandbox that is laid over Underlay's memory.
const ALIAS: u64 = 0x4_0000;
const PAGE: u64 = 4096;

/// All of it.
pub fn check(report: &mut Report, guesses: u64) {
    let before = refusals();
    let mut sandbox = Sandbox::new();
    for (at, word) in sandbox.data().enumerate() {
        *word = at as u64 ^ 0x5a5a_0000_0000_0000;
    }
    let wrong = guess(&mut sandbox, guesses);
    report.equal(
        format_args!("{guesses} guesses of the token are refused, and change nothing"),
        wrong,
        0,
    );
    pointers(report, &mut sandbox);
    drop(sandbox);
    report.equal("each guess was counted", refusals() - before, guesses);
}

/// Refused calls so far.
fn refusals() -> u64 {
    let rows = vec![[0u8; OddityRecord::SIZE]; 64];
    let room = [
        rows.as_ptr() as u64,
        (rows.len() * OddityRecord::SIZE) as u64,
    ];
    let _ = call_kernel(call::ODDITIES_READ, room);
    let rows = rows.iter().map(OddityRecord::from_bytes);
    let mut named = rows.filter(|row| row.name.as_str() == "refused-call");
    named.next().map_or(0, |row| row.count)
}

fn call_kernel(number: u64, [at, bytes]: [u64; 2]) -> u64 {
    tests::call::call(number, [at, bytes, 0, 0, 0]).map_or(0, |reply| reply.rax)
}

fn instruction() -> [u8; 3] {
    [0x0f, 0x01, if cpu::is_intel() { 0xc1 } else { 0xd9 }]
}

fn digest(sandbox: &mut Sandbox) -> u64 {
    let words = sandbox.data();
    words.fold(0u64, |sum, word| sum.rotate_left(7).wrapping_add(1) ^ *word)
}

/// How many guesses came out as anything but a refusal.
fn guess(sandbox: &mut Sandbox, guesses: u64) -> u64 {
    let rows = SERVICES.iter().filter(|service| service.who != Who::Any);
    let rows: alloc::vec::Vec<&Service> = rows.collect();
    let before = digest(sandbox);
    let mut wrong = 0;
    for index in 0..guesses {
        let mut random = Random::of(6, index);
        let mut general: General = [DATA; 16];
        general[RAX] = rows[random.below(rows.len() as u64) as usize].number;
        let guess = random.word();
        let tokens = [
            [0, 0],
            [u64::MAX, u64::MAX],
            [guess, guess],
            [guess, 0],
            [guess, random.word()],
        ];
        for (register, value) in TOKEN.iter().zip(tokens[random.below(5) as usize]) {
            general[*register] = value;
        }
        let ending = sandbox.go(Place::new(true, 64), &instruction(), &general);
        general[RAX] = Errno::NotPermitted.to_register();
        wrong += u64::from(ending.vector != BREAKPOINT || ending.general != general);
    }
    wrong + u64::from(digest(sandbox) != before)
}

/// Pages that the program may use by its own tables are Underlay's: they are no
/// memory, and a call is not a way to them.
fn pointers(report: &mut Report, sandbox: &mut Sandbox) {
    let ranges = reserved_ranges();
    let Some(range) = ranges.first() else {
        return report.holds("a range is reserved for Underlay", false);
    };
    let before = digest(sandbox);
    let (mut calls, mut answered) = (0, 0);
    for page in (0..range.size / PAGE).step_by(8) {
        sandbox.map(ALIAS, Some(range.base + page * PAGE));
        for [into, from] in [[DATA, ALIAS], [ALIAS, DATA], [ALIAS, ALIAS + 64]] {
            calls += 1;
            let ending = copy(sandbox, into, from);
            answered += u64::from(ending.vector == BREAKPOINT);
        }
    }
    sandbox.map(ALIAS, None);
    report.equal(
        format_args!("none of {calls} copies from and to Underlay is made"),
        answered,
        0,
    );
    let end = DATA + DATA_PAGES * PAGE;
    for (what, into, from) in [
        ("an absent page", DATA, end),
        ("its code", CODE, DATA),
        ("behind its last page", end - 4, DATA),
    ] {
        let ending = copy(sandbox, into, from);
        report.equal(format_args!("{what} faults"), ending.vector, PF);
    }
    report.equal("nothing was written", digest(sandbox), before);
}

fn copy(sandbox: &mut Sandbox, into: u64, from: u64) -> Ending {
    let mut general: General = [0; 16];
    general[RAX] = call::MEMORY_COPY;
    for (register, value) in ARGUMENTS.iter().zip([into, from, 8]) {
        general[*register] = value;
    }
    sandbox.go(Place::new(true, 64), &instruction(), &general)
}
