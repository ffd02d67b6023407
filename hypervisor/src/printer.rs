//! What a guest prints byte by byte, gathered into lines of the log.

use spin::Mutex;
use x86::Gpa;

/// The longest line; a longer one goes on in the next.
const LINE: usize = 120;

struct Line {
    text: [u8; LINE],
    length: usize,
}

/// Gathers lines. Shared by all CPUs and all ways to print.
pub struct Printer {
    /// The page of the register: one of the hypervisor's own memory, where the
    /// guest has nothing to lose. Never changes.
    pub page: Gpa,
    line: Mutex<Line>,
}

impl Printer {
    /// One whose register is at `page`.
    pub const fn new(page: Gpa) -> Self {
        Self {
            page,
            line: Mutex::new(Line {
                text: [0; LINE],
                length: 0,
            }),
        }
    }

    /// Prints a byte. What is no printable character shows as a dot.
    pub fn print(&self, byte: u8) {
        let mut line = self.line.lock();
        if byte == b'\n' {
            return line.end();
        }
        let shown = match byte {
            b' '..=b'~' => byte,
            _ => b'.',
        };
        let length = line.length;
        if let Some(place) = line.text.get_mut(length) {
            *place = shown;
            line.length += 1;
        }
        if line.length == LINE {
            line.end();
        }
    }
}

impl Line {
    #[cold]
    fn end(&mut self) {
        let text = self.text.get(..self.length).unwrap_or(&[]);
        log::info!(
            "the guest prints: {}",
            core::str::from_utf8(text).unwrap_or("")
        );
        self.length = 0;
    }
}
