//! A tap device of the guest's: what is written to it comes out of a network
//! interface of the guest's, and what the guest sends there is read from it, a
//! frame at a time. Linux, "Universal TUN/TAP device driver".

use anyhow::{Result, anyhow, ensure};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

const TUN: &str = "/dev/net/tun";

/// The device, and a bell for the thread that waits at it.
pub struct Tap {
    file: File,
    bell: File,
    /// Nobody waits any more. Set once, before the bell rings.
    is_over: AtomicBool,
}

impl Tap {
    /// The one that is called `name`, which there has to be: Linux would make
    /// another one for a name that is misspelt.
    pub fn open(name: &str) -> Result<Self> {
        let refused = |error| anyhow!("--net {name}: {}", refusal(name, &error));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(TUN)
            .map_err(refused)?;
        ensure!(
            exists(name),
            "--net {name}: no interface has this name (`tunctl -t {name}` makes one)"
        );
        join(&file, name).map_err(refused)?;
        Ok(Self::of(file)?)
    }

    /// One that `file`, which does not block, writes to and reads from.
    pub fn of(file: File) -> io::Result<Self> {
        // SAFETY: it takes numbers.
        let bell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if bell < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            file,
            // SAFETY: it was just made, and is nobody else's.
            bell: unsafe { File::from_raw_fd(bell) },
            is_over: AtomicBool::new(false),
        })
    }

    /// Sends a frame. One that Linux does not want is lost, as on any wire.
    pub fn send(&self, frame: &[u8]) {
        let _ = (&self.file).write(frame);
    }

    /// Receives a frame, whose size it gives. The error is of the kind
    /// `WouldBlock` if none is there.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(frame)
    }

    /// Waits until somebody rings, or until a frame is there if `for_frames`.
    pub fn wait(&self, for_frames: bool) {
        let watched = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        /// What is passed over.
        const NONE: i32 = -1;
        let file = if for_frames {
            self.file.as_raw_fd()
        } else {
            NONE
        };
        let mut files = [watched(self.bell.as_raw_fd()), watched(file)];
        // SAFETY: it reads and writes as many as there are. If it fails, its caller
        // looks once too often.
        unsafe { libc::poll(files.as_mut_ptr(), files.len() as libc::nfds_t, -1) };
        // Until it rings again.
        let _ = (&self.bell).read(&mut [0; 8]);
    }

    /// Ends a wait, or the next one.
    pub fn ring(&self) {
        // It can only fail because it rings already.
        let _ = (&self.bell).write(&1_u64.to_ne_bytes());
    }

    /// Ends all waits for good.
    pub fn end(&self) {
        self.is_over.store(true, SeqCst);
        self.ring();
    }

    /// Whether they are.
    pub fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }
}

fn exists(interface: &str) -> bool {
    // A longer one would be cut off.
    let fits = interface.len() < libc::IFNAMSIZ;
    let name = CString::new(interface).ok().filter(|_| fits);
    // SAFETY: it reads the name.
    name.is_some_and(|name| unsafe { libc::if_nametoindex(name.as_ptr()) } != 0)
}

/// Makes `file` an end of the tap device `name`: plain frames, with their sums.
fn join(file: &File, name: &str) -> io::Result<()> {
    const NO_OFFLOADS: libc::c_ulong = 0;
    // SAFETY: all fields are numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    let fd = file.as_raw_fd();
    // SAFETY: it reads and writes the request, which is of the type that it wants.
    done(unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) })?;
    // Whoever had it before may have left it so that sums are to be made by others.
    // SAFETY: it takes a number.
    done(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, NO_OFFLOADS) })
}

fn done(status: libc::c_int) -> io::Result<()> {
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Why it cannot be had, for a person.
fn refusal(name: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            format!("there is no {TUN}: the kernel's module `tun` is not loaded")
        }
        Some(libc::EACCES | libc::EPERM) => "you may not use it, but root may".to_owned(),
        Some(libc::EBUSY) => "another program has it, perhaps another VM".to_owned(),
        Some(libc::EINVAL) => format!("{name} is no tap device of a single queue"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_words() {
        let words = |number| refusal("tap0", &io::Error::from_raw_os_error(number));
        assert!(words(libc::ENOENT).contains("`tun` is not loaded"));
        assert!(words(libc::EPERM).contains("root"));
        assert!(words(libc::EBUSY).contains("another VM"));
        assert!(words(libc::EINVAL).contains("tap0 is no tap device"));
    }

    #[test]
    fn a_name_that_linux_would_cut_off_or_complete_is_nobodys() {
        assert!(exists("lo"));
        for name in ["", "lo%d", "lo/", "lo\0", "of-sixteen-bytes"] {
            assert!(!exists(name), "{name}");
        }
    }
}
