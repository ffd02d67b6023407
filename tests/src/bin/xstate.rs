//! XSETBV and XSS work as on the bare CPU: good values take effect and show in
//! CPUID, bad ones raise #GP, and XSAVES saves what was chosen.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

use alloc::boxed::Box;
use core::arch::asm;
use tests::attempt::{GP, UD};
use tests::cpu::{self, Register, feature};
use tests::{Fault, Report, attempt};
use x86::control::Cr4;

tests::guest!(check);

const XSS: u32 = 0xda0;
/// States of features that CPUID hides; XRSTORS would load their registers.
const HIDDEN_STATES: [(u32, &str); 5] = [
    (8, "processor trace"),
    (11, "CET, user"),
    (12, "CET, supervisor"),
    (14, "user interrupts"),
    (15, "last-branch records"),
];
const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;

fn check(report: &mut Report) {
    if !feature(1, Register::Ecx, 26) {
        report.holds("no XSAVE, no leaf 0xd", cpu::cpuid(0xd).eax == 0);
        return;
    }
    let before = cpu::read_cr4();
    disabled(report);
    // SAFETY: the bit enables instructions and changes no other.
    unsafe { cpu::write_cr4(before | Cr4::OSXSAVE.bits()) };
    let leaf = cpu::cpuid(0xd);
    let supported = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    good_values(report, supported);
    bad_values(report, supported);
    supervisor(report, supported);
    // SAFETY: the value from before.
    unsafe { cpu::write_cr4(before) };
}

fn disabled(report: &mut Report) {
    let before = cpu::read_cr4();
    let found = attempt(|| {
        // SAFETY: compiled code does not use XSAVE.
        unsafe {
            cpu::write_cr4(before & !Cr4::OSXSAVE.bits());
            cpu::xsetbv(0, X87);
        }
    });
    // SAFETY: the value from before.
    unsafe { cpu::write_cr4(before) };
    report.raises("XSETBV without CR4.OSXSAVE", UD, found);
}

/// Sets XCR0, asks `f`, restores.
fn with_xcr0<T>(value: u64, f: impl FnOnce() -> T) -> Result<T, Fault> {
    attempt(|| {
        // SAFETY: OSXSAVE is set; x87 and SSE do not depend on XCR0.
        let before = unsafe { cpu::xgetbv() };
        // SAFETY: as above.
        unsafe { cpu::xsetbv(0, value) };
        let result = f();
        // SAFETY: the old value.
        unsafe { cpu::xsetbv(0, before) };
        result
    })
}

fn good_values(report: &mut Report, supported: u64) {
    let highest = cpu::cpuid(0xd).ecx;
    for value in [X87, X87 | SSE, X87 | SSE | AVX, supported] {
        if value & !supported != 0 {
            report.skip(format_args!("XCR0 = {value:#x}"), "not supported");
            continue;
        }
        // SAFETY: OSXSAVE is set.
        let read = with_xcr0(value, || unsafe { cpu::xgetbv() });
        report.equal(
            format_args!("XCR0 = {value:#x} reads back"),
            read,
            Ok(value),
        );
        let size = with_xcr0(value, || cpu::cpuid(0xd).ebx);
        report.equal(format_args!("leaf 0xd: size"), size, Ok(area(value)));
        let most = with_xcr0(value, || cpu::cpuid(0xd).ecx);
        report.equal("leaf 0xd: largest size stays", most, Ok(highest));
    }
}

/// Bytes of the standard format for these components: each has its place.
fn area(components: u64) -> u32 {
    const LEGACY_AND_HEADER: u32 = 512 + 64;
    let present = (2..63).filter(|i| components >> i & 1 == 1);
    let ends = present.map(|i| {
        let leaf = cpu::cpuid_count(0xd, i);
        leaf.eax + leaf.ebx
    });
    ends.fold(LEGACY_AND_HEADER, u32::max)
}

fn bad_values(report: &mut Report, supported: u64) {
    let mut bad = |name: &str, register: u32, value: u64| {
        // SAFETY: the value is refused; if it should not be, it is put back.
        let found = attempt(|| unsafe {
            let before = cpu::xgetbv();
            cpu::xsetbv(register, value);
            cpu::xsetbv(0, before);
        });
        report.raises(format_args!("XSETBV: {name}"), GP, found);
    };
    bad("nothing", 0, 0);
    bad("no x87", 0, SSE);
    bad("AVX without SSE", 0, X87 | AVX);
    bad("the highest bit", 0, supported | 1 << 63);
    let unsupported = 1 << (!supported).trailing_zeros();
    bad("an unsupported component", 0, supported | unsupported);
    bad("a register that does not exist", 1, X87);
    bad("the last register", u32::MAX, X87);
}

/// An area for the compact format, large enough for everything.
#[repr(align(64))]
struct Area([u8; 12288]);

fn supervisor(report: &mut Report, supported: u64) {
    let features = cpu::cpuid_count(0xd, 1);
    if features.eax >> 3 & 1 == 0 {
        let found = attempt(|| xsaves(&mut Area([0; 12288])));
        report.raises("XSAVES without the feature", UD, found);
        return;
    }
    let states = u64::from(features.edx) << 32 | u64::from(features.ecx);
    report.say(format_args!("XSS may hold {states:#x}"));
    // SAFETY: XSAVES is there, and with it XSS.
    let before = unsafe { cpu::rdmsr(XSS) };
    for value in [0, states] {
        // SAFETY: nothing uses the supervisor states but the lines below.
        let read = attempt(|| unsafe {
            cpu::wrmsr(XSS, value);
            cpu::rdmsr(XSS)
        });
        report.equal(format_args!("XSS = {value:#x}"), read, Ok(value));
        let size = with_xcr0(supported, || cpu::cpuid_count(0xd, 1).ebx);
        report.holds("leaf 0xd/1: a size", size.is_ok_and(|size| size >= 576));
        let mut area = Box::new(Area([0; 12288]));
        let saved = attempt(|| xsaves(&mut area));
        report.equal("XSAVES and XRSTORS", saved, Ok(()));
        let format = u64::from_le_bytes(core::array::from_fn(|i| area.0[520 + i]));
        report.equal("the compact format", format >> 63, 1);
    }
    // SAFETY: the highest bit belongs to no state.
    let bad = attempt(|| unsafe { cpu::wrmsr(XSS, 1 << 63) });
    report.raises("XSS: the highest bit", GP, bad);
    for (bit, state) in HIDDEN_STATES {
        // SAFETY: as above.
        let hidden = attempt(|| unsafe { cpu::wrmsr(XSS, 1 << bit) });
        report.raises(format_args!("XSS: state of {state}"), GP, hidden);
    }
    // SAFETY: the value from before.
    unsafe { cpu::wrmsr(XSS, before) };
}

fn xsaves(area: &mut Area) {
    // SAFETY: what is saved is restored; the area is aligned and large enough.
    unsafe {
        asm!(
            "xsaves64 [{area}]",
            "xrstors64 [{area}]",
            area = in(reg) area, in("eax") !0u32, in("edx") !0u32,
        );
    }
}
