//! Underlay's memory is out of the guest's reach: in its place there is a scrap
//! page, from which nothing executes, by whatever address and access it is
//! reached.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::asm;
use tests::attempt::{GP, PF};
use tests::call::alive;
use tests::cpu::{rdmsr, wrmsr};
use tests::linear::{PRESENT_WRITABLE, Window};
use tests::machine::{Range, reserved_ranges};
use tests::{Fault, Report, attempt};
use x86::msr;

tests::guest!(check);

const PAGE: u64 = 4096;

fn check(report: &mut Report) {
    let ranges = reserved_ranges();
    report.holds("a range is reserved for Underlay", !ranges.is_empty());
    for range in ranges {
        report.say(format_args!("reserved: {range}"));
        // Each kind of access is the first that its page ever sees.
        page_table(report, range, 1);
        execute(report, "the range", range.base + 2 * PAGE);
        alias(report, range, 3);
        local_apic(report, range);
        read_all(report, range);
        write_all(report, range);
        read_all(report, range);
        one_scrap_page(report, range);
    }
    let greeting = tests::call::call(abi::call::HELLO, [0; 5]);
    report.holds("hello answers", greeting.is_ok_and(|reply| reply.rax >= 1));
}

fn survives(report: &mut Report, what: &str) {
    report.holds(format_args!("ping answers after: {what}"), alive());
}

/// Reads 8 bytes, whatever is there.
fn read(address: u64) -> u64 {
    // SAFETY: the callers read what is mapped, or inside an attempt.
    unsafe { (address as *const u64).read_volatile() }
}

fn write(address: u64, value: u64) {
    // SAFETY: the callers write to the scrap page or to pages of their own.
    unsafe { (address as *mut u64).write_volatile(value) };
}

/// Expects #GP, as the fetch fails below the guest's own tables.
fn execute(report: &mut Report, what: &str, address: u64) {
    const RET: u64 = 0xc3c3_c3c3_c3c3_c3c3;
    // SAFETY: at worst it returns at once.
    let call = || attempt(|| unsafe { asm!("call {}", in(reg) address, clobber_abi("sysv64")) });
    report.raises(format_args!("executing in {what}"), GP, call());
    let found = attempt(|| write(address, RET));
    report.equal(format_args!("writing code to {what}"), found, Ok(()));
    let fault = call();
    report.raises(format_args!("executing it in {what}"), GP, fault);
    let rip = fault.err().map(|fault| fault.rip);
    report.equal("the fault names the address", rip, Some(address));
    survives(report, "execution");
}

/// Through a linear address of our own.
fn alias(report: &mut Report, range: Range, page: u64) {
    let mut window = Window::open();
    window.set(0, (range.base + page * PAGE) | PRESENT_WRITABLE);
    let address = Window::address(0);
    let found = attempt(|| read(address));
    report.holds("reading through an alias", found.is_ok());
    let value = 0x1234_5678_9abc_def0;
    let found = attempt(|| {
        write(address + 8, value);
        read(address + 8)
    });
    report.equal("writing through an alias", found, Ok(value));
    execute(report, "an alias", address);
}

/// The CPU itself reads the page, as a page table, and perhaps sets accessed
/// bits in it.
fn page_table(report: &mut Report, range: Range, page: u64) {
    let table = range.base + page * PAGE;
    let mut window = Window::open();
    window.set_table(Some(table));
    let found = attempt(|| read(Window::address(5)));
    let absent = matches!(found, Err(Fault { vector: PF, .. }));
    report.holds(format_args!("as a page table: {found:x?}"), absent);
    survives(report, "a page walk");

    // An entry of our own making is only as good as the guest's own rights.
    let own = 0x0bad_cafe_u64;
    let address = (&raw const own) as u64;
    write(table + 5 * 8, address & !0xfff | PRESENT_WRITABLE);
    tests::linear::flush();
    let found = attempt(|| read(Window::address(5) + address % PAGE));
    let harmless = found.map_or_else(|fault| fault.vector == PF, |value| value == own);
    report.holds(format_args!("with an entry of ours: {found:x?}"), harmless);
    write(table + 5 * 8, range.base | PRESENT_WRITABLE);
    tests::linear::flush();
    let found = attempt(|| read(Window::address(5)));
    report.say(format_args!("pointing into itself: {found:x?}"));
    survives(report, "a page walk with entries of ours");
    write(table + 5 * 8, 0);
    window.set_table(None);
}

/// The local APIC's page must not be laid over the range.
fn local_apic(report: &mut Report, range: Range) {
    // SAFETY: every CPU of these machines has the MSR.
    let read = || unsafe { rdmsr(msr::APIC_BASE) };
    let before = read();
    let moved = before & 0xfff | range.base;
    // SAFETY: interrupts are off, and the old value is written at once if the
    // move should succeed.
    let found = attempt(|| unsafe {
        wrmsr(msr::APIC_BASE, moved);
        wrmsr(msr::APIC_BASE, before);
    });
    report.raises("moving the local APIC onto the range", GP, found);
    report.equal("its base is as before", read(), before);
    survives(report, "moving the local APIC");
}

fn pages(range: Range) -> impl Iterator<Item = u64> {
    (0..range.size / PAGE).map(move |page| range.base + page * PAGE)
}

/// Nothing there is an ELF header, and nothing faults.
fn read_all(report: &mut Report, range: Range) {
    const ELF: u64 = u32::from_le_bytes(*b"\x7fELF") as u64;
    let found = attempt(|| pages(range).all(|page| read(page) & 0xffff_ffff != ELF));
    report.equal("reading all pages finds no ELF header", found, Ok(true));
    survives(report, "reading");
}

fn write_all(report: &mut Report, range: Range) {
    let found = attempt(|| {
        for page in pages(range) {
            for offset in (0..PAGE).step_by(8) {
                write(page + offset, !0);
            }
        }
    });
    report.equal("overwriting every byte", found, Ok(()));
    survives(report, "overwriting every byte");
}

/// What is written to one page shows in all of them, wholly.
fn one_scrap_page(report: &mut Report, range: Range) {
    let pattern = |offset: u64| offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let found = attempt(|| {
        for offset in (0..PAGE).step_by(8) {
            write(range.base + offset, pattern(offset));
        }
        pages(range).find(|page| {
            let mut offsets = (0..PAGE).step_by(8);
            !offsets.all(|offset| read(page + offset) == pattern(offset))
        })
    });
    report.equal("all pages are one page, and nothing else", found, Ok(None));
    survives(report, "comparing");
}
