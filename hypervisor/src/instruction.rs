//! The instruction that exited: its bytes are fetched through the guest's own
//! tables and decoded, for the emulator and for its length, where the hardware
//! does not say that.

mod trail;

use crate::caller::Caller;
use crate::vm::Vm;
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction};
use machine::{CodeSize, Memory, Vcpu, Word, Words};
use trail::Trail;
use x86::exit::Kind;
use x86::segment::SegmentName;
use x86::walk::{Denied, Intent, walk};
use x86::{Exception, Gpa, Gva, PAGE_SIZE};

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

/// The instruction at the guest's instruction pointer, or why it cannot be
/// fetched.
pub fn fetch<V: Vcpu, M: Memory>(caller: &Caller<M>, vcpu: &V) -> Result<Fetched, Denied> {
    let width = vcpu.code_size();
    let rip = vcpu.rip();
    let start = linear(code_base(vcpu, width).wrapping_add(rip), width);
    let mut code = [0; LONGEST];
    let mut size = 0;
    let instruction = loop {
        let at = linear(start.wrapping_add(size as u64), width);
        let rest = code.get_mut(size..).unwrap_or(&mut []);
        size += caller.fetch_page(Gva(at), rest)?;
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

/// Bytes of the instruction at the guest's instruction pointer, which exited as
/// one of `kind`, or what fetching it raises.
#[inline(always)]
pub fn length<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &mut V, kind: Kind) -> Result<u64, Exception> {
    match known_length(vm, vcpu, kind) {
        Some(length) => Ok(length),
        None => new_length(vm, vcpu, kind),
    }
}

/// The length, if the hardware says it or it was found before.
#[inline(always)]
pub fn known_length<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &V, kind: Kind) -> Option<u64> {
    let told = vcpu.instruction_length(kind);
    told.or_else(|| kept_length(vm, vcpu))
}

/// The length, if it was found before and everything that showed it is as it was.
#[inline(always)]
fn kept_length<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &V) -> Option<u64> {
    let lengths = vcpu.lengths()?;
    match vcpu.code_size() {
        CodeSize::Bits64 => lengths.find(vcpu.rip(), vcpu.cr3(), &vm.memory),
        CodeSize::Bits32 | CodeSize::Bits16 => None,
    }
}

#[cold]
fn new_length<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &mut V, kind: Kind) -> Result<u64, Exception> {
    let Some(found) = in_a_word(vm, vcpu) else {
        return decoded_length(vm, vcpu, kind);
    };
    let (rip, cr3) = (vcpu.rip(), vcpu.cr3());
    if vcpu.code_size() == CodeSize::Bits64
        && let Some(words) = found.words
        && let Some(lengths) = vcpu.lengths_mut()
    {
        lengths.keep(rip, cr3, found.length, words);
    }
    Ok(found.length)
}

/// As [`length`], always by the decoder; nothing is kept.
///
/// The CPU fetches code where the hypervisor sees no memory, too: firmware runs
/// from its ROM, and parks the CPUs that a system does not start in memory that
/// its map calls reserved. Code there, of which not even the first byte is seen,
/// is taken to have no prefixes.
pub fn decoded_length<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    vcpu: &V,
    kind: Kind,
) -> Result<u64, Exception> {
    let caller = Caller::new(vm, vcpu);
    if let Some(length) = bare_length(kind)
        && is_unseen(&caller, vcpu)
    {
        return Ok(length);
    }
    let fetched = fetch(&caller, vcpu).map_err(Denied::exception)?;
    let instruction = fetched.instruction.ok_or(Exception::InvalidOpcode)?;
    Ok(instruction.len() as u64)
}

/// Whether the code begins where the hypervisor sees no memory.
fn is_unseen<V: Vcpu, M: Memory>(caller: &Caller<M>, vcpu: &V) -> bool {
    let width = vcpu.code_size();
    let start = linear(code_base(vcpu, width).wrapping_add(vcpu.rip()), width);
    matches!(
        caller.fetch_page(Gva(start), &mut [0]),
        Err(Denied::NoMemory(_))
    )
}

/// Bytes of the instructions that exit as one of `kind`, without prefixes, where
/// these have no operands in their code. AMD APM volume 3, the instructions by
/// name. WBNOINVD, which exits like WBINVD, has a prefix.
const fn bare_length(kind: Kind) -> Option<u64> {
    match kind {
        Kind::Cpuid | Kind::ReadMsr | Kind::WriteMsr | Kind::Invd | Kind::Rdpmc | Kind::Rdtsc => {
            Some(2)
        }
        Kind::Hypercall | Kind::SetExtendedControl | Kind::Monitor | Kind::Mwait => Some(3),
        _ => None,
    }
}

struct Found {
    length: u64,
    /// What showed it, where that may be kept.
    words: Option<Words>,
}

/// The length of an instruction that lies in one word of one page. The exit alone
/// does not say it: it is the same with prefixes, and the instruction pointer is
/// then at those.
fn in_a_word<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &V) -> Option<Found> {
    let width = vcpu.code_size();
    let start = code_base(vcpu, width).wrapping_add(vcpu.rip());
    let intent = Intent {
        user: vcpu.cpl() == 3,
        fetch: true,
        write: false,
    };
    let trail = Trail::new(&vm.memory);
    let found = walk(&vcpu.paging(), intent, Gva(linear(start, width)), &trail).ok()?;
    let offset = found.gpa.page_offset();
    let at = Gpa(found.gpa.page().0 + offset.min(LAST_WORD));
    let word = vm.memory.load(at, 8)?;
    let skipped = found.gpa.0 - at.0;
    let code = (word >> (8 * skipped)).to_le_bytes();
    let code = code.get(..8 - skipped as usize)?;
    let length = plain(code).or_else(|| match decode(code, width, vcpu.rip()) {
        Decoded::Whole(instruction) => Some(instruction.len() as u64),
        Decoded::Truncated | Decoded::Invalid => None,
    })?;
    let words = Word::new(&vm.memory, at, word).and_then(|word| trail.words(word));
    Some(Found { length, words })
}

/// Where the last word of a page begins.
const LAST_WORD: u64 = PAGE_SIZE - 8;

/// The length of an instruction without operands as compilers write it, which
/// needs no decoder.
fn plain(code: &[u8]) -> Option<u64> {
    match code {
        [0x0f, CPUID | RDMSR | WRMSR, ..] => Some(2),
        [0x0f, GROUP_7, VMMCALL, ..] => Some(3),
        _ => None,
    }
}

const CPUID: u8 = 0xa2;
const RDMSR: u8 = 0x32;
const WRMSR: u8 = 0x30;
const GROUP_7: u8 = 0x01;
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
mod tests;
