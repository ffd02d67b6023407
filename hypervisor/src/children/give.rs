//! Memory of the pool: which child has it, and what it sees of it where.

use super::{Child, Children, Held};
use abi::Errno;
use abi::child::{MAP_MAX, PIECE, rights};
use core::sync::atomic::Ordering::Release;
use machine::child::{Rights, Unmappable};
use machine::{ChildMemory, Memory, Vcpu};
use x86::{Gpa, PAGE_SIZE};

/// What is asked of `vm_map`.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Where the child has it.
    pub at: u64,
    /// Where it is.
    pub from: u64,
    /// How much it is.
    pub bytes: u64,
    /// Bits of [`rights`].
    pub rights: u64,
}

impl<V: Vcpu> Children<V> {
    /// Gives a child a piece of the pool, cleared in the guest's memory, where
    /// it is.
    pub fn give<M: Memory>(&self, child: &Child<V>, memory: &M) -> Result<u64, Errno> {
        let count = ((self.pool.end - self.pool.start) / PIECE) as usize;
        let number = {
            let mut pieces = self.pieces.lock();
            let mut free = (0..count).zip(pieces.iter_mut());
            let found = free.find(|(_, owner)| **owner == 0);
            let (number, owner) = found.ok_or(Errno::NoSpace)?;
            *owner = child.number;
            child.given.fetch_add(1, Release);
            number
        };
        let at = self.pool.start + number as u64 * PIECE;
        let zeros = [0; PAGE_SIZE as usize];
        for page in (at..at + PIECE).step_by(PAGE_SIZE as usize) {
            let cleared = memory.write(Gpa(page), &zeros);
            cleared.map_err(|_| Errno::NoSpace)?;
        }
        Ok(at)
    }

    /// Shows memory to the child that `held` is, and that has it. Returns the
    /// bytes. No vCPU of the child's runs.
    pub fn map(&self, held: Held<'_, V>, mapping: &Mapping) -> Result<u64, Errno> {
        let child = held.as_ref().ok_or(Errno::NotFound)?;
        let wanted = mapping.rights()?;
        let bytes = mapping.bytes.min(MAP_MAX);
        let is_whole = [mapping.at, mapping.from, bytes].map(|n| n % PAGE_SIZE == 0);
        let end = mapping.at.checked_add(bytes);
        if is_whole != [true; 3] || end.is_none() {
            return Err(Errno::InvalidArgument);
        }
        if wanted.read {
            self.check(child, mapping.from, bytes)?;
        }
        let _still = child.still()?;
        for offset in (0..bytes).step_by(PAGE_SIZE as usize) {
            let from = Gpa(mapping.from.wrapping_add(offset));
            let shown = child.vm.memory.map(Gpa(mapping.at + offset), from, wanted);
            match shown {
                Ok(()) => {}
                Err(Unmappable::Address) => return Err(Errno::InvalidArgument),
                Err(Unmappable::Tables) if offset > 0 => return Ok(offset),
                Err(Unmappable::Tables) => return Err(Errno::NoSpace),
            }
        }
        Ok(bytes)
    }

    /// Has the page at `page`, which was given to `child`, hold the records of its
    /// vCPU `number`.
    pub fn keep_records(&self, child: &Child<V>, number: u64, page: u64) -> Result<(), Errno> {
        if Gpa(page).page_offset() != 0 {
            return Err(Errno::InvalidArgument);
        }
        self.check(child, page, PAGE_SIZE)?;
        child.keep_records(number, Gpa(page))
    }

    /// Whether all of it is this child's.
    fn check(&self, child: &Child<V>, from: u64, bytes: u64) -> Result<(), Errno> {
        let end = from.checked_add(bytes).ok_or(Errno::InvalidArgument)?;
        if from < self.pool.start || end > self.pool.end {
            return Err(Errno::InvalidArgument);
        }
        let first = (from - self.pool.start) / PIECE;
        let behind = (end - self.pool.start).div_ceil(PIECE);
        let pieces = self.pieces.lock();
        let touched = pieces.get(first as usize..behind as usize);
        let is_its = touched.is_some_and(|touched| touched.iter().all(|n| *n == child.number));
        is_its.then_some(()).ok_or(Errno::NotPermitted)
    }
}

impl Mapping {
    /// Nothing goes without reading.
    fn rights(&self) -> Result<Rights, Errno> {
        const ALL: u64 = rights::READ | rights::WRITE | rights::EXECUTE;
        let has = |right| self.rights & right != 0;
        let wanted = Rights {
            read: has(rights::READ),
            write: has(rights::WRITE),
            execute: has(rights::EXECUTE),
        };
        let makes_sense = wanted.read || self.rights == 0;
        match self.rights & !ALL == 0 && makes_sense {
            true => Ok(wanted),
            false => Err(Errno::InvalidArgument),
        }
    }
}
