//! A storm of NMIs from another CPU, with Underlay's own among them and nobody
//! waiting for anything: nothing hangs, none is made up, none comes inside
//! another, and one behind the storm arrives.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::Report;
use tests::two_cpus::{self, Argument, Sender};

tests::guest!(check);

const STEPS: u32 = 5000;

fn check(report: &mut Report) {
    let found = two_cpus::run(send);
    report.holds(format_args!("it ends: {found:?}"), found.is_ok());
    if let Ok(found) = found {
        report.holds("what was waited for came", found.in_time);
        report.holds("none is made up", found.handled <= found.sent);
        report.equal("none came inside another", found.deepest, 1);
    }
}

extern "efiapi" fn send(_: Argument) {
    let mut sender = Sender::new();
    for _ in 0..STEPS {
        match sender.below(64) {
            0 => sender.change_types(),
            1..24 => sender.call(),
            24..40 => (0..sender.below(200)).for_each(|_| core::hint::spin_loop()),
            _ => sender.send(),
        }
    }
    sender.settle();
    let before = sender.handled();
    sender.send();
    sender.wait_handled(before + 1);
    sender.finish();
}
