//! Has a hypervisor of the breakable build break the rules of VM entry, one at
//! a time: each entry fails, and what is named is the rule that was broken. The
//! test's other half is what Bochs says of each.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::Report;
use tests::call::{alive, call};
use tests::cpu::{cpuid, is_intel};
use x86::broken::Trial;
use x86::{svm, vtx};

tests::guest!(check);

const BREAK_ENTRY: u64 = 0xb010;

fn check(report: &mut Report) {
    if is_intel() {
        for (row, breakage) in vtx::checks::breakages::for_real().enumerate() {
            let trial = try_row(row);
            let name = vtx::checks::rule_name;
            tell(report, breakage.rule, breakage.also, &trial, name);
            let expected = refusal(breakage.rule);
            report.equal(
                format_args!("{} is refused so", breakage.rule),
                trial.refusal,
                expected,
            );
        }
    } else {
        for (row, breakage) in svm::checks::BREAKAGES.iter().enumerate() {
            if (is_bochs() && breakage.bochs.is_none()) || (!is_bochs() && !breakage.qemu) {
                report.skip(breakage.rule, "this emulator lets it pass");
                continue;
            }
            let trial = try_row(row);
            tell(report, breakage.rule, &[], &trial, svm::checks::rule_name);
            report.equal("it is refused", trial.refusal, 1);
        }
    }
    report.holds("the hypervisor goes on", alive());
}

/// What VMLAUNCH and VMRESUME say of a rule of the controls or of the host's
/// state, and the exit reason for the guest's. Intel SDM volume 3, "VM
/// Instruction Error Numbers" and "VM-Entry Failures During or After Loading
/// Guest State".
fn refusal(rule: &str) -> u8 {
    match rule.split('-').next() {
        Some("host") => 8,
        Some("guest" | "vmcs") if rule != "unrestricted-guest-needs-ept" => 33,
        _ => 7,
    }
}

/// Bochs' AMD CPU with SVM is of family 15h, QEMU's of family 17h.
fn is_bochs() -> bool {
    let signature = cpuid(1).eax;
    (signature >> 8 & 0xf) + (signature >> 20 & 0xff) == 0x15
}

fn try_row(row: usize) -> Trial {
    let reply = call(BREAK_ENTRY, [row as u64, 0, 0, 0, 0]);
    reply.map_or(Trial::default(), |reply| Trial::unpack(reply.rax))
}

fn tell(
    report: &mut Report,
    rule: &str,
    also: &[&str],
    trial: &Trial,
    name: fn(usize) -> Option<&'static str>,
) {
    let named = trial.rules.iter().take(usize::from(trial.count));
    let names = named.map(|number| name(usize::from(*number)).unwrap_or("unknown"));
    let all = names
        .clone()
        .all(|name| name == rule || also.contains(&name));
    let exact = all && names.clone().any(|name| name == rule);
    let first = names.into_iter().next().unwrap_or("nothing");
    report.holds(
        format_args!("{rule} is named, {first} first"),
        exact && usize::from(trial.count) == also.len() + 1,
    );
}
