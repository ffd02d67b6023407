//! Firmware interfaces, opened without taking them away from anyone.

use uefi::boot::{self, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol};
use uefi::proto::ProtocolPointer;
use uefi::{Handle, Result};

/// Opens an interface of a handle. Not exclusively: that asks the firmware to
/// stop the drivers which use the handle, and the next stage wants them.
pub(super) fn open<P: ProtocolPointer + ?Sized>(handle: Handle) -> Result<ScopedProtocol<P>> {
    let params = OpenProtocolParams {
        handle,
        agent: boot::image_handle(),
        controller: None,
    };
    // SAFETY: the interface stays as long as its driver does. The loader keeps
    // none across a call that could stop drivers: each is dropped by the
    // function that opened it, and none of these functions start an image.
    unsafe { boot::open_protocol(params, OpenProtocolAttributes::GetProtocol) }
}
