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
use machine::Memory;
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
    place: Place,
}

/// Where a buffer lies, found and checked; what of the machine's addresses is
/// the guest's memory never changes.
#[derive(Clone, Copy)]
pub struct Place {
    /// The pages that it touches, in its order.
    pages: [Gpa; PAGES],
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
        caller: &Caller<'a, M>,
        address: u64,
        bytes: u64,
        access: Access,
    ) -> Result<Self, Failure> {
        let length = transfer(bytes);
        caller.last_byte(address, length)?;
        let mut buffer = Self::new(caller.memory(), address, length);
        let mut found = 0;
        while found < length {
            let gva = Gva(address + found as u64);
            let size = buffer
                .add(caller, gva, found, access)
                .map_err(|denied| Failure::denied(caller, gva, denied))?;
            found += size;
        }
        Ok(buffer)
    }

    /// Room for whole records of `size` bytes, to be written at `address`: at
    /// most `wanted` of them, and no more than fit into `bytes` or into one
    /// call.
    pub fn for_records(
        caller: &Caller<'a, M>,
        [address, bytes]: [u64; 2],
        size: usize,
        wanted: u64,
    ) -> Result<Self, Failure> {
        let records = (transfer(bytes) / size) as u64;
        let bytes = records.min(wanted) * size as u64;
        Self::at_gva(caller, address, bytes, Access::Write)
    }

    /// The first [`TRANSFER_MAX`] of `bytes` at the guest-physical `address`.
    /// The caller's right to it is the service's to check.
    #[inline(always)]
    pub fn at_gpa(memory: &'a M, address: u64, bytes: u64) -> Result<Self, Failure> {
        let length = transfer(bytes);
        let mut buffer = Self::new(memory, address, length);
        if (length as u64).checked_add(address).is_none() {
            return Err(Errno::InvalidArgument.into());
        }
        let first = Gpa(address).page();
        for (page, number) in buffer.pages_mut().iter_mut().zip(0..) {
            *page = Gpa(first.0 + number * PAGE_SIZE);
            memory.check(*page, PAGE_SIZE)?;
        }
        Ok(buffer)
    }

    /// The first [`TRANSFER_MAX`] of `bytes` that begin at `offset` of the
    /// first of the pages whose guest-physical addresses lie at `list`, 8 bytes
    /// each. The caller's right to them is the service's to check.
    pub fn of_pages(
        caller: &Caller<'a, M>,
        list: u64,
        offset: u64,
        bytes: u64,
    ) -> Result<Self, Failure> {
        let length = transfer(bytes);
        if offset >= PAGE_SIZE {
            return Err(Errno::InvalidArgument.into());
        }
        let mut buffer = Self::new(caller.memory(), offset, length);
        let pages = buffer.pages_mut();
        let entries = Buffer::at_gva(caller, list, pages.len() as u64 * 8, Access::Read)?;
        for (page, number) in pages.iter_mut().zip(0..) {
            let mut entry = [0; 8];
            entries.read(number * 8, &mut entry)?;
            *page = Gpa(u64::from_le_bytes(entry));
            if page.page_offset() != 0 {
                return Err(Errno::InvalidArgument.into());
            }
            caller.memory().check(*page, PAGE_SIZE)?;
        }
        Ok(buffer)
    }

    #[inline(always)]
    fn new(memory: &'a M, address: u64, length: usize) -> Self {
        let place = Place {
            pages: [Gpa(0); PAGES],
            offset: Gpa(address).page_offset() as usize,
            length,
        };
        Self { memory, place }
    }

    /// One that was made before.
    pub fn at(memory: &'a M, place: Place) -> Self {
        Self { memory, place }
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Those that `length` bytes touch.
    fn pages_mut(&mut self) -> &mut [Gpa] {
        let used = match self.place.length {
            0 => 0,
            length => (self.place.offset + length).div_ceil(PAGE),
        };
        self.place.pages.get_mut(..used).unwrap_or(&mut [])
    }

    /// Walks to `gva`, which is the byte number `found`, and notes the pages up
    /// to the end of what was found, of the buffer or of the guest's memory.
    /// Returns the bytes.
    fn add(
        &mut self,
        caller: &Caller<'a, M>,
        gva: Gva,
        found: usize,
        access: Access,
    ) -> Result<usize, Denied> {
        let intent = Intent {
            write: access == Access::Write,
            ..Intent::default()
        };
        let translation = caller.translate(gva, intent)?;
        let left = translation.left.min((self.place.length - found) as u64) as usize;
        let mut at = translation.gpa;
        let mut size = 0;
        let pages = self.place.pages.iter_mut();
        for page in pages.skip((self.place.offset + found) / PAGE) {
            *page = at.page();
            match caller.memory().check(*page, PAGE_SIZE) {
                Err(unreachable) if size == 0 => return Err(Denied::NoMemory(unreachable.0)),
                Err(_) => return Ok(size),
                Ok(()) => size += PAGE - at.page_offset() as usize,
            }
            if size >= left {
                break;
            }
            at = Gpa(page.0 + PAGE_SIZE);
        }
        Ok(size.min(left))
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.place.length
    }

    /// Where byte number `at` lies, and how many of the `most` that follow lie
    /// in the same page.
    fn piece(&self, at: usize, most: usize) -> Option<(Gpa, usize)> {
        let place = self.place.offset + at;
        let page = self.place.pages.get(place / PAGE)?;
        let inside = place % PAGE;
        let left = self.place.length.checked_sub(at)?;
        let size = (PAGE - inside).min(left).min(most);
        (size > 0).then_some((Gpa(page.0 + inside as u64), size))
    }

    /// Fills `into` with what begins at byte number `at`; stops at the end.
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<(), Failure> {
        let mut done = 0;
        while let Some((gpa, size)) = self.piece(at + done, into.len() - done) {
            let part = into.get_mut(done..done + size).unwrap_or(&mut []);
            self.memory.read(gpa, part)?;
            done += size;
        }
        Ok(())
    }

    /// Writes `from` to byte number `at` and on; stops at the end.
    pub fn write(&self, at: usize, from: &[u8]) -> Result<(), Failure> {
        let mut done = 0;
        while let Some((gpa, size)) = self.piece(at + done, from.len() - done) {
            let part = from.get(done..done + size).unwrap_or(&[]);
            self.memory.write(gpa, part)?;
            done += size;
        }
        Ok(())
    }

    /// Copies from `source`, up to the end of the shorter. Returns the bytes.
    /// Where the two overlap, the result is some mixture of their bytes.
    pub fn copy(&self, source: &Self) -> Result<usize, Failure> {
        let mut done = 0;
        while let Some((to, size)) = self.piece(done, PAGE) {
            let Some((from, size)) = source.piece(done, size) else {
                break;
            };
            self.memory.copy(to, from, size as u64)?;
            done += size;
        }
        Ok(done)
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
    let buffer = Buffer::for_records(caller, room, SIZE, rows.len() as u64)?;
    let places = (0..buffer.length()).step_by(SIZE);
    for (place, row) in places.zip(rows) {
        buffer.write(place, &row)?;
    }
    Ok((buffer.length() / SIZE) as u64)
}

#[cfg(test)]
mod tests;
