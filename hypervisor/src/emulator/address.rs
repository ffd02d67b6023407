//! From an operand as the instruction spells it to linear addresses: effective
//! addresses, segments, what a segment forbids, canonical form.

use super::width::Width;
use super::{Device, Emulator};
use iced_x86::{Instruction, Register};
use machine::{Memory, Vcpu};
use x86::address::is_canonical;
use x86::control::{Cr0, Rflags};
use x86::segment::{
    CODE, DEFAULT_BIG, EXPAND_DOWN, READABLE_OR_WRITABLE, Segment, SegmentName, UNUSABLE,
};
use x86::{Exception, registers};

/// A place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logical {
    /// The segment.
    pub segment: SegmentName,
    /// The offset in it, as wide as the address.
    pub offset: u64,
    /// How wide the address is.
    pub width: Width,
}

impl Logical {
    /// The place `bytes` on, or back.
    pub const fn moved(self, bytes: i64) -> Self {
        Self {
            offset: self.width.cut(self.offset.wrapping_add(bytes as u64)),
            ..self
        }
    }
}

/// The segment register with this name.
pub fn segment_name(register: Register) -> SegmentName {
    let number = (register as usize).wrapping_sub(Register::ES as usize);
    SegmentName::from_number(number as u8).unwrap_or(SegmentName::Ds)
}

/// Number and width of a general-purpose register that an address is made of.
fn address_register(register: Register) -> Option<(u8, Width)> {
    // 16 registers of each width follow one another.
    let number = (register as usize).checked_sub(Register::AX as usize)? as u8;
    let width = match number >> 4 {
        0 => Width::Word,
        1 => Width::Double,
        2 => Width::Quad,
        _ => return None,
    };
    Some((number & 15, width))
}

/// How wide the addresses of `instruction` are: as its registers or, without
/// any, as its displacement.
fn address_width(instruction: &Instruction) -> Width {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let registers = address_register(base).or_else(|| address_register(index));
    match (registers, base, instruction.memory_displ_size()) {
        (Some((_, width)), ..) => width,
        (None, Register::RIP, _) | (None, _, 8) => Width::Quad,
        (None, Register::EIP, _) | (None, _, 4) => Width::Double,
        _ => Width::Word,
    }
}

impl<V: Vcpu, M: Memory, D: Device> Emulator<'_, V, M, D> {
    /// Where the memory operand lies. `popped` is what POP has added to the
    /// stack pointer by the time its operand's address is made.
    pub(super) fn effective(&self, instruction: &Instruction, popped: u64) -> Logical {
        let part = |register| match address_register(register) {
            Some((registers::RSP, _)) => self.vcpu.stack_pointer().wrapping_add(popped),
            Some((number, _)) => self.vcpu.general(number),
            None => 0,
        };
        let scale = u64::from(instruction.memory_index_scale());
        let index = part(instruction.memory_index()).wrapping_mul(scale);
        let width = address_width(instruction);
        let sum = instruction
            .memory_displacement64()
            .wrapping_add(part(instruction.memory_base()))
            .wrapping_add(index);
        Logical {
            segment: segment_name(instruction.memory_segment()),
            offset: width.cut(sum),
            width,
        }
    }

    /// The top of the stack, after `bytes` were pushed (negative) or popped.
    pub(super) fn stack(&self, bytes: i64) -> Logical {
        let width = if self.caller.wide {
            Width::Quad
        } else if self.vcpu.segment(SegmentName::Ss).rights & DEFAULT_BIG != 0 {
            Width::Double
        } else {
            Width::Word
        };
        let top = Logical {
            segment: SegmentName::Ss,
            offset: width.cut(self.vcpu.stack_pointer()),
            width,
        };
        top.moved(bytes)
    }

    /// The linear address of `size` bytes at `place`, if its segment lets them
    /// be accessed.
    pub(super) fn linear(&self, place: Logical, size: u8, write: bool) -> Result<u64, Exception> {
        let last = u64::from(size) - 1;
        if !self.caller.wide {
            let segment = self.vcpu.segment(place.segment);
            if !self.allows(&segment, write) || !covers(&segment, place.offset, last) {
                return Err(refusal(place.segment));
            }
            return Ok(segment.base.wrapping_add(place.offset) & 0xffff_ffff);
        }
        let base = match place.segment {
            SegmentName::Fs | SegmentName::Gs => self.vcpu.segment(place.segment).base,
            _ => 0,
        };
        let linear = base.wrapping_add(place.offset);
        let bits = self.vcpu.cr4().linear_bits();
        if is_canonical(linear, bits) && is_canonical(linear.wrapping_add(last), bits) {
            Ok(linear)
        } else {
            Err(refusal(place.segment))
        }
    }

    /// Whether the segment's type lets it be read, or written. In real mode and
    /// in virtual-8086 mode it does not count.
    fn allows(&self, segment: &Segment, write: bool) -> bool {
        if segment.rights & UNUSABLE != 0 {
            return false;
        }
        let protected = self.vcpu.cr0().contains(Cr0::PE);
        if !protected || self.vcpu.rflags().contains(Rflags::VM) {
            return true;
        }
        let code = segment.rights & CODE != 0;
        let right = segment.rights & READABLE_OR_WRITABLE != 0;
        if write {
            !code && right
        } else {
            !code || right
        }
    }

    /// Whether an access of `size` bytes at `linear` must be aligned and is not.
    /// Intel SDM volume 3, "Alignment Check Exception (#AC)".
    pub(super) fn misaligned(&self, linear: u64, size: u8) -> bool {
        self.caller.user
            && !linear.is_multiple_of(u64::from(size))
            && self.vcpu.cr0().contains(Cr0::AM)
            && self.vcpu.rflags().contains(Rflags::AC)
    }
}

/// Whether the segment has the bytes from `offset` to `last` bytes on. Intel SDM
/// volume 3, "Limit Checking".
fn covers(segment: &Segment, offset: u64, last: u64) -> bool {
    let limit = u64::from(segment.limit);
    let end = offset.saturating_add(last);
    let downwards = segment.rights & (CODE | EXPAND_DOWN) == EXPAND_DOWN;
    if !downwards {
        return end <= limit;
    }
    let top = if segment.rights & DEFAULT_BIG != 0 {
        0xffff_ffff
    } else {
        0xffff
    };
    offset > limit && end <= top
}

fn refusal(segment: SegmentName) -> Exception {
    if segment == SegmentName::Ss {
        Exception::StackFault(0)
    } else {
        Exception::GeneralProtection(0)
    }
}
