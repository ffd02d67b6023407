//! The instructions by which drivers reach almost all registers of devices: MOV
//! from or to memory in 64-bit code, without a segment's prefix. They are decoded and
//! run here at half of what the decoder of all instructions and the operands of any
//! kind cost; anything else, and whatever would fault, is None, and left to the whole
//! emulator. That both do the same is tested with random ones of all forms.

use super::width::Width;
use super::{Device, Emulator};
use crate::outcome::Outcome;
use machine::{Memory, Vcpu};
use x86::walk::Intent;
use x86::{Gva, PAGE_SIZE};

/// A MOV, as its bytes spell it. Intel SDM volume 2, "MOV—Move", "Instruction
/// Format".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    length: u8,
    width: Width,
    other: Other,
    address: Address,
}

/// The operand that is not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// The register with this number is loaded.
    Loaded(u8),
    /// The register with this number is stored.
    Stored(u8),
    /// This value is stored.
    Immediate(u64),
}

/// The sum of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    base: Base,
    /// A register's number, and by how many bits it is shifted.
    index: Option<(u8, u8)>,
    displacement: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    None,
    /// The register with this number.
    Register(u8),
    /// The instruction behind this one.
    Next,
}

const OPERAND_SIZE: u8 = 0x66;
const REX: u8 = 0x40;
const REX_W: u8 = 1 << 3;
const REX_R: u8 = 1 << 2;
const REX_X: u8 = 1 << 1;
const REX_B: u8 = 1 << 0;
/// As a register's number in the byte behind the opcode: a byte with an index
/// follows. As that of an index: there is none.
const RSP: u8 = 4;
/// As a base without displacement: there is none but a displacement.
const RBP: u8 = 5;

/// The next 16 bytes of code, and how many were taken.
struct Bytes {
    rest: u128,
    taken: u8,
}

impl Bytes {
    fn byte(&mut self) -> u8 {
        let byte = self.rest as u8;
        self.skip(1);
        byte
    }

    fn signed_byte(&mut self) -> u64 {
        self.byte() as i8 as u64
    }

    fn signed_double(&mut self) -> u64 {
        let value = self.rest as i32 as u64;
        self.skip(4);
        value
    }

    /// As wide as `width`, but for the widest, which has 4 bytes. Bits beyond `width`
    /// are not its own.
    fn immediate(&mut self, width: Width) -> u64 {
        let value = self.rest as i32 as u64;
        self.skip(width.bytes().min(4));
        value
    }

    fn skip(&mut self, count: u8) {
        self.rest >>= 8 * count;
        self.taken += count;
    }
}

impl Move {
    #[inline(always)]
    fn decode(code: u128) -> Option<Self> {
        let mut bytes = Bytes {
            rest: code,
            taken: 0,
        };
        let mut opcode = bytes.byte();
        let is_narrow = opcode == OPERAND_SIZE;
        if is_narrow {
            opcode = bytes.byte();
        }
        let mut rex = 0;
        if opcode & 0xf0 == REX {
            rex = opcode;
            opcode = bytes.byte();
        }
        if !matches!(opcode, 0x88..=0x8b | 0xc6 | 0xc7) {
            return None;
        }
        let width = match opcode & 1 {
            0 => Width::Byte,
            _ if rex & REX_W != 0 => Width::Quad,
            _ if is_narrow => Width::Word,
            _ => Width::Double,
        };
        let modrm = bytes.byte();
        let address = Address::decode(&mut bytes, modrm, rex)?;
        let field = modrm >> 3 & 7;
        let register = field | (rex & REX_R) << 1;
        // Without REX these numbers mean the second bytes of registers.
        let is_second = opcode & 1 == 0 && rex == 0 && field >= 4;
        let other = match opcode {
            0xc6 | 0xc7 if field == 0 => Other::Immediate(bytes.immediate(width)),
            0xc6 | 0xc7 => return None,
            _ if is_second => return None,
            0x8a | 0x8b => Other::Loaded(register),
            _ => Other::Stored(register),
        };
        Some(Self {
            length: bytes.taken,
            width,
            other,
            address,
        })
    }
}

