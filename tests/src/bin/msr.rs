//! MSRs: unknown ones fault or read as zero as they do on this machine without
//! Underlay, known ones hold what is written, and none stops anything.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::attempt::GP;
use tests::cpu::{rdmsr, wrmsr};
use tests::{Fault, Report, attempt, cpu, machine};
use x86::msr;

tests::guest!(check);

fn check(report: &mut Report) {
    unknown(report);
    memory_types(report);
    not_canonical(report);
    every_one(report);
}

fn read(number: u32) -> Result<u64, Fault> {
    // SAFETY: reading changes nothing.
    attempt(|| unsafe { rdmsr(number) })
}

fn write(number: u32, value: u64) -> Result<(), Fault> {
    // SAFETY: each caller says why the value is harmless.
    attempt(|| unsafe { wrmsr(number, value) })
}

fn unknown(report: &mut Report) {
    let tolerates = machine::tolerates_unknown_msrs();
    let behaviour = if tolerates {
        "reads as zero"
    } else {
        "raises #GP"
    };
    report.say(format_args!("on this machine an unknown MSR {behaviour}"));
    // In and between the blocks that MSR bitmaps cover, and at their ends.
    let numbers = [
        0x0000_1ffe,
        0x0000_2000,
        0x3fff_ffff,
        0x4000_0000,
        0xbfff_ffff,
        0xc000_1fff,
        0xc000_2000,
        0xc001_1fff,
        0xc001_2000,
        0xffff_ffff,
    ];
    for number in numbers {
        let (got, put) = (read(number), write(number, 0));
        if tolerates && got.is_ok() {
            report.equal(format_args!("RDMSR {number:#x}"), got, Ok(0));
            report.equal(format_args!("WRMSR {number:#x}"), put, Ok(()));
        } else {
            report.raises(format_args!("RDMSR {number:#x}"), GP, got);
            report.raises(format_args!("WRMSR {number:#x}"), GP, put);
        }
    }
}

/// A page-attribute table and a variable range of our own, for a moment.
fn memory_types(report: &mut Report) {
    const MEMORY_TYPES_WITHOUT_WRITE_COMBINING: u64 = 0x0007_0406_0007_0406;
    round_trip(
        report,
        "PAT",
        msr::PAT,
        MEMORY_TYPES_WITHOUT_WRITE_COMBINING,
    );

    const VALID: u64 = 1 << 11;
    let ranges = read(msr::MTRR_CAPABILITIES).map_or(0, |value| value as u32 & 0xff);
    let mask_of = |range: u32| msr::MTRR_VARIABLE_BASE + 2 * range + 1;
    let free = (0..ranges).find(|range| read(mask_of(*range)).is_ok_and(|m| m & VALID == 0));
    let Some(free) = free else {
        return report.skip("a variable MTRR", "none is free");
    };
    // Uncacheable already: the flash of the firmware, below 4 GiB.
    let bits = cpu::cpuid(0x8000_0008).eax & 0xff;
    let mask = ((1 << bits) - (1 << 20)) | VALID;
    let base_register = msr::MTRR_VARIABLE_BASE + 2 * free;
    round_trip(report, "MTRR base", base_register, 0xfff0_0000);
    round_trip(report, "MTRR mask", mask_of(free), mask);
    if machine::checks_what_is_written() {
        let bad = write(base_register, 0xfff0_0002);
        report.raises("MTRR base of a reserved type", GP, bad);
        let bad = write(msr::PAT, 2);
        report.raises("PAT with a reserved type", GP, bad);
    }
}

fn round_trip(report: &mut Report, name: &str, number: u32, value: u64) {
    let before = read(number);
    let after = write(number, value).and_then(|()| read(number));
    report.equal(format_args!("{name} reads back"), after, Ok(value));
    if let Ok(before) = before {
        report.equal(
            format_args!("{name} is restored"),
            write(number, before),
            Ok(()),
        );
    }
    report.equal(format_args!("{name} is as before"), read(number), before);
}

/// #GP on a real CPU; QEMU takes the value. It must survive either way.
fn not_canonical(report: &mut Report) {
    const LSTAR: u32 = 0xc000_0082;
    const KERNEL_GS_BASE: u32 = 0xc000_0102;
    let numbers = [
        LSTAR,
        KERNEL_GS_BASE,
        msr::FS_BASE,
        msr::SYSENTER_EIP,
        msr::SYSENTER_ESP,
    ];
    for number in numbers {
        let before = read(number).unwrap_or(0);
        let found = write(number, 1 << 63);
        let _ = write(number, before);
        if machine::checks_what_is_written() {
            report.raises(format_args!("{number:#x}, not canonical"), GP, found);
        }
        report.equal(
            format_args!("{number:#x} is as before"),
            read(number),
            Ok(before),
        );
    }
}

/// Reads each MSR, and writes back what it holds.
fn every_one(report: &mut Report) {
    // The clock would lose time; the other loads microcode.
    const NOT_WRITTEN: [u32; 2] = [msr::TSC, msr::BIOS_UPDATE_TRIGGER];
    for first in [0, 0xc000_0000, 0xc001_0000] {
        let (mut readable, mut writable) = (0, 0);
        for number in first..first + 0x2000 {
            let Ok(value) = read(number) else { continue };
            readable += 1;
            if !NOT_WRITTEN.contains(&number) && write(number, value).is_ok() {
                writable += 1;
            }
        }
        report.say(format_args!(
            "from {first:#x}: {readable} readable, {writable} writable"
        ));
        report.holds("some are there, and none stops the guest", readable > 0);
    }
}
