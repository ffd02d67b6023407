//! Has a hypervisor of the breakable build fail to enter its guest.
//! Nothing comes back: the test looks at the hypervisor's log.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::Report;
use tests::call::call;

tests::guest!(check);

fn check(report: &mut Report) {
    let reply = call(0xb012, [0; 5]);
    report.holds(format_args!("nothing comes back, not {reply:x?}"), false);
}
