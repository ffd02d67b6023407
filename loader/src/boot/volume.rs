//! Files on the volume that the loader was loaded from.

use alloc::vec::Vec;
use core::fmt;

use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::file::{File, FileAttribute, FileInfo, FileMode, RegularFile};
use uefi::proto::media::fs::SimpleFileSystem;
use uefi::{CString16, Handle, Status, boot};

use super::protocol;

/// The config file.
pub(super) const CONFIG: &str = "\\EFI\\underlay\\underlay.conf";
/// The most bytes of it that are read.
pub(super) const CONFIG_MAX: u64 = 64 << 10;

/// The hypervisor.
pub(super) const HYPERVISOR: &str = "\\EFI\\underlay\\underlay.elf";
/// The most bytes of it that are read: room for any debug information.
pub(super) const HYPERVISOR_MAX: u64 = 256 << 20;

/// Why a file could not be read.
pub(super) enum Unread {
    /// There is no such file, or no volume to look for it on.
    Missing,
    /// It has this many bytes, more than such a file may have.
    TooLarge(u64),
    /// The firmware said so.
    Firmware(Status),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "no such file"),
            Self::TooLarge(size) => write!(f, "it has {size} bytes, too many"),
            Self::Firmware(status) => write!(f, "the firmware says {status}"),
        }
    }
}

impl From<uefi::Error> for Unread {
    fn from(error: uefi::Error) -> Self {
        match error.status() {
            Status::NOT_FOUND => Self::Missing,
            status => Self::Firmware(status),
        }
    }
}

/// The device with the loader's own volume. None if it did not come from one,
/// but from a network or from memory.
pub(super) fn device() -> Option<Handle> {
    let image = protocol::open::<LoadedImage>(boot::image_handle()).ok()?;
    image.get()?.device()
}

/// The bytes of a file of at most `size_max` bytes.
pub(super) fn read(path: &str, size_max: u64) -> Result<Vec<u8>, Unread> {
    let mut file = open(path)?;
    let size = file.get_boxed_info::<FileInfo>()?.file_size();
    if size > size_max {
        return Err(Unread::TooLarge(size));
    }
    let mut bytes = room(size)?;
    let read = file.read(&mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn open(path: &str) -> Result<RegularFile, Unread> {
    let device = device().ok_or(Unread::Missing)?;
    let path = CString16::try_from(path).map_err(|_| Unread::Missing)?;
    let mut volume = protocol::open::<SimpleFileSystem>(device).map_err(|_| Unread::Missing)?;
    let volume = volume.get_mut().ok_or(Unread::Missing)?;
    let file = volume
        .open_volume()?
        .open(&path, FileMode::Read, FileAttribute::empty())?;
    file.into_regular_file().ok_or(Unread::Missing)
}

fn room(size: u64) -> Result<Vec<u8>, Unread> {
    let no_room = |_| Unread::Firmware(Status::OUT_OF_RESOURCES);
    let size = usize::try_from(size).map_err(|_| Unread::TooLarge(size))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(no_room)?;
    bytes.resize(size, 0);
    Ok(bytes)
}
