//! The CPU's own accesses to descriptor tables and task-state segments: linear
//! addresses of 32 bits, with supervisor rights wherever the program is. First
//! a piece is found, with all faults that this may raise; then it is used.

use crate::vm::Vm;
use machine::{Memory, Vcpu};
use x86::walk::{Denied, Intent, Paging, walk};
use x86::{Exception, Gpa, Gva, PAGE_SIZE};

/// How often a bit is tried to be set in a word that another CPU changes.
const ATTEMPTS: u32 = 64;

/// Reading.
pub const READ: Intent = Intent {
    user: false,
    write: false,
    fetch: false,
};

/// Writing.
pub const WRITE: Intent = Intent {
    write: true,
    ..READ
};

/// The guest's linear memory.
pub struct Linear<'a, M> {
    pub memory: &'a M,
    pub paging: Paging,
}

/// At most a page of linear memory, which may lie in two.
#[derive(Clone, Copy)]
pub struct Piece {
    first: Gpa,
    first_size: usize,
    second: Gpa,
}

impl<'a, M: Memory> Linear<'a, M> {
    /// The memory as `vcpu` translates it. EFLAGS.AC opens user pages to a
    /// program's own accesses only. Intel SDM volume 3, "Determination of
    /// Access Rights".
    pub fn new<V: Vcpu>(vm: &'a Vm<M>, vcpu: &V) -> Self {
        Self {
            memory: &vm.memory,
            paging: Paging {
                alignment_check: false,
                ..vcpu.paging()
            },
        }
    }

    /// Finds `size` bytes at `at`.
    pub fn find(&self, at: u32, size: usize, intent: Intent) -> Result<Piece, Exception> {
        let (first, left) = self.translate(at, intent)?;
        if size <= left {
            return Ok(Piece {
                first,
                first_size: size,
                second: first,
            });
        }
        let (second, _) = self.translate(at.wrapping_add(left as u32), intent)?;
        Ok(Piece {
            first,
            first_size: left,
            second,
        })
    }

    /// Where `at` lies, and how many bytes of its page follow.
    fn translate(&self, at: u32, intent: Intent) -> Result<(Gpa, usize), Exception> {
        let found = walk(&self.paging, intent, Gva(u64::from(at)), self.memory)
            .map_err(Denied::exception)?;
        Ok((found.gpa, (PAGE_SIZE - found.gpa.page_offset()) as usize))
    }

    /// Finds the bytes at `at` and reads them.
    pub fn read<const SIZE: usize>(&self, at: u32) -> Result<[u8; SIZE], Exception> {
        let mut bytes = [0; SIZE];
        let piece = self.find(at, SIZE, READ)?;
        self.load(piece, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads what was found. Where the guest has no memory it gets #GP.
    pub fn load(&self, piece: Piece, into: &mut [u8]) -> Result<(), Exception> {
        let size = piece.first_size.min(into.len());
        let (first, second) = into.split_at_mut(size);
        let read = self.memory.read(piece.first, first);
        read.and_then(|()| self.memory.read(piece.second, second))
            .map_err(|nowhere| Denied::NoMemory(nowhere.0).exception())
    }

    /// Writes what was found, and read before: only a device can refuse that,
    /// and the write is lost as it is on the bus.
    pub fn store(&self, piece: Piece, from: &[u8]) {
        let size = piece.first_size.min(from.len());
        let (first, second) = from.split_at(size);
        let _ = self.memory.write(piece.first, first);
        let _ = self.memory.write(piece.second, second);
    }

    /// Finds the byte at `at`, to change bits of it.
    pub fn find_byte(&self, at: u32) -> Result<Gpa, Exception> {
        let byte = self.find(at, 1, WRITE)?;
        self.load(byte, &mut [0])?;
        Ok(byte.first)
    }

    /// Clears and sets bits of a byte that was found, in one locked access to
    /// the word around it.
    pub fn change_byte(&self, byte: Gpa, clear: u8, set: u8) {
        let at = Gpa(byte.0 & !3);
        let shift = 8 * (byte.0 & 3);
        let (clear, set) = (u64::from(clear) << shift, u64::from(set) << shift);
        let changed = |old| {
            let new = old & !clear | set;
            new == old || self.memory.exchange(at, 4, old, new)
        };
        let _ = (0..ATTEMPTS).find(|_| self.memory.load(at, 4).is_none_or(changed));
    }
}
