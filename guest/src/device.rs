//! Calls by way of the Linux module, which makes them for programs that may
//! open its device: they need no token.

use crate::call::Reply;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The opened device.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// `NotFound` where the module is not loaded, `PermissionDenied` for whom
    /// it is not meant.
    pub fn open() -> io::Result<Self> {
        Self::at(Path::new(abi::device::PATH))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self(file))
    }

    /// Makes a call. Memory that this program cannot reach is
    /// [`abi::Errno::BadAddress`], with the address in the reply's first result.
    ///
    /// # Errors
    ///
    /// The device's own: that it is none, or that this program is being ended.
    /// Errors of the call are in its reply.
    ///
    /// # Safety
    ///
    /// Where the service takes addresses, they must name memory that it may
    /// read or write as its description says, as for a system call.
    pub unsafe fn call(
        &self,
        number: u64,
        [rbx, rcx, rdx, rsi, rdi]: [u64; 5],
    ) -> io::Result<Reply> {
        let mut registers = [number, rbx, rcx, rdx, rsi, rdi];
        const { assert!(size_of::<[u64; 6]>() == abi::device::CALL_SIZE) };
        let command = abi::device::CALL as libc::Ioctl;
        // SAFETY: the argument has the size that the command names, and lives
        // through the call; the caller answers for the addresses in it.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), command, registers.as_mut_ptr()) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        let [rax, results @ ..] = registers;
        Ok(Reply { rax, results })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_device_says_so() {
        let none = Device::at(Path::new("/dev/underlay-is-not-here"));
        assert_eq!(none.err().map(|e| e.kind()), Some(io::ErrorKind::NotFound));
        let other = Device::at(Path::new("/dev/null")).expect("Linux has it");
        // SAFETY: `ping` takes no addresses, and nobody answers here.
        let refused = unsafe { other.call(abi::call::PING, [0; 5]) };
        let errno = refused.err().and_then(|error| error.raw_os_error());
        assert_eq!(errno, Some(libc::ENOTTY));
    }
}
