//! Prints by writing to a memory-mapped register: a byte an instruction, eight
//! at once, and a whole text by one REP MOVS.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::asm;
use tests::{Report, print};

tests::guest!(check);

fn check(report: &mut Report) {
    let Some(offer) = print::offer() else {
        return report.holds("printing is offered", false);
    };
    let register = offer.page as *mut u8;
    // SAFETY: the page is a device's register, mapped by the firmware like all
    // memory below 4 GiB.
    let ready = unsafe { register.cast::<u32>().read_volatile() };
    report.equal("the register says that it is there", ready, 0xe9e9_e9e9);
    print::timed(report, "MOV", |text| {
        for byte in text {
            // SAFETY: as above; a write prints.
            unsafe { register.write_volatile(*byte) };
        }
    });
    print::timed(report, "MOV of 8 bytes", |text| {
        for bytes in text.chunks(8) {
            let Ok(word) = bytes.try_into() else {
                for byte in bytes {
                    // SAFETY: as above.
                    unsafe { register.write_volatile(*byte) };
                }
                continue;
            };
            let word = u64::from_le_bytes(word);
            // SAFETY: as above.
            unsafe { register.cast::<u64>().write_volatile(word) };
        }
    });
    print::timed(report, "REP MOVS", |text| {
        // SAFETY: the text is readable and shorter than the page.
        unsafe {
            asm!("cld", "rep movsb", inout("rsi") text.as_ptr() => _,
                 inout("rdi") register => _, inout("rcx") text.len() => _, options(nostack));
        }
    });
}
