//! One session: the line that runs or is typed, and the text that has not been
//! taken yet.

use super::commands::{self, Asked, Next, Place, State};
use super::line;
use crate::text::Text;
use abi::call::SHELL_LINE_MAX;
use machine::{Memory, Vcpu};

/// The longest line of text, without its newline.
pub const TEXT_MAX: usize = 160;

const PROMPT: &str = "> ";
const GREETING: &str = "Underlay's shell: `help` lists what it can do.\n";

/// A session; an unused one has no handle.
#[derive(Default)]
pub struct Session {
    /// Its handle, or 0.
    pub handle: u64,
    /// When it was used last, counted in uses of all sessions.
    pub used: u64,
    /// The line that runs, or that is being typed.
    line: Text<SHELL_LINE_MAX>,
    /// How far the line that runs is.
    running: Option<State>,
    /// What is to be shown; the newline has its own place.
    text: Text<{ TEXT_MAX + 1 }>,
    /// How much of that has been taken.
    taken: usize,
    /// Somebody types: what is typed is shown, behind a prompt.
    typed: bool,
    prompted: bool,
    ended: bool,
}

impl Session {
    /// Begins to run a line; what the one before had to say is forgotten.
    pub fn begin(&mut self, typed: &[u8]) {
        self.line.clear();
        for byte in typed {
            self.line.push(line::printable(*byte));
        }
        self.show(format_args!(""));
        self.run();
    }

    fn run(&mut self) {
        self.running = Some(State::default());
    }

    /// What has not been taken of the line of text that is there.
    pub fn left(&self) -> &[u8] {
        self.text.bytes().get(self.taken..).unwrap_or(&[])
    }

    /// So many bytes have been taken.
    pub fn give(&mut self, bytes: usize) {
        self.taken += bytes;
    }

    /// Whether there is text, or a line that runs and may make some.
    pub fn has_more(&self) -> bool {
        !self.left().is_empty() || self.running.is_some()
    }

    /// Whether the line was the last.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Frees its place.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    fn show(&mut self, what: core::fmt::Arguments<'_>) {
        self.text.clear();
        self.taken = 0;
        self.text.say(what);
    }

    /// Where nothing is left to be taken: takes the running line a step
    /// further, or shows the prompt.
    pub fn refill<V: Vcpu, M: Memory>(&mut self, place: &Place<V, M>) {
        if !self.left().is_empty() {
            return;
        }
        match self.running.take() {
            Some(state) => self.step(place, state),
            None if self.typed && !self.prompted && !self.ended => {
                self.prompted = true;
                self.show(format_args!("{PROMPT}"));
            }
            None => {}
        }
    }

    fn step<V: Vcpu, M: Memory>(&mut self, place: &Place<V, M>, mut state: State) {
        let mut text = Text::default();
        let asked = Asked::new(place, self.line.as_str());
        let next = commands::step(&asked, &mut state, &mut text);
        state.step += 1;
        self.show(format_args!("{}", text.as_str()));
        if !text.bytes().is_empty() {
            self.text.push(b'\n');
        }
        match next {
            Next::More => self.running = Some(state),
            Next::Done => self.end_line(),
            Next::End => {
                self.end_line();
                self.ended = true;
            }
        }
    }

    fn end_line(&mut self) {
        self.line.clear();
        self.prompted = false;
    }

    /// From here on somebody types.
    pub fn type_in(&mut self) {
        let (handle, used) = (self.handle, self.used);
        *self = Self {
            handle,
            used,
            typed: true,
            ..Self::default()
        };
        self.show(format_args!("{GREETING}"));
    }

    /// An answer to what was shown last: it has been taken; or the shell waits,
    /// and this was typed.
    pub fn answer(&mut self, byte: u8) {
        if !self.left().is_empty() {
            self.give(1);
        } else if self.ended {
            self.type_in();
        } else if self.running.is_none() {
            self.key(byte);
        }
    }

    fn key(&mut self, byte: u8) {
        const ERASE_LINE: u8 = 0x15;
        const DELETE: u8 = 0x7f;
        match byte {
            b'\r' | b'\n' => {
                self.show(format_args!("\n"));
                self.run();
            }
            b'\x08' | DELETE if self.line.pop() => self.show(format_args!("\x08 \x08")),
            ERASE_LINE => {
                self.show(format_args!("\n"));
                self.end_line();
            }
            b' '..=b'~' if self.line.push(byte) => {
                self.show(format_args!("{}", char::from(byte)));
            }
            _ => {}
        }
    }
}
