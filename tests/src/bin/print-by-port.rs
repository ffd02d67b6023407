//! Prints by writing to a port: a byte an instruction, and a whole text by one
//! REP OUTS.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

use alloc::vec::Vec;
use core::arch::asm;
use tests::{Report, print};

tests::guest!(check);

fn check(report: &mut Report) {
    let Some(offer) = print::offer() else {
        return report.holds("printing is offered", false);
    };
    let port = offer.port;
    let ready: u8;
    // SAFETY: reading the port changes nothing.
    unsafe { asm!("in al, dx", in("dx") port, out("al") ready, options(nomem, nostack)) };
    report.equal("the port says that it is there", ready, 0xe9);
    print::timed(report, "OUT", |text| {
        for byte in text {
            // SAFETY: the port prints.
            unsafe { asm!("out dx, al", in("dx") port, in("al") *byte, options(nostack)) };
        }
    });
    let mut left = Vec::new();
    print::timed(report, "REP OUTS", |text| {
        let (mut at, mut count) = (text.as_ptr() as u64, text.len() as u64);
        // SAFETY: the text is readable, and the port prints.
        unsafe {
            asm!("cld", "rep outsb", in("dx") port, inout("rsi") at, inout("rcx") count,
                 options(nostack));
        }
        left.push((text.as_ptr() as u64 + text.len() as u64 - at, count));
    });
    let all = left.iter().all(|found| *found == (0, 0));
    report.holds("REP OUTS leaves RSI behind the text and RCX 0", all);
}
