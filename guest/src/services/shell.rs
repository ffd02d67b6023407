//! The debug shell inside the hypervisor, and what BitVisor's clients know.

use super::{read_from, write_to};
use crate::{Error, Underlay, row};

/// A session of the debug shell. One that is not closed ends when others need
/// its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Session(u64);

/// A part of what a line has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said<'a> {
    /// Text for people.
    pub text: &'a [u8],
    /// There is more to come: an empty line gets it.
    pub more: bool,
    /// The line ended the session.
    pub ended: bool,
}

/// What [`Underlay::dbgsh`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A byte to show.
    Show(u8),
    /// The newline behind the end: the shell is over.
    End,
    /// The shell waits for a byte.
    Waits,
}

impl Underlay {
    /// Begins a session of the debug shell.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn shell_open(self) -> Result<Session, Error> {
        // SAFETY: `shell_open` takes nothing and touches no memory of ours.
        unsafe { self.ask(row::SHELL_OPEN, []) }.map(|[handle]| Session(handle))
    }

    /// Runs `line` in a session, and writes what it has to say to `buffer`.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] if the session has ended.
    pub fn shell_line<'a>(
        self,
        session: &Session,
        line: &[u8],
        buffer: &'a mut [u8],
    ) -> Result<Said<'a>, Error> {
        let ([from, bytes], [into, room]) = (read_from(line), write_to(buffer));
        let arguments = [session.0, from, bytes, into, room];
        // SAFETY: the hypervisor reads `line` and writes at most `room` bytes
        // into `buffer`.
        let [done, more, ended] = unsafe { self.ask(row::SHELL_LINE, arguments)? };
        let done = (done as usize).min(buffer.len());
        Ok(Said {
            text: &buffer[..done],
            more: more != 0,
            ended: ended != 0,
        })
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] if it has ended already.
    pub fn shell_close(self, session: Session) -> Result<(), Error> {
        // SAFETY: `shell_close` takes a number and touches no memory of ours.
        unsafe { self.ask(row::SHELL_CLOSE, [session.0]) }.map(|[_]| ())
    }

    /// The debug shell as BitVisor's clients know it. What `byte` means stands
    /// in the table.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn dbgsh(self, byte: i32) -> Result<Key, Error> {
        let byte = u64::from(byte as u32);
        // SAFETY: `dbgsh` takes a number and touches no memory of ours.
        let [answer] = unsafe { self.ask(row::DBGSH, [byte])? };
        Ok(match answer {
            0 => Key::Waits,
            0x10a => Key::End,
            shown => Key::Show(shown as u8),
        })
    }

    /// Has the log copied into a ring at the guest-physical `buffer`, as
    /// BitVisor's clients know it; 0 ends that.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] for what cannot be such a ring.
    ///
    /// # Safety
    ///
    /// Until another call ends it, these `bytes` must be used for nothing else.
    pub unsafe fn log_set_buf(self, buffer: u64, bytes: u64) -> Result<(), Error> {
        // SAFETY: the caller answers for the buffer.
        unsafe { self.ask(row::LOG_SET_BUF, [buffer, bytes]) }.map(|[_]| ())
    }

    /// Tells what there is beneath in text for people, as BitVisor's clients
    /// know it. None if `buffer` is too small.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn get_status(self, buffer: &mut [u8]) -> Result<Option<&[u8]>, Error> {
        let arguments = write_to(buffer);
        // SAFETY: the hypervisor writes at most its length into `buffer`.
        let [missing, _, bytes] = unsafe { self.ask(row::GET_STATUS, arguments)? };
        let text = buffer.get(..bytes as usize);
        Ok(text.filter(|_| missing == 0))
    }
}
