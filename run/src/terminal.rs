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

/// Which terminal it is, and how it was before.
static BEFORE: OnceLock<(libc::c_int, libc::termios)> = OnceLock::new();

/// Puts the terminal into raw mode, if there is one. A panic puts it back.
pub fn make_raw() {
    make_raw_at(INPUT);
}

fn make_raw_at(input: libc::c_int) {
    let Some(mut mode) = mode(input) else {
        return;
    };
    BEFORE.get_or_init(|| (input, mode));
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
    unsafe { libc::tcsetattr(input, libc::TCSADRAIN, &raw const mode) };
}

/// How the terminal at `input` is; None if that is none.
fn mode(input: libc::c_int) -> Option<libc::termios> {
    // SAFETY: all fields are numbers, and it is filled in before it is used.
    let mut mode: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: it writes one `termios`, or nothing.
    let is_one = unsafe { libc::tcgetattr(input, &raw mut mode) } == 0;
    is_one.then_some(mode)
}

/// Makes it as it was before.
pub fn put_back() {
    if let Some((input, before)) = BEFORE.get() {
        // SAFETY: it reads one `termios`.
        unsafe { libc::tcsetattr(*input, libc::TCSADRAIN, before) };
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
    use std::ptr::null_mut;

    #[test]
    fn the_terminal_is_raw_and_as_before_again() {
        let (mut person, mut program) = (0, 0);
        // SAFETY: it writes two numbers; the others are left out.
        let opened = unsafe {
            libc::openpty(
                &raw mut person,
                &raw mut program,
                null_mut(),
                null_mut(),
                null_mut(),
            )
        };
        assert_eq!(opened, 0);
        let flags = || mode(program).map(|mode| (mode.c_lflag, mode.c_iflag, mode.c_oflag));
        let before = flags().unwrap();
        make_raw_at(program);
        let (local, input, output) = flags().unwrap();
        let edits = libc::ICANON | libc::ECHO | libc::ISIG;
        assert_eq!((local & edits, input & libc::ICRNL), (0, 0));
        assert_ne!(before.0 & edits, 0);
        assert_ne!(output & libc::OPOST, 0);
        put_back();
        assert_eq!(flags(), Some(before));
    }

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
