//! Text in a place of fixed size: what does not fit is cut.

use core::fmt::{self, Arguments, Write};

/// At most `SIZE` bytes of text.
pub struct Text<const SIZE: usize> {
    bytes: [u8; SIZE],
    length: usize,
}

impl<const SIZE: usize> Default for Text<SIZE> {
    fn default() -> Self {
        Self {
            bytes: [0; SIZE],
            length: 0,
        }
    }
}

impl<const SIZE: usize> Text<SIZE> {
    /// Appends.
    pub fn say(&mut self, what: Arguments<'_>) {
        // What does not fit is cut, and nothing else can fail.
        let _ = self.write_fmt(what);
    }

    /// Appends a byte; false if it does not fit.
    pub fn push(&mut self, byte: u8) -> bool {
        let place = self.bytes.get_mut(self.length);
        let fits = place.map(|place| *place = byte).is_some();
        self.length += usize::from(fits);
        fits
    }

    /// Takes the last byte away; false if there is none.
    pub fn pop(&mut self) -> bool {
        let is_there = self.length > 0;
        self.length -= usize::from(is_there);
        is_there
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    /// The same, as long as it is UTF-8.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.bytes()).unwrap_or("")
    }
}

impl<const SIZE: usize> Write for Text<SIZE> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.push(byte);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_and_the_last_byte_can_be_taken_back() {
        let mut text = Text::<5>::default();
        text.say(format_args!("{}-{}", "abc", 123));
        assert_eq!(text.as_str(), "abc-1");
        assert!(!text.push(b'x'));
        assert!(text.pop());
        assert_eq!(text.bytes(), b"abc-");
        text.clear();
        assert!(!text.pop());
        assert_eq!(text.as_str(), "");
    }
}
