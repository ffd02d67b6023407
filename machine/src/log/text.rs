//! The log's text: a ring of bytes, and where its numbered lines begin.

/// Bytes of memory for each line that can be found: shorter lines than that on
/// average, and the oldest are lost before their bytes are.
const BYTES_PER_LINE: usize = 64;
const START: usize = size_of::<u64>();

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLine {
    /// It was read, with the newline at its end: so many bytes.
    Whole(usize),
    /// It is not there yet.
    NotYet,
    /// It is gone; the oldest that is still there has this number.
    Lost {
        /// Its number.
        oldest: u64,
    },
}

/// The ring. Written and read under the log's lock.
pub(super) struct Text {
    bytes: &'static mut [u8],
    /// Where line n begins, at n modulo their number. Positions count all bytes
    /// ever written.
    starts: &'static mut [[u8; START]],
    /// Bytes ever written; the next goes to this position modulo the size.
    written: u64,
    /// Lines ever finished.
    lines: u64,
}

impl Text {
    /// An empty one in `memory`.
    pub(super) fn new(memory: &'static mut [u8]) -> Self {
        let lines = memory.len() / (BYTES_PER_LINE + START);
        let (starts, bytes) = memory.split_at_mut(lines * START);
        let (starts, _) = starts.as_chunks_mut();
        let mut text = Self {
            bytes,
            starts,
            written: 0,
            lines: 0,
        };
        text.begin_line();
        text
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let size = self.bytes.len() as u64;
        for &byte in bytes {
            let at = (self.written % size.max(1)) as usize;
            if let Some(slot) = self.bytes.get_mut(at) {
                *slot = byte;
            }
            self.written += 1;
            if byte == b'\n' {
                self.lines += 1;
                self.begin_line();
            }
        }
    }

    fn begin_line(&mut self) {
        let slot = (self.lines % self.starts.len().max(1) as u64) as usize;
        if let Some(start) = self.starts.get_mut(slot) {
            *start = self.written.to_le_bytes();
        }
    }

    /// Where line `number` begins, if that is still known.
    fn start(&self, number: u64) -> Option<u64> {
        let count = self.starts.len() as u64;
        let known = number <= self.lines && self.lines - number < count;
        let slot = number.checked_rem(count).filter(|_| known)?;
        let start = u64::from_le_bytes(*self.starts.get(slot as usize)?);
        let kept = self.written - start <= self.bytes.len() as u64;
        kept.then_some(start)
    }

    /// Reads line `number` into `into`, which cuts it where it is too short.
    pub(super) fn read(&self, number: u64, into: &mut [u8]) -> LogLine {
        if number >= self.lines {
            return LogLine::NotYet;
        }
        let ends = self.start(number).zip(self.start(number + 1));
        let Some((start, end)) = ends else {
            return LogLine::Lost {
                oldest: self.oldest(),
            };
        };
        let length = into.len().min((end - start) as usize);
        let first = (start % self.bytes.len().max(1) as u64) as usize;
        let (before, behind) = self.bytes.split_at(first);
        let text = behind.iter().chain(before);
        for (place, byte) in into.iter_mut().zip(text).take(length) {
            *place = *byte;
        }
        LogLine::Whole(length)
    }

    fn oldest(&self) -> u64 {
        let first = (self.lines + 1).saturating_sub(self.starts.len() as u64);
        let mut all = first..self.lines;
        let found = all.find(|number| self.start(*number).is_some());
        found.unwrap_or(self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Text {
        Text::new(Box::leak(vec![0; bytes].into_boxed_slice()))
    }

    fn line(text: &Text, number: u64) -> Result<String, LogLine> {
        let mut bytes = [0; 100];
        match text.read(number, &mut bytes) {
            LogLine::Whole(length) => Ok(String::from_utf8_lossy(&bytes[..length]).into_owned()),
            other => Err(other),
        }
    }

    #[test]
    fn the_newest_lines_are_there_and_each_is_its_own() {
        for size in [200, 720, 5000, 64 << 10] {
            let mut text = text(size);
            for number in 0..500u64 {
                let said = format!("line {number} {}\n", "x".repeat(number as usize % 7));
                text.keep(said.as_bytes());
                assert_eq!(line(&text, number), Ok(said), "of {size} bytes");
                assert_eq!(line(&text, number + 1), Err(LogLine::NotYet));
            }
            let Err(LogLine::Lost { oldest }) = line(&text, 0) else {
                assert!(size > 30_000);
                continue;
            };
            for number in 0..500 {
                match line(&text, number) {
                    Ok(said) => {
                        assert!(number >= oldest);
                        assert!(said.starts_with(&format!("line {number} ")), "{said}");
                    }
                    Err(why) => {
                        assert!(number < oldest);
                        assert_eq!(why, LogLine::Lost { oldest });
                    }
                }
            }
        }
    }

    #[test]
    fn a_line_that_is_not_finished_is_not_there_yet() {
        let mut text = text(1000);
        text.keep(b"half");
        assert_eq!(line(&text, 0), Err(LogLine::NotYet));
        text.keep(b" and half\nmore");
        assert_eq!(line(&text, 0), Ok("half and half\n".to_owned()));
        assert_eq!(line(&text, 1), Err(LogLine::NotYet));
    }

    #[test]
    fn a_line_longer_than_the_ring_is_lost_and_the_next_is_not() {
        let mut text = text(200);
        text.keep(&[b'x'; 1000]);
        text.keep(b"\nshort\n");
        assert_eq!(line(&text, 0), Err(LogLine::Lost { oldest: 1 }));
        assert_eq!(line(&text, 1), Ok("short\n".to_owned()));
    }

    #[test]
    fn without_memory_there_are_no_lines() {
        let mut text = text(0);
        text.keep(b"one\ntwo\n");
        assert_eq!(line(&text, 0), Err(LogLine::Lost { oldest: 2 }));
    }
}
