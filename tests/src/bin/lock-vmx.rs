//! Locks VT-x off as some firmware does, then starts the loader, which must say
//! so and boot on. The next stage reports; this guest only if the loader comes
//! back.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

use alloc::vec::Vec;
use tests::uefi::boot::{self, LoadImageSource};
use tests::uefi::proto::BootPolicy;
use tests::uefi::proto::device_path::build::{DevicePathBuilder, media::FilePath};
use tests::uefi::proto::device_path::{DevicePath, DeviceSubType, DeviceType};
use tests::uefi::proto::loaded_image::LoadedImage;
use tests::uefi::{CStr16, Handle, cstr16};
use tests::{Report, attempt, cpu};
use x86::msr::{FEATURE_CONTROL, FEATURE_CONTROL_LOCK, FEATURE_CONTROL_VMX};

tests::guest!(check);

const LOADER: &CStr16 = cstr16!("\\EFI\\underlay\\underlay.efi");

fn check(report: &mut Report) {
    lock(report);
    let loader = load(LOADER).expect("the loader's file");
    let ended = boot::start_image(loader);
    report.equal("the loader does not come back", Some(ended), None);
}

/// Locks without VMX, unless the firmware has locked already.
fn lock(report: &mut Report) {
    // SAFETY: reading changes nothing; the lock takes away nothing that this
    // program or the firmware uses.
    let value = attempt(|| unsafe {
        if cpu::rdmsr(FEATURE_CONTROL) & FEATURE_CONTROL_LOCK == 0 {
            cpu::wrmsr(FEATURE_CONTROL, FEATURE_CONTROL_LOCK);
        }
        cpu::rdmsr(FEATURE_CONTROL)
    });
    let off = value.map(|value| value & (FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX));
    report.equal("VT-x is locked off", off, Ok(FEATURE_CONTROL_LOCK));
}

/// Loads a file from the volume that this program came from.
fn load(path: &CStr16) -> tests::uefi::Result<Handle> {
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
