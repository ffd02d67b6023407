//! Operands: found and checked first, then read and written, which cannot fail
//! any more.

use super::address::{Logical, segment_name};
use super::operation::memory_width;
use super::width::Width;
use super::{Device, Emulator};
use iced_x86::{Instruction, OpKind, Register};
use machine::{Memory, Vcpu};
use x86::segment::SegmentName;
use x86::walk::{Denied, Intent};
use x86::{Exception, Gpa, Gva};

/// What an instruction does with an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Reads it.
    Read,
    /// Writes it, or reads and writes it.
    Write,
}

/// An operand.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// How much of it counts.
    pub width: Width,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    General(u8),
    /// AH, CH, DH, BH: the second byte of the register with this number.
    SecondByte(u8),
    Selector(SegmentName),
    Immediate(u64),
    /// Wholly in the watched range, at this offset.
    Device(u64),
    Memory(Span),
}

/// Where the bytes of a memory operand lie: up to the end of a page, and from
/// the start of another.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Gpa,
    /// Bytes in the first page.
    here: u8,
    second: Gpa,
}

/// A run of bytes of an operand that is all watched, or not at all.
struct Part {
    at: Gpa,
    from: usize,
    size: u8,
    watched: bool,
}

fn register(name: Register) -> Option<(Width, Place)> {
    let number = (name as usize).checked_sub(Register::AL as usize)? as u8;
    Some(match number {
        4..8 => (Width::Byte, Place::SecondByte(number - 4)),
        0..4 => (Width::Byte, Place::General(number)),
        // SPL follows BH, and is the low byte of register 4.
        8..20 => (Width::Byte, Place::General(number - 4)),
        20..36 => (Width::Word, Place::General(number - 20)),
        36..52 => (Width::Double, Place::General(number - 36)),
        52..68 => (Width::Quad, Place::General(number - 52)),
        _ => return None,
    })
}

/// How wide an immediate is that stands alone, as in PUSH.
fn immediate_width(kind: OpKind) -> Width {
    match kind {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 | OpKind::Immediate64 => Width::Quad,
        OpKind::Immediate8to32 | OpKind::Immediate32 => Width::Double,
        OpKind::Immediate8to16 | OpKind::Immediate16 => Width::Word,
        _ => Width::Byte,
    }
}

/// Register `number`, as much of it as `width`.
pub const fn general(number: u8, width: Width) -> Operand {
    Operand {
        width,
        place: Place::General(number),
    }
}

