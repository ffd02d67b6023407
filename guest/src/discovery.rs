//! Is Underlay beneath, and which instruction reaches it? Asked of CPUID alone,
//! so that nothing can go wrong where it is not.
//!
//! The hypervisor bit of leaf 1 is no evidence: Underlay leaves it clear unless
//! told otherwise. Nor is an answer of leaf 0x40000000: a CPU without a
//! hypervisor answers a leaf that it does not have with the data of its highest
//! basic leaf (Intel's manual, "CPUID: CPU Identification"). Only the exact
//! signature counts.

use crate::call::Instruction;
use abi::discovery::{
    FEATURE_VMCALL, FEATURE_VMMCALL, LEAF_FEATURES, LEAF_SIGNATURE, signature_registers,
};
use core::arch::x86_64::{__cpuid, CpuidResult};
use core::fmt;

/// Why there is no Underlay to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPresent {
    /// Nothing announces itself: no hypervisor, or a hidden one.
    Nothing,
    /// Another hypervisor is beneath; its signature.
    Other([u8; 12]),
    /// An Underlay whose call interface has another version.
    Version(u32),
    /// An Underlay that names no instruction that this library knows (the
    /// features leaf's EBX).
    Features(u32),
    /// A call was tried, and the CPU raised an exception.
    Unanswered(Instruction),
    /// A call was tried, and something else than Underlay answered (RAX).
    Stranger(u64),
}

impl fmt::Display for NotPresent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Underlay is not present: ")?;
        match self {
            Self::Nothing => f.write_str("no hypervisor announces itself in CPUID"),
            Self::Other(signature) => write!(
                f,
                "another hypervisor is beneath, with the signature \"{}\"",
                signature_text(signature)
            ),
            Self::Version(version) => write!(
                f,
                "the one beneath speaks version {version} of the call interface, this program version {}: use programs and hypervisor of the same release",
                abi::call::VERSION
            ),
            Self::Features(features) => write!(
                f,
                "the one beneath names no call instruction that this program knows (features {features:#x}): use programs and hypervisor of the same release"
            ),
            Self::Unanswered(instruction) => {
                write!(
                    f,
                    "nothing answers {instruction} (the CPU raised an exception)"
                )
            }
            Self::Stranger(rax) => {
                write!(f, "something else answered the call, with RAX = {rax:#x}")
            }
        }
    }
}

impl core::error::Error for NotPresent {}

/// A signature without its padding, as text; `?` if it is none.
pub fn signature_text(signature: &[u8; 12]) -> &str {
    core::str::from_utf8(signature).map_or("?", |text| text.trim_end_matches('\0'))
}

/// The instruction that Underlay's features leaf names.
///
/// # Errors
///
/// Why there is nothing to call.
pub fn find() -> Result<Instruction, NotPresent> {
    decide(cpuid(LEAF_SIGNATURE), || cpuid(LEAF_FEATURES))
}

/// The instruction that this CPU's vendor has for calls, by its vendor string:
/// what to try where no leaf says it.
pub fn instruction_of_cpu() -> Instruction {
    let leaf = cpuid(0);
    match &bytes([leaf.ebx, leaf.edx, leaf.ecx]) {
        b"AuthenticAMD" | b"HygonGenuine" => Instruction::Vmmcall,
        _ => Instruction::Vmcall,
    }
}

/// Whether leaf 1 says that a hypervisor is beneath.
pub fn hypervisor_bit() -> bool {
    cpuid(1).ecx >> 31 == 1
}

/// What leaf 0x40000000 shows as a signature; anything at all without a
/// hypervisor.
pub fn signature() -> [u8; 12] {
    let leaf = cpuid(LEAF_SIGNATURE);
    bytes([leaf.ebx, leaf.ecx, leaf.edx])
}

