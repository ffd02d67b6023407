//! One call with buffers of any kind, and whether it did what it should.

use abi::call::{self, LOG_TEXT_MAX, SERVICES, TRANSFER_MAX};
use abi::errno::Errno;
use abi::record::ServiceRecord;
use underlay::{Failure, Underlay};

use crate::arena::{Arena, Sources};
use call_load::pattern::{PAGE, Random};
use call_load::{Failed, ensure};

/// A process that calls.
pub struct Caller {
    /// What is beneath.
    pub underlay: Underlay,
    /// What its buffers are made from.
    pub sources: Sources,
    /// What it calls, and with what.
    pub random: Random,
}

/// Calls with the same two buffers.
const TOGETHER: u64 = 4;
/// One time in so many it writes to the log, which takes only few.
const LOG_EVERY: usize = 4000;

impl Caller {
    /// Makes up to `most` calls, and checks every byte after each. Returns how
    /// many.
    pub fn calls(&mut self, most: u64) -> Result<u64, Failed> {
        if self.random.below(LOG_EVERY) == 0 {
            return self.log_write().map(|()| 1);
        }
        match self.random.below(32) {
            0 => self.resolve().map(|()| 1),
            1 => self.list().map(|()| 1),
            _ => self.copies(most.min(TOGETHER)),
        }
    }

    /// Mostly a few pages, sometimes all that a call can use and more.
    fn arena(&mut self) -> Result<Arena, Failed> {
        let most = match self.random.below(8) {
            0 => TRANSFER_MAX / PAGE + 2,
            _ => 4,
        };
        let pages = 1 + self.random.below(most);
        Arena::new(&mut self.sources, &mut self.random, pages)
    }

    /// Somewhere in `arena` with room for `bytes`.
    fn place(&mut self, arena: &Arena, bytes: usize) -> usize {
        self.random.below(arena.size() - bytes + 1)
    }

    /// Copies between two buffers, more than once: the later calls meet pages
    /// that the earlier ones touched, beside those that none did.
    fn copies(&mut self, calls: u64) -> Result<u64, Failed> {
        let (from, mut into) = (self.arena()?, self.arena()?);
        for _ in 0..calls {
            self.copy(&from, &mut into)?;
            from.holds()?;
            into.holds()?;
        }
        from.end(&mut self.sources)?;
        into.end(&mut self.sources)?;
        Ok(calls)
    }

    fn copy(&mut self, from: &Arena, into: &mut Arena) -> Result<(), Failed> {
        let bytes = 1 + self.random.below(from.size().min(into.size()));
        let (read, written) = (self.place(from, bytes), self.place(into, bytes));
        let arguments = [
            into.address(written),
            from.address(read),
            bytes as u64,
            0,
            0,
        ];
        // SAFETY: both buffers are this long, and no reference to them is held.
        let reply = unsafe { self.underlay.call(call::MEMORY_COPY, arguments) };
        let used = bytes.min(TRANSFER_MAX);
        into.expect(written, from.expected(read, used));
        self.returned("memory_copy", reply.rax, used as u64)
    }

    fn resolve(&mut self) -> Result<(), Failed> {
        let mut arena = self.arena()?;
        let (name, number) = match self.random.below(SERVICES.len() + 1) {
            none if none == SERVICES.len() => ("no such service", 0),
            row => (SERVICES[row].name, SERVICES[row].number),
        };
        let at = self.place(&arena, name.len() + 1);
        arena.write(at, &[name.as_bytes(), b"\0"].concat());
        let arguments = [arena.address(at), 0, 0, 0, 0];
        // SAFETY: a name with its NUL is there.
        let reply = unsafe { self.underlay.call(call::RESOLVE, arguments) };
        self.returned("resolve", reply.rax, number)?;
        arena.end(&mut self.sources)
    }

    fn list(&mut self) -> Result<(), Failed> {
        let mut arena = self.arena()?;
        let room = 1 + self.random.below(arena.size());
        let first = self.random.below(SERVICES.len() + 2);
        let at = self.place(&arena, room);
        let arguments = [arena.address(at), room as u64, first as u64, 0, 0];
        // SAFETY: the buffer is this long, and no reference to it is held.
        let reply = unsafe { self.underlay.call(call::LIST, arguments) };
        let rows = SERVICES.iter().skip(first);
        let rows = rows.take(room.min(TRANSFER_MAX) / ServiceRecord::SIZE);
        self.returned("list", reply.rax, rows.len() as u64)?;
        let records = rows.flat_map(|row| ServiceRecord::from(row).to_bytes());
        arena.expect(at, &records.collect::<Vec<u8>>());
        arena.end(&mut self.sources)
    }

    fn log_write(&mut self) -> Result<(), Failed> {
        const TEXT: &[u8] = b"one of many that call";
        let mut arena = self.arena()?;
        let at = self.place(&arena, TEXT.len().min(LOG_TEXT_MAX));
        arena.write(at, TEXT);
        let arguments = [arena.address(at), TEXT.len() as u64, 0, 0, 0];
        // SAFETY: the text is there.
        let reply = unsafe { self.underlay.call(call::LOG_WRITE, arguments) };
        if reply.result() != Err(Failure::Errno(Errno::TryAgain)) {
            self.returned("log_write", reply.rax, TEXT.len() as u64)?;
        }
        arena.end(&mut self.sources)
    }

    fn returned(&self, name: &str, found: u64, expected: u64) -> Result<(), Failed> {
        ensure(found == expected, || {
            format!("{name} returned {:#x}, not {expected:#x}", found as i64)
        })
    }
}