impl<V: Vcpu, M: Memory, D: Device> Emulator<'_, V, M, D> {
    /// Finds operand `number`.
    pub(super) fn operand(
        &self,
        instruction: &Instruction,
        number: u32,
        usage: Use,
    ) -> Result<Operand, Exception> {
        let kind = instruction.op_kind(number);
        let (width, place) = match kind {
            OpKind::Memory => {
                let width = memory_width(instruction).unwrap_or(Width::Byte);
                return self.at(self.effective(instruction, 0), width, usage);
            }
            OpKind::Register => named(instruction.op_register(number)),
            _ => {
                let value = instruction.try_immediate(number).unwrap_or(0);
                (immediate_width(kind), Place::Immediate(value))
            }
        };
        Ok(Operand { width, place })
    }

    /// Finds the memory operand at `place`: all its pages are there and may be
    /// used so.
    pub(super) fn at(
        &self,
        place: Logical,
        width: Width,
        usage: Use,
    ) -> Result<Operand, Exception> {
        let size = width.bytes();
        let write = usage == Use::Write;
        let linear = self.linear(place, size, write)?;
        let place = self.place(linear, size, write).map_err(Denied::exception)?;
        if self.misaligned(linear, size) {
            return Err(Exception::AlignmentCheck);
        }
        Ok(Operand { width, place })
    }

    fn place(&self, linear: u64, size: u8, write: bool) -> Result<Place, Denied> {
        let intent = Intent {
            write,
            ..Intent::default()
        };
        let first = self.caller.translate(Gva(linear), intent)?.gpa;
        match self.device_offset(first, size) {
            Some(at) => Ok(Place::Device(at)),
            None => self.span(first, linear, size, intent).map(Place::Memory),
        }
    }

    /// Where in the watched range `size` bytes at `first` are, if they all lie in
    /// it and in one page.
    pub(super) fn device_offset(&self, first: Gpa, size: u8) -> Option<u64> {
        let size = u64::from(size);
        let at = first.0.checked_sub(self.watched.start.0)?;
        let left = self.watched.end.0.checked_sub(first.0)?;
        (size <= left && size <= first.left_in_page()).then_some(at)
    }

    /// Where `size` bytes lie that are at `linear`, and begin at `first`.
    fn span(&self, first: Gpa, linear: u64, size: u8, intent: Intent) -> Result<Span, Denied> {
        let translate = |at| Ok(self.caller.translate(Gva(at), intent)?.gpa);
        let left = first.left_in_page();
        let here = left.min(u64::from(size)) as u8;
        let second = if here < size {
            let next = linear.wrapping_add(u64::from(here));
            translate(if self.caller.wide {
                next
            } else {
                next & 0xffff_ffff
            })?
        } else {
            first
        };
        let span = Span {
            first,
            here,
            second,
        };
        self.check(&span, size)?;
        Ok(span)
    }

    /// What is not watched must be memory.
    fn check(&self, span: &Span, size: u8) -> Result<(), Denied> {
        let mut done = 0;
        while let Some(part) = self.part(span, size, done) {
            done += part.size;
            if !part.watched {
                let memory = self.caller.memory();
                let found = memory.check(part.at, u64::from(part.size));
                found.map_err(|unreachable| Denied::NoMemory(unreachable.0))?;
            }
        }
        Ok(())
    }

    /// The part that begins `done` bytes into `span`.
    fn part(&self, span: &Span, size: u8, done: u8) -> Option<Part> {
        let (start, end) = if done < span.here {
            (span.first.0 + u64::from(done), span.here)
        } else {
            (span.second.0 + u64::from(done - span.here), size)
        };
        let rest = u64::from(end.checked_sub(done).filter(|rest| *rest > 0)?);
        let watched = self.watched.contains(&Gpa(start));
        let edge = match watched {
            true => self.watched.end.0,
            false if start < self.watched.start.0 => self.watched.start.0,
            false => u64::MAX,
        };
        Some(Part {
            at: Gpa(start),
            from: usize::from(done),
            size: rest.min(edge - start) as u8,
            watched,
        })
    }

    /// The operand's value; bits beyond its width are 0.
    pub(super) fn load(&mut self, operand: &Operand) -> u64 {
        let value = match operand.place {
            Place::General(number) => self.vcpu.general(number),
            Place::SecondByte(number) => self.vcpu.general(number) >> 8,
            Place::Selector(name) => u64::from(self.vcpu.segment(name).selector),
            Place::Immediate(value) => value,
            Place::Device(at) => {
                self.reached = true;
                self.device.read(at, operand.width.bytes())
            }
            Place::Memory(span) => self.load_memory(&span, operand.width.bytes()),
        };
        operand.width.cut(value)
    }

    fn load_memory(&mut self, span: &Span, size: u8) -> u64 {
        let mut bytes = [0; 8];
        let mut done = 0;
        while let Some(part) = self.part(span, size, done) {
            done += part.size;
            let into = bytes.get_mut(part.from..usize::from(done));
            let into = into.unwrap_or(&mut []);
            if part.watched {
                self.reached = true;
                let at = part.at.0 - self.watched.start.0;
                let value = self.device.read(at, part.size).to_le_bytes();
                into.copy_from_slice(value.get(..into.len()).unwrap_or(&[]));
            } else if self.caller.memory().read(part.at, into).is_err() {
                // Checked before; what has gone since reads as nothing does.
                into.fill(0xff);
            }
        }
        u64::from_le_bytes(bytes)
    }

    /// Sets the operand to the low bits of `value`.
    pub(super) fn store(&mut self, operand: &Operand, value: u64) {
        if self.device.is_waiting() {
            return;
        }
        match operand.place {
            Place::General(number) => {
                let old = self.vcpu.general(number);
                let value = operand.width.merge(old, value);
                self.vcpu.set_general(number, value);
            }
            Place::SecondByte(number) => {
                let old = self.vcpu.general(number);
                let value = old & !0xff00 | (value & 0xff) << 8;
                self.vcpu.set_general(number, value);
            }
            Place::Device(at) => {
                self.reached = true;
                let value = operand.width.cut(value);
                self.device.write(at, operand.width.bytes(), value);
            }
            Place::Memory(span) => self.store_memory(&span, operand.width.bytes(), value),
            Place::Selector(_) | Place::Immediate(_) => {}
        }
    }

    fn store_memory(&mut self, span: &Span, size: u8, value: u64) {
        let bytes = value.to_le_bytes();
        let mut done = 0;
        while let Some(part) = self.part(span, size, done) {
            done += part.size;
            if part.watched {
                self.reached = true;
                let at = part.at.0 - self.watched.start.0;
                let value = value >> (8 * part.from);
                let width = u64::MAX >> (64 - 8 * u32::from(part.size));
                self.device.write(at, part.size, value & width);
            } else {
                let from = bytes.get(part.from..usize::from(done)).unwrap_or(&[]);
                // Checked before; what has gone since takes nothing.
                let _ = self.caller.memory().write(part.at, from);
            }
        }
    }
}

/// The register with this name; the width of a selector is a word.
fn named(name: Register) -> (Width, Place) {
    register(name).unwrap_or_else(|| (Width::Word, Place::Selector(segment_name(name))))
}
