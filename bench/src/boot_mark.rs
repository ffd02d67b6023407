//! Marks both ends of Linux' boot with the time-stamp counter. As a UEFI program
//! it starts the kernel, and tells it the time by a parameter that the kernel
//! does not know and so hands on to its first process. As that process it puts
//! the ticks since then into the environment, and becomes `/init`.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

#[cfg(target_os = "uefi")]
extern crate alloc;

/// The parameter for the kernel: the time when it was started.
const BEGIN: &str = "BOOT_BEGIN";

fn ticks() -> u64 {
    // SAFETY: neither firmware nor Linux forbids it to read the counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(target_os = "uefi")]
mod firmware {
    //! Before the kernel.

    use super::{BEGIN, ticks};
    use alloc::format;
    use tests::chain;
    use tests::uefi::proto::loaded_image::LoadedImage;
    use tests::uefi::{CStr16, CString16, Handle, Result, ResultExt, Status, boot, cstr16};

    const KERNEL: &CStr16 = cstr16!("\\vmlinuz.efi");

    tests::program!(run);

    fn run() -> Status {
        let kernel = chain::load(KERNEL).expect("the kernel");
        let parameters = parameters().expect("the kernel's parameters");
        hand_on(kernel, &parameters).expect("a kernel that takes parameters");
        boot::start_image(kernel).status()
    }

    /// What this program was given, and the time.
    fn parameters() -> Result<CString16> {
        let own = boot::open_protocol_exclusive::<LoadedImage>(boot::image_handle())?;
        let given = own.load_options_as_cstr16();
        let given = given.map_err(|_| Status::INVALID_PARAMETER)?;
        let text = format!("{given} {BEGIN}={}", ticks());
        CString16::try_from(text.as_str()).map_err(|_| Status::INVALID_PARAMETER.into())
    }

    fn hand_on(kernel: Handle, parameters: &CString16) -> Result {
        let mut image = boot::open_protocol_exclusive::<LoadedImage>(kernel)?;
        let size = u32::try_from(parameters.num_bytes()).expect("a line of a few words");
        // SAFETY: the caller keeps the parameters until the kernel comes back.
        unsafe { image.set_load_options(parameters.as_ptr().cast(), size) };
        Ok(())
    }
}

#[cfg(not(target_os = "uefi"))]
fn main() {
    use std::os::unix::process::CommandExt;

    let now = ticks();
    let begin = std::env::var(BEGIN).ok();
    let begin: Option<u64> = begin.and_then(|text| text.parse().ok());
    let ticks = begin
        .map(|begin| now - begin)
        .expect("the time of the start");
    let mut init = std::process::Command::new("/init");
    let error = init.env("BOOT_TICKS", ticks.to_string()).exec();
    panic!("/init: {error}");
}
