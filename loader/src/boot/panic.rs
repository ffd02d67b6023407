//! What remains if the loader itself is wrong: say so and go back to the
//! firmware, which boots its next entry. The `uefi` crate's own handler would
//! switch the machine off.

use core::panic::PanicInfo;

use uefi::{Status, boot};

use super::console::say;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say!("the loader failed, please report this: {info}");
    // SAFETY: nothing of this program runs again: it has installed no event
    // callback or protocol, and what it has allocated is merely lost.
    let _ = unsafe {
        boot::exit(
            boot::image_handle(),
            Status::ABORTED,
            0,
            core::ptr::null_mut(),
        )
    };
    loop {
        core::hint::spin_loop();
    }
}
