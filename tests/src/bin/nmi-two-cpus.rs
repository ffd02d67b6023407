//! NMIs that one CPU sends to another reach it, each once and none inside
//! another, while Underlay calls that CPU by NMIs of its own. Each is sent when
//! the one before was taken, so that no CPU merges them.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::Report;
use tests::two_cpus::{self, Argument, Outcome, Sender};

tests::guest!(check);

const ROUNDS: u32 = 300;
/// Changed memory types have the nested tables made anew.
const TYPES_EVERY: u32 = 16;

fn check(report: &mut Report) {
    let found = two_cpus::run(send);
    let sent = found.map_or(0, |found| found.sent);
    report.holds("NMIs were sent in all rounds", sent >= ROUNDS);
    let expected = Outcome {
        sent,
        handled: sent,
        deepest: 1,
        in_time: true,
    };
    report.equal("each came once, none inside another", found, Ok(expected));
}

extern "efiapi" fn send(_: Argument) {
    let mut sender = Sender::new();
    for round in 1..=ROUNDS {
        if !sender.is_in_time() {
            break;
        }
        let before = sender.handled();
        match sender.below(3) {
            0 => sender.send(),
            1 => {
                sender.call();
                sender.settle();
                sender.send();
            }
            _ => {
                while_handled(&mut sender, before);
                sender.wait_handled(before + 2);
                continue;
            }
        }
        sender.wait_handled(before + 1);
        if round % TYPES_EVERY == 0 {
            sender.change_types();
        }
    }
    sender.finish();
}

/// One that comes while the first CPU handles another waits for its end, with
/// calls before and after it.
fn while_handled(sender: &mut Sender, before: u32) {
    sender.hold(true);
    sender.send();
    sender.wait_begun(before + 1);
    if sender.below(2) == 0 {
        sender.call();
        sender.settle();
    }
    sender.send();
    sender.settle();
    if sender.below(2) == 0 {
        sender.call();
        sender.settle();
    }
    sender.hold(false);
}
