//! A live view on a terminal, which is as before when it ends.

use crate::interrupts;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::time::Duration;

/// The other screen, without cursor and without wrapped lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

/// A view that is shown again and again: in place on a terminal, one below the
/// other elsewhere.
pub struct Screen<'a> {
    out: &'a mut dyn Write,
    terminal: Option<RawFd>,
    keyboard: Option<(RawFd, libc::termios)>,
}

impl<'a> Screen<'a> {
    /// A view on `out`, which is `output`, with the keys of `input`.
    pub fn open(out: &'a mut dyn Write, [input, output]: [RawFd; 2]) -> io::Result<Self> {
        let mut screen = Self {
            out,
            terminal: is_terminal(output).then_some(output),
            keyboard: None,
        };
        interrupts::note_them();
        if screen.terminal.is_some() {
            screen.keyboard = mode(input).map(|mode| (input, mode));
            if let Some((input, before)) = &screen.keyboard {
                set_mode(*input, &without_echo(before));
            }
            screen.out.write_all(ENTER.as_bytes())?;
        }
        Ok(screen)
    }

    /// Shows `text` in the place of what was shown.
    pub fn show(&mut self, text: &str) -> io::Result<()> {
        let Some(terminal) = self.terminal else {
            self.out.write_all(text.as_bytes())?;
            return self.out.flush();
        };
        let lines: Vec<&str> = text.lines().take(rows(terminal)).collect();
        let text = lines.join(&format!("{REST_OF_LINE}\r\n"));
        write!(self.out, "{HOME}{text}{REST_OF_LINE}{REST_OF_SCREEN}")?;
        self.out.flush()
    }

    /// Waits for `span`. Returns whether the person still wants to see more.
    pub fn wait(&self, span: Duration) -> bool {
        let descriptor = self.keyboard.map_or(-1, |(input, _)| input);
        let mut key = libc::pollfd {
            fd: descriptor,
            events: libc::POLLIN,
            revents: 0,
        };
        let span = i32::try_from(span.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one descriptor, which outlives the call; -1 is never ready.
        let ready = unsafe { libc::poll(&mut key, 1, span) };
        let leaves = ready > 0 && !matches!(pressed(descriptor), Some(key) if key != b'q');
        !leaves && !interrupts::happened()
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        if self.terminal.is_some() {
            // Nobody is left to tell.
            let _ = self.out.write_all(LEAVE.as_bytes());
            let _ = self.out.flush();
        }
        if let Some((input, before)) = &self.keyboard {
            set_mode(*input, before);
        }
    }
}

fn is_terminal(descriptor: RawFd) -> bool {
    // SAFETY: it takes a number and changes nothing.
    unsafe { libc::isatty(descriptor) == 1 }
}

/// None if it is no terminal.
fn mode(input: RawFd) -> Option<libc::termios> {
    let mut mode = MaybeUninit::uninit();
    // SAFETY: the call writes a whole mode where it returns 0.
    unsafe { (libc::tcgetattr(input, mode.as_mut_ptr()) == 0).then(|| mode.assume_init()) }
}

fn set_mode(input: RawFd, mode: &libc::termios) {
    // SAFETY: the mode is a whole one. What fails leaves it as it was.
    unsafe { libc::tcsetattr(input, libc::TCSANOW, mode) };
}

/// Keys arrive one by one and are not shown; Ctrl-C stays Ctrl-C.
fn without_echo(mode: &libc::termios) -> libc::termios {
    let mut mode = *mode;
    mode.c_lflag &= !(libc::ICANON | libc::ECHO);
    mode
}

/// None at the end of the input.
fn pressed(input: RawFd) -> Option<u8> {
    let mut key = 0u8;
    // SAFETY: one byte is read into one byte.
    let read = unsafe { libc::read(input, (&raw mut key).cast(), 1) };
    (read == 1).then_some(key)
}

/// Lines that the terminal shows.
fn rows(terminal: RawFd) -> usize {
    const USUAL: usize = 24;
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: the call writes a size; zero is a valid one where it fails.
    let size = unsafe {
        libc::ioctl(terminal, libc::TIOCGWINSZ, size.as_mut_ptr());
        size.assume_init()
    };
    match size.ws_row {
        0 => USUAL,
        rows => rows.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null_mut;

    /// Both ends of a terminal: the person's and the program's.
    fn terminal() -> [RawFd; 2] {
        let mut ends = [0; 2];
        let [person, program] = &mut ends;
        // SAFETY: both numbers are written; nothing else is asked for.
        let status = unsafe { libc::openpty(person, program, null_mut(), null_mut(), null_mut()) };
        assert_eq!(status, 0);
        ends
    }

    fn press(person: RawFd, key: u8) {
        // SAFETY: one byte is written from one byte.
        let written = unsafe { libc::write(person, (&raw const key).cast(), 1) };
        assert_eq!(written, 1);
    }

    #[test]
    fn the_terminal_is_as_before_and_q_ends_the_view() {
        let [person, program] = terminal();
        let before = mode(program).unwrap();
        let mut shown = Vec::new();
        {
            let mut screen = Screen::open(&mut shown, [program; 2]).unwrap();
            assert_eq!(mode(program).unwrap().c_lflag & libc::ECHO, 0);
            screen.show("one\ntwo\n").unwrap();
            press(person, b'x');
            assert!(screen.wait(Duration::from_secs(60)));
            press(person, b'q');
            assert!(!screen.wait(Duration::from_secs(60)));
        }
        let after = mode(program).unwrap();
        assert_eq!(after.c_lflag, before.c_lflag);
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.starts_with(ENTER) && shown.ends_with(LEAVE));
        assert!(shown.contains("one") && shown.contains("two"));
    }

    #[test]
    fn what_is_no_terminal_gets_plain_text() {
        let mut shown = Vec::new();
        {
            let mut screen = Screen::open(&mut shown, [-1; 2]).unwrap();
            screen.show("one\n").unwrap();
            assert!(screen.wait(Duration::ZERO));
            screen.show("two\n").unwrap();
        }
        assert_eq!(shown, b"one\ntwo\n");
    }
}
