//! Asks a hypervisor of the breakable build to try what its own page tables
//! must not allow.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::Report;
use tests::call::call;

tests::guest!(check);

const FORBIDDEN_ACCESSES: u64 = 0xb000;

fn check(report: &mut Report) {
    let reply = call(FORBIDDEN_ACCESSES, [0; 5]).map(|reply| reply.rax);
    report.equal("accesses that succeeded, as bits", reply, Ok(0));
}
