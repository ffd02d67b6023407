//! A program that asks for anything: random services with random arguments, and
//! with records that another thread changes while they are used.

use crate::Outcome;
use crate::random::Random;
use abi::call::{VM_CREATE, VM_TURN};
use abi::child::rights;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use underlay::Underlay;

/// Words that both threads write.
const WORDS: usize = 128;

pub fn run(count: u64) -> Outcome {
    // By the module, to whom a bad address is an error and no signal.
    let underlay = Underlay::by_device().ok_or("no /dev/underlay")?;
    let (handle, number) = underlay.vm_create("attacker")?;
    underlay.vm_vcpu(handle)?;
    let (piece, _) = underlay.vm_memory(handle)?;
    // SAFETY: nothing of this program's lies in that memory.
    unsafe { underlay.vm_map(handle, 0, piece, 0x10_0000, rights::READ | rights::EXECUTE)? };
    let records: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| change(&records, &done));
        let kinds = ask(underlay, &records, [handle, piece], count);
        done.store(true, Relaxed);
        println!("{count} calls: {kinds} succeeded");
    });
    clean(underlay, number)
}

/// Ends whatever was made.
fn clean(underlay: Underlay, number: u64) -> Outcome {
    let children = underlay.children()?;
    for child in &children {
        underlay.vm_destroy(child.number)?;
    }
    let is_left = children.iter().any(|child| child.number > number + 100_000);
    match is_left {
        true => Err("numbers of children run wild".into()),
        false => Ok(()),
    }
}

fn change(records: &[AtomicU64], done: &AtomicBool) {
    let mut random = Random::new(11);
    while !done.load(Relaxed) {
        let place = random.below(WORDS as u64) as usize;
        records[place].store(random.odd(), Relaxed);
    }
}

fn ask(underlay: Underlay, records: &[AtomicU64], known: [u64; 2], count: u64) -> u64 {
    let mut random = Random::new(13);
    let mut succeeded = 0;
    for _ in 0..count {
        let number = VM_CREATE + random.below(VM_TURN - VM_CREATE + 1);
        let arguments = arguments(&mut random, records, known);
        // SAFETY: addresses among the arguments are of the records, which expect
        // that others write them, or of nothing that could be written: small,
        // in no program's half, or without meaning.
        let reply = unsafe { underlay.call(number, arguments) };
        succeeded += u64::from(reply.result().is_ok());
    }
    succeeded
}

fn arguments(random: &mut Random, records: &[AtomicU64], [handle, piece]: [u64; 2]) -> [u64; 5] {
    let at = records.as_ptr() as u64;
    let mut any = || match random.below(8) {
        0 | 1 => handle,
        2 => piece + (random.below(1024) << 12),
        3 => random.below(3),
        4 | 5 => at + random.below(256),
        6 => !random.below(1 << 47) << 1,
        _ => random.below(16) << 12,
    };
    [any(), any(), any(), any(), any()]
}
