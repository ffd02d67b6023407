//! A call's operands in guest memory. A buffer exists once all its pages are
//! found and checked; whoever makes all buffers of a call before using the
//! first has written nothing when one of them is denied.
//!
//! Like the CPU's own translations, a buffer stays what it was when the guest
//! changes its tables meanwhile: another CPU that wants an old translation
//! gone waits for this one, which answers when the call is over.

use crate::caller::Caller;
use crate::failure::Failure;
use abi::Errno;
use abi::call::TRANSFER_MAX;
use arrayvec::ArrayVec;
use machine::{Memory, Unreachable};
use x86::walk::{Denied, Intent};
use x86::{Gpa, Gva, PAGE_SIZE};

const PAGE: usize = PAGE_SIZE as usize;
/// Pages of the longest buffer, which may begin and end within one.
const PAGES: usize = TRANSFER_MAX / PAGE + 1;

/// What a call does to a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
}

/// Guest memory that a call may use, page by page.
pub struct Buffer<'a, M> {
    memory: &'a M,
    pages: &'a Pages,
}

/// Where a buffer lies, found and checked; what of the machine's addresses is
/// the guest's memory never changes. Whoever asks for a buffer keeps them in his
/// own frame: they are neither cleared before nor copied about.
#[derive(Clone, Default)]
pub struct Pages {
    /// Those that the buffer touches, in its order.
    all: ArrayVec<Gpa, PAGES>,
    /// Where it begins in the first.
    offset: usize,
    length: usize,
}

/// `bytes` as far as one call goes.
pub fn transfer(bytes: u64) -> usize {
    bytes.min(TRANSFER_MAX as u64) as usize
}

impl<'a, M: Memory> Buffer<'a, M> {
    /// The first [`TRANSFER_MAX`] of `bytes` at `address`, with the caller's
    /// own rights. A buffer that goes around the end of the address space is
    /// no buffer.
    #[inline(always)]
    pub fn at_gva(
        pages: &'a mut Pages,
        caller: &Caller<'a, M>,
        address: u64,
        bytes: u64,
        access: Access,
    ) -> Result<Self, Failure> {
        let length = transfer(bytes);
        caller.last_byte(address, length)?;
        pages.begin(address, length);
        let mut found = 0;
        while found < length {
            let gva = Gva(address + found as u64);
            let size = pages
                .find(caller, gva, length - found, access)
                .map_err(|denied| Failure::denied(caller, gva, denied))?;
            found += size;
        }
        Ok(Self::at(caller.memory(), pages))
    }

    /// Room for whole records of `size` bytes, to be written at `address`: at
    /// most `wanted` of them, and no more than fit into `bytes` or into one
    /// call.
    pub fn for_records(
        pages: &'a mut Pages,
        caller: &Caller<'a, M>,
        [address, bytes]: [u64; 2],
        size: usize,
        wanted: u64,
    ) -> Result<Self, Failure> {
        let records = (transfer(bytes) / size) as u64;
        let bytes = records.min(wanted) * size as u64;
        Self::at_gva(pages, caller, address, bytes, Access::Write)
    }

    /// The first [`TRANSFER_MAX`] of `bytes` at the guest-physical `address`.
    /// The caller's right to it is the service's to check.
    #[inline(always)]
    pub fn at_gpa(
        pages: &'a mut Pages,
        memory: &'a M,
        address: u64,
        bytes: u64,
    ) -> Result<Self, Failure> {
        let length = transfer(bytes);
        if (length as u64).checked_add(address).is_none() {
            return Err(Errno::InvalidArgument.into());
        }
        pages.begin(address, length);
        let first = Gpa(address).page();
        for number in 0..pages.touched() {
            pages.add(memory, Gpa(first.0 + number * PAGE_SIZE))?;
        }
        Ok(Self::at(memory, pages))
    }

    /// The first [`TRANSFER_MAX`] of `bytes` that begin at `offset` of the
    /// first of the pages whose guest-physical addresses lie at `list`, 8 bytes
    /// each. The caller's right to them is the service's to check.
    pub fn of_pages(
        pages: &'a mut Pages,
        caller: &Caller<'a, M>,
        list: u64,
        offset: u64,
        bytes: u64,
    ) -> Result<Self, Failure> {
        if offset >= PAGE_SIZE {
            return Err(Errno::InvalidArgument.into());
        }
        pages.begin(offset, transfer(bytes));
        let mut listed = Pages::default();
        let size = pages.touched() * 8;
        let entries = Buffer::at_gva(&mut listed, caller, list, size, Access::Read)?;
        for at in (0..entries.length()).step_by(8) {
            let mut entry = [0; 8];
            entries.read(at, &mut entry)?;
            let page = Gpa(u64::from_le_bytes(entry));
            if page.page_offset() != 0 {
                return Err(Errno::InvalidArgument.into());
            }
            pages.add(caller.memory(), page)?;
        }
        Ok(Self::at(caller.memory(), pages))
    }

