//! The length of the instruction that exited, where the hardware does not say
//! it: its bytes are fetched through the guest's own tables and decoded.

use crate::caller::Caller;
use crate::vm::Vm;
use iced_x86::{Decoder, DecoderError, DecoderOptions};
use machine::{CodeSize, Memory, Vcpu};
use x86::{Exception, Gva};

/// The longest instruction, in bytes.
const LONGEST: usize = 15;

/// Bytes of the instruction at the guest's instruction pointer, or what
/// fetching it raises.
pub fn length<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &V) -> Result<u64, Exception> {
    let caller = Caller::new(vm, vcpu);
    let size = vcpu.code_size();
    let start = linear(vcpu.code_base().wrapping_add(vcpu.rip()), size);
    let mut code = [0; LONGEST];
    let mut fetched = 0;
    loop {
        let at = linear(start.wrapping_add(fetched as u64), size);
        let rest = code.get_mut(fetched..).unwrap_or(&mut []);
        fetched += caller
            .fetch_page(Gva(at), rest)
            .map_err(|denied| denied.exception())?;
        let so_far = code.get(..fetched).unwrap_or(&[]);
        match decode(so_far, size) {
            Decoded::Length(length) => return Ok(length),
            Decoded::Truncated if fetched < LONGEST => {}
            Decoded::Truncated | Decoded::Invalid => return Err(Exception::InvalidOpcode),
        }
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
    Length(u64),
    Truncated,
    Invalid,
}

fn decode(code: &[u8], size: CodeSize) -> Decoded {
    let bits = match size {
        CodeSize::Bits16 => 16,
        CodeSize::Bits32 => 32,
        CodeSize::Bits64 => 64,
    };
    let mut decoder = Decoder::new(bits, code, DecoderOptions::NONE);
    let instruction = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => Decoded::Length(instruction.len() as u64),
        DecoderError::NoMoreBytes => Decoded::Truncated,
        _ => Decoded::Invalid,
    }
}

/// Lets the decoder build its tables, which it does on the heap the first time
/// it is used: nothing allocates on an exit.
pub fn warm_up() {
    let cpuid = [0x0f, 0xa2];
    if decode(&cpuid, CodeSize::Bits64) != Decoded::Length(2) {
        log::error!("the instruction decoder does not know CPUID");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_count() {
        assert_eq!(decode(&[0x0f, 0xa2], CodeSize::Bits64), Decoded::Length(2));
        assert_eq!(
            decode(&[0x66, 0x0f, 0xa2], CodeSize::Bits16),
            Decoded::Length(3)
        );
        assert_eq!(
            decode(&[0xf3, 0x48, 0x0f, 0xa2], CodeSize::Bits64),
            Decoded::Length(4)
        );
        assert_eq!(
            decode(&[0x0f, 0x01, 0xd9], CodeSize::Bits64),
            Decoded::Length(3)
        );
        assert_eq!(decode(&[0x0f], CodeSize::Bits64), Decoded::Truncated);
    }
}