fn decide(
    first: CpuidResult,
    features: impl FnOnce() -> CpuidResult,
) -> Result<Instruction, NotPresent> {
    let registers = [first.ebx, first.ecx, first.edx];
    if registers != signature_registers() || first.eax < LEAF_FEATURES {
        return Err(stranger(bytes(registers)));
    }
    let features = features();
    if features.eax != abi::call::VERSION {
        return Err(NotPresent::Version(features.eax));
    }
    match features.ebx {
        ebx if ebx & FEATURE_VMCALL != 0 => Ok(Instruction::Vmcall),
        ebx if ebx & FEATURE_VMMCALL != 0 => Ok(Instruction::Vmmcall),
        ebx => Err(NotPresent::Features(ebx)),
    }
}

/// Text is another hypervisor's signature; anything else is a CPU's answer to
/// a leaf that it does not have.
fn stranger(signature: [u8; 12]) -> NotPresent {
    let text = signature_text(&signature);
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable && text.len() >= 4 {
        NotPresent::Other(signature)
    } else {
        NotPresent::Nothing
    }
}

fn bytes(registers: [u32; 3]) -> [u8; 12] {
    let [a, b, c] = registers.map(u32::to_le_bytes);
    let mut bytes = [0; 12];
    for (to, from) in bytes.chunks_exact_mut(4).zip([a, b, c]) {
        to.copy_from_slice(&from);
    }
    bytes
}

#[allow(unused_unsafe)] // Newer compilers know that CPUID is safe.
fn cpuid(leaf: u32) -> CpuidResult {
    // SAFETY: every x86-64 CPU has CPUID, and it changes nothing.
    unsafe { __cpuid(leaf) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(eax: u32, [ebx, ecx, edx]: [u32; 3]) -> CpuidResult {
        CpuidResult { eax, ebx, ecx, edx }
    }
    fn words(text: &[u8; 12]) -> [u32; 3] {
        core::array::from_fn(|i| {
            u32::from_le_bytes(core::array::from_fn(|byte| text[4 * i + byte]))
        })
    }
    fn underlay(version: u32, features: u32) -> Result<Instruction, NotPresent> {
        let first = leaf(LEAF_FEATURES, words(&abi::discovery::SIGNATURE));
        decide(first, || leaf(version, [features, 0, 0]))
    }
    fn other(eax: u32, registers: [u32; 3]) -> Result<Instruction, NotPresent> {
        decide(leaf(eax, registers), || panic!("not asked"))
    }

    #[test]
    fn the_features_leaf_names_the_instruction() {
        assert_eq!(underlay(1, 1), Ok(Instruction::Vmcall));
        assert_eq!(underlay(1, 2), Ok(Instruction::Vmmcall));
        assert_eq!(underlay(1, 4), Err(NotPresent::Features(4)));
        assert_eq!(underlay(2, 1), Err(NotPresent::Version(2)));
    }

    #[test]
    fn other_hypervisors_are_named() {
        let kvm = *b"KVMKVMKVM\0\0\0";
        assert_eq!(other(0, words(&kvm)), Err(NotPresent::Other(kvm)));
        let text = NotPresent::Other(kvm).to_string();
        assert!(text.ends_with("\"KVMKVMKVM\""), "{text}");
    }

    #[test]
    fn the_highest_basic_leaf_is_no_hypervisor() {
        assert_eq!(other(7, [0x340, 0x340, 0]), Err(NotPresent::Nothing));
        assert_eq!(other(0, [0, 0, 0]), Err(NotPresent::Nothing));
    }

    #[test]
    fn a_signature_without_the_features_leaf_is_not_believed() {
        let first = leaf(LEAF_SIGNATURE, words(&abi::discovery::SIGNATURE));
        assert!(decide(first, || panic!("not asked")).is_err());
    }

    #[test]
    fn the_development_machine_is_not_taken_for_underlay() {
        let found = find();
        if hypervisor_bit() && signature() != abi::discovery::SIGNATURE {
            assert_eq!(found, Err(NotPresent::Other(signature())));
        }
    }
}
