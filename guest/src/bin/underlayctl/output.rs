//! Whether anybody still reads the output, for commands that write seldom.

use std::os::fd::RawFd;
use std::time::Duration;

const OUTPUT: RawFd = 1;

/// Waits for `span`. Returns whether the output can still be read: a follower
/// that learned it from its next write alone would outlive its reader.
pub fn wanted(span: Duration) -> bool {
    reader(OUTPUT, span)
}

fn reader(output: RawFd, span: Duration) -> bool {
    // No event is asked for: poll tells of a reader that is gone unasked.
    let mut gone = libc::pollfd {
        fd: output,
        events: 0,
        revents: 0,
    };
    let span = i32::try_from(span.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one descriptor, which outlives the call.
    unsafe { libc::poll(&mut gone, 1, span) };
    gone.revents == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_reader_that_goes_ends_the_wait() {
        let (reading, writing) = io::pipe().unwrap();
        assert!(reader(writing.as_raw_fd(), Duration::ZERO));
        drop(reading);
        assert!(!reader(writing.as_raw_fd(), Duration::from_secs(60)));
    }
}
