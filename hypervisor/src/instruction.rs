//! The instruction that exited: its bytes are fetched through the guest's own
//! tables and decoded, for the emulator and for its length, where the hardware
//! does not say that.

use crate::caller::Caller;
use crate::vm::Vm;
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction};
use machine::{CodeSize, Memory, Vcpu};
use x86::segment::SegmentName;
use x86::walk::{Intent, walk};
use x86::{Exception, Gva};

/// The longest instruction, in bytes.
const LONGEST: usize = 15;

/// An instruction of the guest's, as its bytes have it.
pub struct Fetched {
    code: [u8; LONGEST],
    size: usize,
    /// What they mean; None if they are no instruction.
    pub instruction: Option<Instruction>,
}

impl Fetched {
    /// The bytes: those of the instruction or, if it is none, all that were
    /// looked at.
    pub fn bytes(&self) -> &[u8] {
        let instruction = self.instruction.as_ref();
        let size = instruction.map_or(self.size, Instruction::len);
        self.code.get(..size).unwrap_or(&self.code)
    }
}

/// The instruction at the guest's instruction pointer, or what fetching it
/// raises.
pub fn fetch<V: Vcpu, M: Memory>(caller: &Caller<M>, vcpu: &V) -> Result<Fetched, Exception> {
    let width = vcpu.code_size();
    let rip = vcpu.rip();
    let start = linear(code_base(vcpu, width).wrapping_add(rip), width);
    let mut code = [0; LONGEST];
    let mut size = 0;
    let instruction = loop {
        let at = linear(start.wrapping_add(size as u64), width);
        let rest = code.get_mut(size..).unwrap_or(&mut []);
        size += caller
            .fetch_page(Gva(at), rest)
            .map_err(|denied| denied.exception())?;
        match decode(code.get(..size).unwrap_or(&[]), width, rip) {
            Decoded::Whole(instruction) => break Some(instruction),
            Decoded::Truncated if size < LONGEST => {}
            Decoded::Truncated | Decoded::Invalid => break None,
        }
    };
    Ok(Fetched {
        code,
        size,
        instruction,
    })
}

/// Bytes of the instruction at the guest's instruction pointer, or what
/// fetching it raises.
pub fn length<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &V) -> Result<u64, Exception> {
    match plain(vm, vcpu) {
        Some(length) => Ok(length),
        None => decoded_length(vm, vcpu),
    }
}

#[inline(never)]
fn decoded_length<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &V) -> Result<u64, Exception> {
    let fetched = fetch(&Caller::new(vm, vcpu), vcpu)?;
    let instruction = fetched.instruction.ok_or(Exception::InvalidOpcode)?;
    Ok(instruction.len() as u64)
}

/// The length, if the first bytes are an instruction without operands as
/// compilers write it, which needs no decoder. The exit alone does not say it:
/// it is the same with prefixes, and the instruction pointer is then at those.
fn plain<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &V) -> Option<u64> {
    let width = vcpu.code_size();
    let start = code_base(vcpu, width).wrapping_add(vcpu.rip());
    let intent = Intent {
        user: vcpu.cpl() == 3,
        fetch: true,
        write: false,
    };
    let at = Gva(linear(start, width));
    let found = walk(&vcpu.paging(), intent, at, &vm.memory).ok()?;
    if found.left < 4 {
        return None;
    }
    let [first, second, third, _, ..] = vm.memory.load(found.gpa, 4)?.to_le_bytes();
    match [first, second] {
        CPUID | RDMSR | WRMSR => Some(2),
        GROUP_7 if third == VMMCALL => Some(3),
        _ => None,
    }
}

const CPUID: [u8; 2] = [0x0f, 0xa2];
const RDMSR: [u8; 2] = [0x0f, 0x32];
const WRMSR: [u8; 2] = [0x0f, 0x30];
const GROUP_7: [u8; 2] = [0x0f, 0x01];
const VMMCALL: u8 = 0xd9;

/// 64-bit code has no base, though the register's hidden part keeps the one of
/// its descriptor. Intel SDM volume 3, "Segmentation in IA-32e Mode".
fn code_base<V: Vcpu>(vcpu: &V, width: CodeSize) -> u64 {
    match width {
        CodeSize::Bits64 => 0,
        _ => vcpu.segment(SegmentName::Cs).base,
    }
}

fn linear(address: u64, size: CodeSize) -> u64 {
    if size == CodeSize::Bits64 {
        address
    } else {
        address & 0xffff_ffff
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Whole(Instruction),
    Truncated,
    Invalid,
}

fn decode(code: &[u8], size: CodeSize, rip: u64) -> Decoded {
    let bits = match size {
        CodeSize::Bits16 => 16,
        CodeSize::Bits32 => 32,
        CodeSize::Bits64 => 64,
    };
    let mut decoder = Decoder::with_ip(bits, code, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => Decoded::Whole(instruction),
        DecoderError::NoMoreBytes => Decoded::Truncated,
        _ => Decoded::Invalid,
    }
}

/// Lets the decoder build its tables, which it does on the heap the first time
/// it is used: nothing allocates on an exit.
pub fn warm_up() {
    let cpuid = [0x0f, 0xa2];
    let decoded = decode(&cpuid, CodeSize::Bits64, 0);
    if !matches!(decoded, Decoded::Whole(found) if found.code() == Code::Cpuid) {
        log::error!("the instruction decoder does not know CPUID");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeMemory, FakeVtx};
    use crate::vm::Features;
    use abi::handoff::Presence;

    #[test]
    fn the_base_of_a_code_segment_counts_but_in_64_bit_code() {
        let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
        vm.memory.put(0x1000, &[0x0f, 0xa2]);
        vm.memory.put(0x5000, &[0x90]);
        for (size, expected) in [(CodeSize::Bits64, 2), (CodeSize::Bits32, 1)] {
            let mut vcpu = FakeVtx {
                size,
                ..FakeVtx::default()
            };
            vcpu.segments[SegmentName::Cs as usize].base = 0x4000;
            assert_eq!(super::length(&vm, &vcpu), Ok(expected), "{size:?}");
        }
    }

    fn length(code: &[u8], size: CodeSize) -> Option<usize> {
        match decode(code, size, 0) {
            Decoded::Whole(instruction) => Some(instruction.len()),
            Decoded::Truncated | Decoded::Invalid => None,
        }
    }

    #[test]
    fn prefixes_count() {
        let (narrow, wide) = (CodeSize::Bits16, CodeSize::Bits64);
        assert_eq!(length(&[0x0f, 0xa2], wide), Some(2));
        assert_eq!(length(&[0x66, 0x0f, 0xa2], narrow), Some(3));
        assert_eq!(length(&[0xf3, 0x48, 0x0f, 0xa2], wide), Some(4));
        assert_eq!(length(&[0x0f, 0x01, 0xd9], wide), Some(3));
        assert_eq!(decode(&[0x0f], wide, 0), Decoded::Truncated);
    }
}
