//! VT-x and AMD-V look absent to the guest: no bits, no MSRs, and each of their
//! instructions raises #UD.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::asm;
use tests::attempt::{GP, UD};
use tests::cpu::{self, Register, feature};
use tests::{Fault, Report, attempt};
use x86::msr;

tests::guest!(check);

fn check(report: &mut Report) {
    report.holds("CPUID shows no VMX", !feature(1, Register::Ecx, 5));
    report.holds("CPUID shows no SMX", !feature(1, Register::Ecx, 6));
    let svm = feature(0x8000_0001, Register::Ecx, 2);
    report.holds("CPUID shows no SVM", !svm);
    instructions(report);
    if cpu::is_intel() {
        vmx_msrs(report);
    } else {
        svm_msrs(report);
    }
}

macro_rules! tried {
    ($($text:literal),+ $(,)?) => {
        [$(($text, attempt(|| {
            let mut operand = [0u64; 8];
            // SAFETY: the instruction faults; if it should not, it has a memory
            // operand of its own and zeros in its registers.
            unsafe {
                asm!(
                    $text,
                    in("r8") &mut operand, inout("rax") 0u64 => _,
                    inout("rcx") 0u64 => _, inout("rdx") 0u64 => _,
                );
            }
        }))),+]
    };
}

fn instructions(report: &mut Report) {
    let vmx: [(&str, Result<(), Fault>); 14] = tried![
        "vmxon [r8]",
        "vmxoff",
        "vmclear [r8]",
        "vmptrld [r8]",
        "vmptrst [r8]",
        "vmread rax, rcx",
        "vmread [r8], rcx",
        "vmwrite rcx, rax",
        "vmlaunch",
        "vmresume",
        "invept rax, [r8]",
        "invvpid rax, [r8]",
        "vmfunc",
        "getsec",
    ];
    let svm: [(&str, Result<(), Fault>); 7] = tried![
        "vmrun rax",
        "vmload rax",
        "vmsave rax",
        "stgi",
        "clgi",
        "skinit eax",
        "invlpga rax, ecx",
    ];
    for (text, found) in vmx.into_iter().chain(svm) {
        report.raises(text, UD, found);
    }
}

fn vmx_msrs(report: &mut Report) {
    for number in msr::VMX_BASIC..=msr::VMX_TRUE_ENTRY_CONTROLS {
        // SAFETY: reading changes nothing.
        let found = attempt(|| unsafe { cpu::rdmsr(number) });
        report.raises(format_args!("RDMSR {number:#x}"), GP, found);
    }
    // SAFETY: the MSR is read-only.
    let written = attempt(|| unsafe { cpu::wrmsr(msr::VMX_BASIC, 0) });
    report.raises("WRMSR to the first", GP, written);
}

/// The page that VMRUN saves to is Underlay's business.
fn svm_msrs(report: &mut Report) {
    // SAFETY: reading changes nothing.
    let found = attempt(|| unsafe { cpu::rdmsr(msr::AMD_VM_HSAVE_PA) });
    report.raises("RDMSR of VM_HSAVE_PA", GP, found);
    // SAFETY: with SVM off the CPU does not use the address.
    let written = attempt(|| unsafe { cpu::wrmsr(msr::AMD_VM_HSAVE_PA, 0x1000) });
    report.raises("WRMSR of VM_HSAVE_PA", GP, written);
}
