//! The person's terminal: in raw mode while the VM has it, and as it was before
//! at every end but that by SIGKILL. Ctrl-A is for this program.

use crate::devices::Devices;
use crate::end::End;
use std::io::Read;
use std::sync::{Arc, OnceLock};
use std::thread;

const INPUT: libc::c_int = 0;
/// Ctrl-A.
const ESCAPE: u8 = 1;

/// How the terminal was before.
static BEFORE: OnceLock<libc::termios> = OnceLock::new();

/// Puts the terminal into raw mode, if there is one. A panic puts it back.
pub fn make_raw() {
    // SAFETY: all fields are numbers, and it is filled in before it is used.
    let mut mode: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: it writes one `termios`, or nothing.
    if unsafe { libc::tcgetattr(INPUT, &raw mut mode) } != 0 {
        return;
    }
    BEFORE.get_or_init(|| mode);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        put_back();
        before(panic);
    }));
    // SAFETY: it changes the value, and nothing else; output stays as it was, so
    // that this program's own lines end as others do.
    unsafe { libc::cfmakeraw(&raw mut mode) };
    mode.c_oflag |= libc::OPOST | libc::ONLCR;
    // SAFETY: it reads one `termios`.
    unsafe { libc::tcsetattr(INPUT, libc::TCSADRAIN, &raw const mode) };
}

/// Makes it as it was before.
pub fn put_back() {
    if let Some(before) = BEFORE.get() {
        // SAFETY: it reads one `termios`.
        unsafe { libc::tcsetattr(INPUT, libc::TCSADRAIN, before) };
    }
}

/// What typed bytes mean.
#[derive(Debug, Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    /// What of `typed` is for the VM, or None: the person leaves.
    fn take(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut meant = Vec::new();
        for byte in typed {
            match (self.escaped, *byte) {
                (false, ESCAPE) => self.escaped = true,
                (true, b'x' | b'X') => return None,
                // Ctrl-A twice is one for the VM; before others it means nothing.
                (escaped, byte) => {
                    self.escaped = false;
                    if !escaped || byte == ESCAPE {
                        meant.push(byte);
                    }
                }
            }
        }
        Some(meant)
    }
}

/// Types what comes from the terminal, or wherever this program's input is from,
/// as long as there is some.
pub fn type_in(devices: Arc<Devices>) {
    thread::spawn(move || {
        let mut keys = Keys::default();
        let mut buffer = [0; 256];
        let mut input = std::io::stdin().lock();
        while let Ok(count @ 1..) = input.read(&mut buffer) {
            match keys.take(&buffer[..count]) {
                Some(meant) => devices.type_in(&meant),
                None => return devices.end(End::Left),
            }
        }
    });
}

/// Ends the VM at a signal that asks this program to. Others wait for it in no
/// thread; so all threads that are made later have it blocked.
pub fn end_at_signals(devices: &Arc<Devices>) {
    const SIGNALS: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    // SAFETY: the set is filled in before it is used, and outlives all uses.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in SIGNALS {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    };
    let devices = devices.clone();
    thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: it reads the set and writes one number.
        if unsafe { libc::sigwait(&raw const set, &raw mut signal) } == 0 {
            devices.end(End::Signal(signal));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_is_for_this_program() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ls\r").unwrap(), b"ls\r");
        assert_eq!(keys.take(b"a\x01\x01b").unwrap(), b"a\x01b");
        assert_eq!(keys.take(b"\x01q1").unwrap(), b"1");
        assert_eq!(keys.take(b"\x01").unwrap(), b"");
        assert_eq!(keys.take(b"x"), None);
    }
}
