//! What the access of a case takes, and what it brings.

use super::case::{Access, Case};
use super::layout::{BREAKPOINT, Instruction};

/// What a write brings.
pub const OUT: [u8; 2] = [0x5a, 0xa5];
/// Bytes of a small page.
pub const PAGE: u64 = 4096;

impl Case {
    /// How many bytes the access takes.
    pub fn bytes(&self) -> u64 {
        if self.shape.second.is_some() && self.access != Access::Fetch {
            2
        } else {
            1
        }
    }

    /// Of its own page; for what reaches the next one its last byte.
    pub fn place(&self) -> u64 {
        if self.bytes() == 2 {
            PAGE - 1
        } else {
            self.offset
        }
    }

    /// Whether the call is `resolve`.
    pub fn is_by_name(&self) -> bool {
        self.access == Access::Read && self.bytes() == 1 && self.by_name
    }

    /// What the page holds.
    pub fn content(&self) -> [u8; 2] {
        match self.access {
            Access::Read if self.is_by_name() => [0; 2],
            _ => [BREAKPOINT; 2],
        }
    }

    /// What arrives, if it is done.
    pub fn delivery(&self) -> [u8; 2] {
        let whole = match self.access {
            Access::Read if self.is_by_name() => [0; 2],
            Access::Read => self.content(),
            Access::Write => OUT,
            Access::Fetch => [0; 2],
        };
        match (self.bytes(), self.access) {
            (1, Access::Write) => [whole[0], BREAKPOINT],
            (1, _) => [whole[0], 0],
            _ => whole,
        }
    }

    /// The guest's own.
    pub fn instruction(&self) -> Instruction {
        match (self.access, self.bytes()) {
            (Access::Read, 1) => Instruction::Read,
            (Access::Read, _) => Instruction::ReadTwo,
            (Access::Write, 1) => Instruction::Write,
            (Access::Write, _) => Instruction::WriteTwo,
            (Access::Fetch, _) => Instruction::Fetch,
        }
    }

    /// Registers outside 64-bit mode have no upper half, whatever is in it.
    pub fn seen(&self, value: u64) -> u64 {
        if self.mode.is_wide() {
            value
        } else {
            value & 0xffff_ffff
        }
    }

    /// What a register holds that means `value`: outside 64-bit mode its upper half
    /// is rubbish.
    pub fn register(&self, value: u64) -> u64 {
        if self.mode.is_wide() {
            value
        } else {
            value | 0x5eed_f00d << 32
        }
    }
}
