//! A program that asks for anything: random services with random arguments, and
//! with records that another thread changes while they are used.

use crate::Outcome;
use crate::random::Random;
use abi::call::{VM_CREATE, VM_STATISTICS};
use abi::child::rights;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::slice;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use underlay::Underlay;

/// Words that both threads write.
const WORDS: usize = 128;
/// Words that the hypervisor may write, whichever of the first 256 bytes it begins at:
/// a record for each kind of exit is the most.
const ROOM: usize = 2048;

pub fn run(count: u64) -> Outcome {
    // By the module, to whom a bad address is an error and no signal.
    let underlay = Underlay::by_device().ok_or("no /dev/underlay")?;
    let (handle, number) = underlay.vm_create("attacker")?;
    underlay.vm_vcpu(handle)?;
    let (piece, _) = underlay.vm_memory(handle)?;
    // SAFETY: nothing of this program's lies in that memory.
    unsafe { underlay.vm_map(handle, 0, piece, 0x10_0000, rights::READ | rights::EXECUTE)? };
    let records: Vec<AtomicU64> = (0..ROOM).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| change(&records, &done));
        let kinds = ask(underlay, &records, [handle, piece], count);
        done.store(true, Relaxed);
        println!("{count} calls: {kinds} succeeded");
    });
    clean(underlay, number)?;
    turns(count)
}

/// Turns whose records another thread changes, and the child as well: all of its
/// memory is the page of its records.
fn turns(count: u64) -> Outcome {
    // By this program itself, as it is the way that looks at least.
    let underlay = Underlay::find()?.as_owner()?;
    let (handle, number) = underlay.vm_create("scribbler")?;
    underlay.vm_vcpu(handle)?;
    let (piece, _) = underlay.vm_memory(handle)?;
    let page = Page::map(piece)?;
    let all = rights::READ | rights::WRITE | rights::EXECUTE;
    // SAFETY: the memory is in this program as `Page` alone, whose words others may
    // change at any time.
    unsafe {
        underlay.vm_map(handle, 0, piece, 0x1000, all)?;
        underlay.vm_records(handle, 0, piece)?;
    }
    let done = AtomicBool::new(false);
    let ran = thread::scope(|scope| {
        scope.spawn(|| change(page.words(), &done));
        let turn = |_: &u64| underlay.vm_turn(handle, 0).is_ok();
        let ran = (0..count).filter(turn).count();
        done.store(true, Relaxed);
        ran
    });
    println!("{count} turns: {ran} ran");
    Ok(underlay.vm_destroy(number)?)
}

/// A page of the pool.
struct Page(*const AtomicU64);

impl Page {
    fn map(at: u64) -> Result<Self, Box<dyn std::error::Error>> {
        let memory = File::options().read(true).write(true).open("/dev/mem")?;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let (file, offset) = (memory.as_raw_fd(), libc::off_t::try_from(at)?);
        // SAFETY: the kernel chooses a place where nothing is.
        let place = unsafe { libc::mmap(null_mut(), 4096, both, libc::MAP_SHARED, file, offset) };
        if place == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(Self(place.cast_const().cast()))
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the page stays mapped until the program ends, and nobody borrows
        // it but as atomics.
        unsafe { slice::from_raw_parts(self.0, 4096 / 8) }
    }
}

// SAFETY: it is memory of the whole process, and all accesses are atomic.
unsafe impl Sync for Page {}

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
        let number = VM_CREATE + random.below(VM_STATISTICS - VM_CREATE + 1);
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
