//! Starting another program of the volume that this one came from, such as the
//! loader, in whose place the firmware started this one.

use alloc::vec::Vec;
use uefi::boot::{self, LoadImageSource};
use uefi::proto::BootPolicy;
use uefi::proto::device_path::build::{DevicePathBuilder, media::FilePath};
use uefi::proto::device_path::{DevicePath, DeviceSubType, DeviceType};
use uefi::proto::loaded_image::LoadedImage;
use uefi::{CStr16, Handle, Result, cstr16};

const LOADER: &CStr16 = cstr16!("\\EFI\\underlay\\underlay.efi");

/// Starts the loader from the volume that this program came from. Comes back
/// only if the loader does.
///
/// # Errors
///
/// What the firmware says of the file, or what the loader returned.
///
/// # Panics
///
/// If this program came from no volume.
pub fn start_loader() -> Result {
    boot::start_image(load(LOADER)?)
}

/// Loads the program at `path` from the volume that this program came from.
///
/// # Errors
///
/// What the firmware says of the file.
///
/// # Panics
///
/// If this program came from no volume.
pub fn load(path: &CStr16) -> Result<Handle> {
    let own = boot::image_handle();
    let device = boot::open_protocol_exclusive::<LoadedImage>(own)?.device();
    let device = device.expect("a device that this program was loaded from");
    let volume = boot::open_protocol_exclusive::<DevicePath>(device)?;
    let mut bytes = Vec::new();
    let mut builder = DevicePathBuilder::with_vec(&mut bytes);
    for node in volume.node_iter() {
        debug_assert_ne!(
            node.full_type(),
            (DeviceType::END, DeviceSubType::END_ENTIRE)
        );
        builder = builder.push(&node).expect("a path in memory");
    }
    let builder = builder.push(&FilePath { path_name: path });
    let device_path = builder
        .and_then(DevicePathBuilder::finalize)
        .expect("a path in memory");
    let source = LoadImageSource::FromDevicePath {
        device_path,
        boot_policy: BootPolicy::ExactMatch,
    };
    boot::load_image(own, source)
}
