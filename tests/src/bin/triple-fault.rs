//! A triple fault resets the machine, as it does without Underlay: the firmware
//! boots again, Underlay too, and this guest, which tries the next kind.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::asm;
use tests::cpu::{inb, outb};
use tests::linear::Table;
use tests::{Report, cpu};

tests::guest!(check);

/// A byte of the clock's memory, which outlives a reset and which no firmware
/// uses; it counts the faults since the machine was switched on.
const PLACE: u8 = 0x7e;
const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// What tells a count from what was there before.
const MARK: u8 = 0xa0;

/// Ways to have no handler for an exception, its double fault, and that one's.
const KINDS: [(&str, fn() -> !); 2] = [
    ("an empty interrupt table", no_gates),
    ("page tables without an entry", no_pages),
];

fn check(report: &mut Report) {
    let done = count();
    if let Some((name, fault)) = KINDS.get(done) {
        report.say(format_args!("a triple fault by {name}"));
        set_count(done + 1);
        fault();
    }
    report.equal("as many resets as triple faults", done, KINDS.len());
}

fn count() -> usize {
    // SAFETY: the clock's memory is read, with its NMI switch open.
    let value = unsafe {
        outb(INDEX, PLACE);
        inb(DATA)
    };
    let count = value ^ MARK;
    if count < 0x10 { usize::from(count) } else { 0 }
}

fn set_count(count: usize) {
    // SAFETY: nobody else uses the byte.
    unsafe {
        outb(INDEX, PLACE);
        outb(DATA, MARK | count as u8);
    }
}

fn no_gates() -> ! {
    let empty = [0u8; 10];
    // SAFETY: the machine is to end here.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &empty, options(noreturn)) }
}

fn no_pages() -> ! {
    let root = Table::boxed();
    // SAFETY: the machine is to end here.
    unsafe { cpu::write_cr3(core::ptr::from_ref(&*root) as u64) };
    cpu::halt_forever()
}
