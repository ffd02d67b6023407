//! The person's terminal as the guest's console: raw while a machine runs,
//! restored whatever happens, with Ctrl-A as the way out.

use std::io::{IsTerminal, Read, stdin};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, Once};
use std::thread;

use anyhow::Result;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::session::Event;

/// How the terminal was before it was made raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static RESTORE_ON_PANIC: Once = Once::new();

/// While it lives, standard input is raw (if it is a terminal).
pub struct Raw;

impl Raw {
    /// Makes the terminal raw until the value is dropped or a panic begins.
    pub fn enter() -> Result<Self> {
        if stdin().is_terminal() {
            let before = tcgetattr(stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            if let Ok(mut saved) = BEFORE.lock() {
                *saved = Some(before);
            }
            RESTORE_ON_PANIC.call_once(|| {
                let default = std::panic::take_hook();
                std::panic::set_hook(Box::new(move |info| {
                    restore();
                    default(info);
                }));
            });
            tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        }
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Ok(mut saved) = BEFORE.lock()
        && let Some(before) = saved.take()
    {
        // Nothing can be done about a terminal that has gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

/// Sends what is typed as events, and [`Event::Leave`] at Ctrl-A X. The end
/// of a standard input that is no terminal is not the end of the session.
pub fn listen(events: Sender<Event>) {
    thread::spawn(move || {
        let mut escape = Escape::default();
        let mut buffer = [0; 256];
        while let Ok(count) = stdin().read(&mut buffer) {
            if count == 0 {
                break;
            }
            let (typed, leave) = escape.filter(&buffer[..count]);
            let event = if leave {
                Event::Leave
            } else {
                Event::Typed(typed)
            };
            if events.send(event).is_err() {
                break;
            }
        }
    });
}

/// Ctrl-A X leaves, Ctrl-A Ctrl-A is Ctrl-A, as in QEMU.
#[derive(Default)]
struct Escape {
    begun: bool,
}

impl Escape {
    const CTRL_A: u8 = 1;

    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::new();
        for &byte in typed {
            match (std::mem::take(&mut self.begun), byte) {
                (true, b'x' | b'X') => return (passed, true),
                (true, Self::CTRL_A) => passed.push(byte),
                (true, other) => passed.extend([Self::CTRL_A, other]),
                (false, Self::CTRL_A) => self.begun = true,
                (false, other) => passed.push(other),
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_x_leaves_even_across_reads() {
        let mut escape = Escape::default();
        assert_eq!(escape.filter(b"ls\x01"), (b"ls".to_vec(), false));
        assert_eq!(escape.filter(b"x"), (vec![], true));
    }

    #[test]
    fn ctrl_a_twice_is_typed_once_and_other_keys_keep_it() {
        let mut escape = Escape::default();
        assert_eq!(escape.filter(b"\x01\x01b"), (b"\x01b".to_vec(), false));
        assert_eq!(escape.filter(b"\x01b"), (b"\x01b".to_vec(), false));
    }
}
