//! CPUID follows the guest's own control registers, and is stepped over exactly
//! once, whatever its prefixes, its place and the trap flag.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

use alloc::boxed::Box;
use core::arch::asm;
use core::arch::x86_64::CpuidResult;
use tests::attempt::DB;
use tests::cpu::{self, Register, feature};
use tests::linear::{PRESENT_WRITABLE, Window};
use tests::{Fault, Report, attempt};
use x86::control::Cr4;

tests::guest!(check);

fn check(report: &mut Report) {
    mirror(report, "OSXSAVE", Cr4::OSXSAVE, (1, 26), (1, 27));
    mirror(report, "OSPKE", Cr4::PKE, (7, 3), (7, 4));
    prefixes(report);
    page_end(report);
    single_step(report);
    brand(report);
}

/// The bit `shows` (leaf, ECX bit) is the CR4 bit, where the CPU `has` it.
fn mirror(report: &mut Report, name: &str, bit: Cr4, has: (u32, u32), shows: (u32, u32)) {
    if !feature(has.0, Register::Ecx, has.1) {
        return report.skip(name, "not a feature of this CPU");
    }
    let before = cpu::read_cr4();
    for value in [
        before & !bit.bits(),
        before | bit.bits(),
        before & !bit.bits(),
    ] {
        let shown = attempt(|| {
            // SAFETY: neither bit matters to compiled code; interrupts are off
            // until the old value is back.
            unsafe { cpu::write_cr4(value) };
            let shown = feature(shows.0, Register::Ecx, shows.1);
            // SAFETY: the old value.
            unsafe { cpu::write_cr4(before) };
            shown
        });
        let set = value & bit.bits() != 0;
        report.equal(format_args!("{name} with CR4 {value:#x}"), shown, Ok(set));
    }
}

macro_rules! cpuid_bytes {
    ($($byte:literal),*) => {
        attempt(|| {
            let (mut eax, mut ecx) = (1u32, 0u32);
            let (ebx, edx): (u64, u32);
            // SAFETY: CPUID with prefixes; RBX, which LLVM keeps, is put back.
            unsafe {
                asm!(
                    "mov {rbx}, rbx",
                    concat!(".byte " $(, stringify!($byte), ",")* , "0x0f, 0xa2"),
                    "xchg {rbx}, rbx",
                    rbx = out(reg) ebx, inout("eax") eax, inout("ecx") ecx, out("edx") edx,
                    options(nostack),
                );
            }
            CpuidResult { eax, ebx: ebx as u32, ecx, edx }
        })
    };
}

fn prefixes(report: &mut Report) {
    let plain = cpu::cpuid(1);
    let found = [
        ("operand size", cpuid_bytes!(0x66)),
        ("address size", cpuid_bytes!(0x67)),
        ("REPE", cpuid_bytes!(0xf3)),
        ("REPNE", cpuid_bytes!(0xf2)),
        ("segment", cpuid_bytes!(0x2e)),
        ("REX.W", cpuid_bytes!(0x48)),
        ("all of them", cpuid_bytes!(0x2e, 0x66, 0x67, 0xf3, 0x4f)),
        (
            "thirteen",
            cpuid_bytes!(
                0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66
            ),
        ),
    ];
    for (name, found) in found {
        report.equal(format_args!("with prefix: {name}"), found, Ok(plain));
    }
}

/// CPUID whose two bytes lie in pages that are no neighbours in memory.
fn page_end(report: &mut Report) {
    #[repr(align(4096))]
    struct Pages([[u8; 4096]; 3]);
    let mut pages = Box::new(Pages([[0xcc; 4096]; 3]));
    pages.0[2][4095] = 0x0f;
    pages.0[0][..2].copy_from_slice(&[0xa2, 0xc3]);
    let at = |page: usize| (&raw const pages.0[page]) as u64 | PRESENT_WRITABLE;
    let mut window = Window::open();
    window.set(0, at(2));
    window.set(1, at(0));
    let code = Window::address(1) - 1;
    let found = attempt(|| {
        let (mut eax, mut ecx) = (0u32, 0u32);
        let (ebx, edx): (u64, u32);
        // SAFETY: the code is CPUID and RET.
        unsafe {
            asm!(
                "mov {rbx}, rbx",
                "call {code}",
                "xchg {rbx}, rbx",
                rbx = out(reg) ebx, code = in(reg) code,
                inout("eax") eax, inout("ecx") ecx, out("edx") edx,
            );
        }
        CpuidResult {
            eax,
            ebx: ebx as u32,
            ecx,
            edx,
        }
    });
    report.equal("across pages", found, Ok(cpu::cpuid(0)));
}

/// With TF set by POPF, the trap comes after the next instruction.
fn single_step(report: &mut Report) {
    let mut next = 0u64;
    let trap = attempt(|| {
        // SAFETY: the trap ends the attempt, which restores the stack and all
        // registers that must be preserved.
        unsafe {
            asm!(
                "lea rax, [rip + 2f]",
                "mov [{next}], rax",
                "xor eax, eax",
                "mov r8, rbx",
                "pushfq",
                "or dword ptr [rsp], 0x100",
                "popfq",
                "cpuid",
                "2: nop",
                "nop",
                "mov rbx, r8",
                next = in(reg) &mut next,
                out("rax") _, out("rcx") _, out("rdx") _, out("r8") _,
            );
        }
    });
    report.raises("single step over CPUID", DB, trap);
    let rip = trap.err().map(|fault: Fault| fault.rip);
    report.equal("single step: the very next instruction", rip, Some(next));
}

/// Leaves that must pass unchanged read the same twice, and the highest leaf
/// is where the firmware saw it.
fn brand(report: &mut Report) {
    let brand = [0x8000_0002, 0x8000_0003, 0x8000_0004].map(cpu::cpuid);
    let bytes = brand.map(|l| [l.eax, l.ebx, l.ecx, l.edx].map(u32::to_le_bytes));
    let text: alloc::string::String = bytes
        .as_flattened()
        .as_flattened()
        .iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| char::from(*byte))
        .collect();
    report.say(format_args!("brand: {text}"));
    report.holds("the brand is text", text.len() > 8);
}
