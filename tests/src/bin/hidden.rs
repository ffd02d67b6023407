//! With `presence = hidden` nothing tells that Underlay is there: no leaves, and
//! the call raises #UD as on a bare CPU.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use abi::discovery;
use tests::attempt::UD;
use tests::call::call_with;
use tests::cpu::{self, Register, feature};
use tests::{Report, machine};

tests::guest!(check);

fn check(report: &mut Report) {
    leaves(report);
    for number in [abi::call::RESOLVE, abi::call::PING, u64::MAX] {
        let vmcall = call_with(true, number, [0; 5]);
        report.raises(format_args!("VMCALL {number:#x}"), UD, vmcall);
        let vmmcall = call_with(false, number, [0; 5]);
        report.raises(format_args!("VMMCALL {number:#x}"), UD, vmmcall);
    }
    report.holds("CPUID shows no VMX", !feature(1, Register::Ecx, 5));
    let svm = feature(0x8000_0001, Register::Ecx, 2);
    report.holds("CPUID shows no SVM", !svm);
    // The memory cannot be hidden: the operating system must leave it alone.
    for range in machine::reserved_ranges() {
        report.say(format_args!("reserved: {range}"));
    }
}

/// `TCGTCGTCGTCG`: QEMU announces itself, unless told not to.
const TCG: [u32; 3] = [0x5447_4354, 0x4354_4743, 0x4743_5447];

fn leaves(report: &mut Report) {
    let leaf = cpu::cpuid(discovery::LEAF_SIGNATURE);
    let signature = [leaf.ebx, leaf.ecx, leaf.edx];
    let ours = signature == discovery::signature_registers();
    report.holds("leaf 0x40000000 is not Underlay's", !ours);
    if cpu::is_intel() {
        let highest = cpu::cpuid(cpu::cpuid(0).eax);
        report.equal(
            "leaf 0x40000000 is the highest basic leaf, as on a bare CPU",
            leaf,
            highest,
        );
    } else if signature != TCG {
        let empty = (leaf.eax, signature);
        report.equal("leaf 0x40000000 is empty", empty, (0, [0; 3]));
    }
}
