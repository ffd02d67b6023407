//! CR0, CR4 and EFER hold what the guest writes; a bit can be set exactly if
//! CPUID shows its feature, and the bits of virtualisation cannot.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::asm;
use tests::attempt::{GP, NM};
use tests::cpu::Register::{Ebx, Ecx, Edx};
use tests::cpu::{self, Register, feature};
use tests::{Fault, Report, attempt, machine};
use x86::control::{Cr0, Cr4, Efer};
use x86::msr;

tests::guest!(check);

fn check(report: &mut Report) {
    cr0_bits(report);
    cr0_nonsense(report);
    task_switched(report);
    cr4_bits(report);
    cr4_nonsense(report);
    virtualisation(report);
    efer(report);
}

/// Writes, reads back, restores; interrupts are off meanwhile.
fn try_cr0(value: u64) -> Result<u64, Fault> {
    let before = cpu::read_cr0();
    attempt(|| {
        // SAFETY: the values keep PE and PG or are refused; the old one is back
        // before compiled code can need the rest.
        unsafe { cpu::write_cr0(value) };
        let found = cpu::read_cr0();
        // SAFETY: the old value.
        unsafe { cpu::write_cr0(before) };
        found
    })
}

/// As above.
fn try_cr4(value: u64) -> Result<u64, Fault> {
    let before = cpu::read_cr4();
    attempt(|| {
        // SAFETY: the values keep PAE or are refused; the old one is back
        // before anything can need the rest.
        unsafe { cpu::write_cr4(value) };
        let found = cpu::read_cr4();
        // SAFETY: the old value.
        unsafe { cpu::write_cr4(before) };
        found
    })
}

fn cr0_bits(report: &mut Report) {
    let before = cpu::read_cr0();
    let alignment_mask = Cr0::from_bits_retain(1 << 18);
    let bits = [
        ("MP", Cr0::MP),
        ("NE", Cr0::NE),
        ("WP", Cr0::WP),
        ("AM", alignment_mask),
        ("CD", Cr0::CD),
    ];
    for (name, bit) in bits {
        for value in [before & !bit.bits(), before | bit.bits()] {
            let found = try_cr0(value);
            report.equal(format_args!("CR0.{name}: {value:#x}"), found, Ok(value));
        }
    }
    report.equal("CR0 is as before", cpu::read_cr0(), before);
}

fn cr0_nonsense(report: &mut Report) {
    if !machine::checks_what_is_written() {
        return report.skip("nonsense in CR0", "the emulator takes it");
    }
    let before = cpu::read_cr0();
    let nonsense = [
        ("paging without protection", before & !Cr0::PE.bits()),
        ("NW without CD", before & !Cr0::CD.bits() | Cr0::NW.bits()),
        ("no paging in 64-bit mode", before & !Cr0::PG.bits()),
        ("a high bit", before | 1 << 32),
    ];
    for (name, value) in nonsense {
        report.raises(format_args!("CR0: {name}"), GP, try_cr0(value));
    }
}

/// TS makes the next SSE instruction fault; CLTS and LMSW change it too.
fn task_switched(report: &mut Report) {
    let before = cpu::read_cr0();
    // TS outlives the attempt, and the firmware's handlers of interrupts use SSE.
    // SAFETY: they wait until it is clear.
    unsafe { asm!("cli") };
    let touched = attempt(|| {
        // SAFETY: the attempt ends with the fault; the code between uses no SSE.
        unsafe {
            cpu::write_cr0(before | Cr0::TS.bits());
            asm!("xorps xmm0, xmm0", out("xmm0") _);
        }
    });
    let with_ts = cpu::read_cr0();
    // SAFETY: clears TS, which was clear before, and lets interrupts come again.
    unsafe { asm!("clts", "sti") };
    report.raises("SSE with CR0.TS", NM, touched);
    report.equal("CR0.TS reads back", with_ts, before | Cr0::TS.bits());
    report.equal("CLTS clears it", cpu::read_cr0(), before);

    let by_lmsw = attempt(|| {
        let word = before as u16 | Cr0::TS.bits() as u16;
        // SAFETY: sets TS and clears it again.
        unsafe { asm!("lmsw {:x}", in(reg) word, options(nostack, nomem)) };
        let found = cpu::read_cr0();
        // SAFETY: as above.
        unsafe { asm!("clts", options(nostack, nomem)) };
        found
    });
    let expected = Ok(before | Cr0::TS.bits());
    report.equal("LMSW sets it", by_lmsw, expected);
}