impl Address {
    /// The operand of `modrm`, if it is in memory. Intel SDM volume 2, "64-Bit
    /// Mode ModR/M and SIB Encodings".
    #[inline(always)]
    fn decode(bytes: &mut Bytes, modrm: u8, rex: u8) -> Option<Self> {
        let (form, mut base, mut index) = (modrm >> 6, modrm & 7, None);
        if form == 3 {
            return None;
        }
        let has_index_byte = base == RSP;
        if has_index_byte {
            let sib = bytes.byte();
            base = sib & 7;
            let register = sib >> 3 & 7 | (rex & REX_X) << 2;
            index = (register != RSP).then_some((register, sib >> 6));
        }
        let is_bare = form == 0 && base == RBP;
        let base = match (is_bare, has_index_byte) {
            (false, _) => Base::Register(base | (rex & REX_B) << 3),
            (true, true) => Base::None,
            (true, false) => Base::Next,
        };
        let displacement = match form {
            0 if !is_bare => 0,
            1 => bytes.signed_byte(),
            _ => bytes.signed_double(),
        };
        Some(Self {
            base,
            index,
            displacement,
        })
    }
}

impl<V: Vcpu, M: Memory, D: Device> Emulator<'_, V, M, D> {
    /// Runs the instruction if it is a plain one, all of whose operand is the
    /// device's.
    #[inline(always)]
    pub(super) fn plain(&mut self) -> Option<Outcome> {
        let plain = Move::decode(self.next_code()?)?;
        let linear = self.sum(&plain);
        let size = plain.width.bytes();
        if self.misaligned(linear, size) {
            return None;
        }
        let intent = Intent {
            write: !matches!(plain.other, Other::Loaded(_)),
            ..Intent::default()
        };
        let first = self.caller.translate_at_once(Gva(linear), intent)?.gpa;
        let at = self.device_offset(first, size)?;
        let value = match plain.other {
            Other::Loaded(number) => {
                let read = self.device.read(at, size);
                if self.device.is_waiting() {
                    return Some(Outcome::HandUp);
                }
                let before = self.vcpu.general(number);
                let after = plain.width.merge(before, read);
                self.vcpu.set_general(number, after);
                return Some(plain.outcome());
            }
            Other::Stored(number) => self.vcpu.general(number),
            Other::Immediate(value) => value,
        };
        self.device.write(at, size, plain.width.cut(value));
        Some(plain.outcome())
    }

    /// The next 16 bytes of 64-bit code, the first lowest, if they all lie in one
    /// page.
    fn next_code(&self) -> Option<u128> {
        let intent = Intent {
            fetch: true,
            ..Intent::default()
        };
        if !self.caller.wide {
            return None;
        }
        let found = self
            .caller
            .translate_at_once(Gva(self.vcpu.rip()), intent)?;
        if found.gpa.page_offset() > PAGE_SIZE - 16 {
            return None;
        }
        // What cannot be loaded is 0, which is no such instruction.
        Some(self.caller.memory().load_16(found.gpa))
    }

    /// The linear address, which is the offset: no segment has a base.
    fn sum(&self, plain: &Move) -> u64 {
        let Address {
            base,
            index,
            displacement,
        } = plain.address;
        let base = match base {
            Base::None => 0,
            Base::Register(number) => self.vcpu.general(number),
            Base::Next => self.vcpu.rip().wrapping_add(u64::from(plain.length)),
        };
        let index = index.map_or(0, |(number, shift)| self.vcpu.general(number) << shift);
        base.wrapping_add(index).wrapping_add(displacement)
    }
}

impl Move {
    fn outcome(&self) -> Outcome {
        Outcome::Emulated {
            length: self.length,
        }
    }
}

#[cfg(test)]
mod tests;