    /// One whose pages were found before.
    pub fn at(memory: &'a M, pages: &'a Pages) -> Self {
        Self { memory, pages }
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.pages.length
    }

    /// Fills `into` with what begins at byte number `at`; stops at the end.
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<(), Failure> {
        let (mut done, length) = (0, self.length().saturating_sub(at).min(into.len()));
        while done < length
            && let Some((gpa, left)) = self.pages.piece(at + done)
        {
            let size = left.min(length - done);
            let part = into.get_mut(done..done + size).unwrap_or(&mut []);
            self.memory.read(gpa, part)?;
            done += size;
        }
        Ok(())
    }

    /// Writes `from` to byte number `at` and on; stops at the end.
    pub fn write(&self, at: usize, from: &[u8]) -> Result<(), Failure> {
        let (mut done, length) = (0, self.length().saturating_sub(at).min(from.len()));
        while done < length
            && let Some((gpa, left)) = self.pages.piece(at + done)
        {
            let size = left.min(length - done);
            let part = from.get(done..done + size).unwrap_or(&[]);
            self.memory.write(gpa, part)?;
            done += size;
        }
        Ok(())
    }

    /// Copies from `source`, up to the end of the shorter. Returns the bytes.
    /// Where the two overlap, the result is some mixture of their bytes.
    pub fn copy(&self, source: &Self) -> Result<usize, Failure> {
        let (mut done, length) = (0, self.length().min(source.length()));
        while done < length
            && let Some((to, room)) = self.pages.piece(done)
            && let Some((from, left)) = source.pages.piece(done)
        {
            let size = room.min(left).min(length - done);
            self.memory.copy(to, from, size as u64)?;
            done += size;
        }
        Ok(done)
    }
}

impl Pages {
    /// Those of a buffer of this length, none of which is found yet.
    fn begin(&mut self, address: u64, length: usize) {
        self.all.clear();
        self.offset = Gpa(address).page_offset() as usize;
        self.length = length;
    }

    /// How many the whole buffer touches.
    fn touched(&self) -> u64 {
        match self.length {
            0 => 0,
            length => (self.offset + length).div_ceil(PAGE) as u64,
        }
    }

    /// Adds the next one, if it is memory of the guest's.
    fn add<M: Memory>(&mut self, memory: &M, page: Gpa) -> Result<(), Unreachable> {
        memory.check(page, PAGE_SIZE)?;
        let added = self.all.try_push(page);
        added.map_err(|full| Unreachable(full.element()))
    }

    /// Walks to `gva`, and adds the pages up to the end of what was found, of
    /// the `most` bytes that are looked for, or of the guest's memory. Returns
    /// the bytes.
    fn find<M: Memory>(
        &mut self,
        caller: &Caller<M>,
        gva: Gva,
        most: usize,
        access: Access,
    ) -> Result<usize, Denied> {
        let intent = Intent {
            write: access == Access::Write,
            ..Intent::default()
        };
        let found = caller.translate(gva, intent)?;
        let most = found.left.min(most as u64) as usize;
        let (mut at, mut size) = (found.gpa, 0);
        while size < most {
            match self.add(caller.memory(), at.page()) {
                Err(unreachable) if size == 0 => return Err(Denied::NoMemory(unreachable.0)),
                Err(_) => return Ok(size),
                Ok(()) => size += PAGE - at.page_offset() as usize,
            }
            at = Gpa(at.page().0 + PAGE_SIZE);
        }
        Ok(size.min(most))
    }

    /// Where byte number `at` lies, and how many bytes of its page begin there.
    #[inline]
    fn piece(&self, at: usize) -> Option<(Gpa, usize)> {
        let place = self.offset + at;
        let page = self.all.get(place / PAGE)?;
        let inside = place % PAGE;
        Some((Gpa(page.0 + inside as u64), PAGE - inside))
    }
}

/// Writes as many records as there is room for, of `rows` from number `first`
/// on. Returns how many.
pub fn write_records<M: Memory, const SIZE: usize>(
    caller: &Caller<M>,
    room: [u64; 2],
    rows: impl ExactSizeIterator<Item = [u8; SIZE]>,
    first: u64,
) -> Result<u64, Failure> {
    let rows = rows.skip(usize::try_from(first).unwrap_or(usize::MAX));
    let mut pages = Pages::default();
    let buffer = Buffer::for_records(&mut pages, caller, room, SIZE, rows.len() as u64)?;
    let places = (0..buffer.length()).step_by(SIZE);
    for (place, row) in places.zip(rows) {
        buffer.write(place, &row)?;
    }
    Ok((buffer.length() / SIZE) as u64)
}

#[cfg(test)]
mod tests;
