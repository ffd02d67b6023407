//! What starts after the hypervisor, or instead of it.

use alloc::vec::Vec;

use uefi::boot::{self, LoadImageSource};
use uefi::proto::BootPolicy;
use uefi::proto::device_path::DevicePath;
use uefi::proto::device_path::build::{DevicePathBuilder, media::FilePath};
use uefi::proto::loaded_image::LoadedImage;
use uefi::{CString16, Handle, Status};

use super::console::say;
use super::{protocol, volume};
use loader::config::{Config, Next};

/// Starts what the config says. Returns what the loader returns to the
/// firmware, if it comes to that.
pub(super) fn start(config: &Config) -> Status {
    match &config.next {
        Next::Firmware => next_boot_entry(),
        Next::File(path) => start_file(path, &config.next_args),
    }
}

/// An error makes the boot manager try the entry after ours; a success would
/// make it stop there and open its menu ("Boot Manager Programming" in the UEFI
/// specification). OVMF was seen to do both.
fn next_boot_entry() -> Status {
    say!("going on to the firmware's next boot entry; it may say that this one was not found");
    Status::NOT_FOUND
}

fn start_file(path: &str, arguments: &str) -> Status {
    let image = match load(path) {
        Ok(image) => image,
        Err(status) => return cannot(path, "load", status),
    };
    // The image reads its options where they are, for as long as it runs.
    let options = ucs2(arguments);
    if let Err(error) = set_options(image, &options) {
        return cannot(path, "give its command line to", error.status());
    }
    match boot::start_image(image) {
        Ok(()) => returned(path, Status::SUCCESS),
        Err(error) => returned(path, error.status()),
    }
}

fn load(path: &str) -> Result<Handle, Status> {
    let mut storage = Vec::new();
    let device_path = full_path(path, &mut storage).ok_or(Status::NOT_FOUND)?;
    let source = LoadImageSource::FromDevicePath {
        device_path,
        boot_policy: BootPolicy::ExactMatch,
    };
    boot::load_image(boot::image_handle(), source).map_err(|error| error.status())
}

/// The device's path with the file's after it. Loaded by such a path, rather
/// than from a buffer, the image knows the volume it came from: Linux looks
/// there for its `initrd=`.
fn full_path<'a>(path: &str, storage: &'a mut Vec<u8>) -> Option<&'a DevicePath> {
    let device = protocol::open::<DevicePath>(volume::device()?).ok()?;
    let path_name = CString16::try_from(path).ok()?;
    let mut builder = DevicePathBuilder::with_vec(storage);
    for node in device.get()?.node_iter() {
        builder = builder.push(&node).ok()?;
    }
    let file = FilePath {
        path_name: &path_name,
    };
    builder.push(&file).ok()?.finalize().ok()
}

fn ucs2(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

fn set_options(image: Handle, options: &[u16]) -> uefi::Result {
    let mut image = protocol::open::<LoadedImage>(image)?;
    let image = image.get_mut().ok_or(Status::NOT_FOUND)?;
    let size = u32::try_from(size_of_val(options)).map_err(|_| Status::BAD_BUFFER_SIZE)?;
    // SAFETY: `start_file` keeps the options until the image has returned, and
    // nothing writes to them.
    unsafe { image.set_load_options(options.as_ptr().cast(), size) };
    Ok(())
}

fn cannot(path: &str, what: &str, status: Status) -> Status {
    say!(
        "cannot {what} {path} ({status}): check `next` in {}, or boot another entry",
        volume::CONFIG
    );
    status
}

fn returned(path: &str, status: Status) -> Status {
    say!("{path} returned: {status}");
    status
}