fn cr4_bits(report: &mut Report) {
    // Name, bit, CPUID leaf, register, bit.
    let bits: [(&str, Cr4, (u32, Register, u32)); 14] = [
        ("VME", Cr4::VME, (1, Edx, 1)),
        ("PVI", Cr4::PVI, (1, Edx, 1)),
        ("TSD", Cr4::TSD, (1, Edx, 4)),
        ("DE", Cr4::DE, (1, Edx, 2)),
        ("MCE", Cr4::MCE, (1, Edx, 7)),
        ("PGE", Cr4::PGE, (1, Edx, 13)),
        ("UMIP", Cr4::UMIP, (7, Ecx, 2)),
        ("FSGSBASE", Cr4::FSGSBASE, (7, Ebx, 0)),
        ("PCIDE", Cr4::PCIDE, (1, Ecx, 17)),
        ("OSXSAVE", Cr4::OSXSAVE, (1, Ecx, 26)),
        ("SMEP", Cr4::SMEP, (7, Ebx, 7)),
        ("SMAP", Cr4::SMAP, (7, Ebx, 20)),
        ("PKE", Cr4::PKE, (7, Ecx, 3)),
        ("SMXE", Cr4::from_bits_retain(1 << 14), (1, Ecx, 6)),
    ];
    let before = cpu::read_cr4();
    for (name, bit, (leaf, register, feature_bit)) in bits {
        let has = feature(leaf, register, feature_bit);
        if !has && !machine::checks_what_is_written() {
            report.skip(format_args!("CR4.{name}"), "not a feature of this CPU");
            continue;
        }
        let found = try_cr4(before ^ bit.bits());
        if has || before & bit.bits() != 0 {
            let expected = Ok(before ^ bit.bits());
            report.equal(format_args!("CR4.{name} toggles"), found, expected);
        } else {
            report.raises(format_args!("CR4.{name} without the feature"), GP, found);
        }
    }
    report.equal("CR4 is as before", cpu::read_cr4(), before);
}

fn cr4_nonsense(report: &mut Report) {
    if !machine::checks_what_is_written() {
        return report.skip("nonsense in CR4", "the emulator hangs");
    }
    let before = cpu::read_cr4();
    let nonsense = [
        ("no PAE in 64-bit mode", before & !Cr4::PAE.bits()),
        ("LA57 in 64-bit mode", before ^ Cr4::LA57.bits()),
        ("a reserved bit", before | 1 << 31),
        ("the highest bit", before | 1 << 63),
    ];
    for (name, value) in nonsense {
        report.raises(format_args!("CR4: {name}"), GP, try_cr4(value));
    }
}

fn virtualisation(report: &mut Report) {
    let before = cpu::read_cr4();
    report.equal("CR4.VMXE reads clear", before & Cr4::VMXE.bits(), 0);
    if !machine::checks_what_is_written() {
        return;
    }
    let found = try_cr4(before | Cr4::VMXE.bits());
    report.raises("CR4.VMXE cannot be set", GP, found);
    report.equal("and stays clear", cpu::read_cr4(), before);
}

fn efer(report: &mut Report) {
    // SAFETY: every x86-64 CPU has EFER.
    let read = || unsafe { cpu::rdmsr(msr::EFER) };
    let before = read();
    let write = |value| {
        attempt(|| {
            // SAFETY: LME and LMA keep their values; the old value is back
            // before anything can need the rest.
            unsafe { cpu::wrmsr(msr::EFER, value) };
            let found = read();
            // SAFETY: the old value.
            unsafe { cpu::wrmsr(msr::EFER, before) };
            found
        })
    };
    let syscall = before ^ Efer::SCE.bits();
    report.equal("EFER.SCE toggles", write(syscall), Ok(syscall));
    report.equal("EFER.SVME reads clear", before & Efer::SVME.bits(), 0);
    let svme = write(before | Efer::SVME.bits());
    report.raises("EFER.SVME cannot be set", GP, svme);
    if machine::checks_what_is_written() {
        let no_long_mode = write(before & !Efer::LME.bits());
        report.raises("EFER.LME cannot be cleared with paging", GP, no_long_mode);
    }
    report.equal("EFER is as before", read(), before);
}
