//! Prints by calling the service `print`, a byte a call.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use abi::call::PRINT;
use tests::call::call;
use tests::{Report, print};

tests::guest!(check);

fn check(report: &mut Report) {
    report.holds("printing is offered", print::offer().is_some());
    let mut answers = Ok(());
    print::timed(report, "call", |text| {
        for byte in text {
            let reply = call(PRINT, [u64::from(*byte), 0, 0, 0, 0]);
            answers = answers.and(reply.map(|registers| assert_eq!(registers.rax, 0)));
        }
    });
    report.equal("each call succeeds", answers, Ok(()));
}
