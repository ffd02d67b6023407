//! Leaves code in memory that the firmware's map calls reserved, then starts the
//! loader: the guest behind it, `reserved-code`, runs that code. This guest
//! reports only if the loader comes back.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::reserved::{ADDRESS, CODE};
use tests::{Report, chain};
use uefi::boot::{self, AllocateType, MemoryType};

tests::guest!(check);

fn check(report: &mut Report) {
    let place = AllocateType::Address(ADDRESS);
    match boot::allocate_pages(place, MemoryType::RESERVED, 1) {
        // SAFETY: the page is this program's, and the code fits into it.
        Ok(page) => unsafe {
            page.as_ptr()
                .copy_from_nonoverlapping(CODE.as_ptr(), CODE.len())
        },
        Err(error) => return report.holds(format_args!("a page to reserve: {error}"), false),
    }
    let ended = chain::start_loader();
    report.holds(format_args!("the loader goes on, not {ended:?}"), false);
}
