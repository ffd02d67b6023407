//! How a guest finds Underlay: two CPUID leaves in the range that the CPU
//! vendors leave to hypervisors. `presence = hidden` takes them away.

/// The leaf with the signature in EBX, ECX, EDX and the highest leaf in EAX.
pub const LEAF_SIGNATURE: u32 = 0x4000_0000;
/// The leaf with the ABI version in EAX and the features in EBX.
pub const LEAF_FEATURES: u32 = 0x4000_0001;
/// The leaf of the ways to print: EAX is the port, ECX:EBX the guest-physical
/// address of the register's page. All 0 where they are not offered.
pub const LEAF_PRINT: u32 = 0x4000_0002;
/// The highest hypervisor leaf.
pub const LEAF_MAX: u32 = LEAF_PRINT;
/// The last leaf of the range that belongs to hypervisors.
pub const LEAF_RANGE_END: u32 = 0x4000_FFFF;

/// `UnderlayHV`, padded with zeros.
pub const SIGNATURE: [u8; 12] = *b"UnderlayHV\0\0";

/// Feature bit in EBX: VMCALL is the instruction of a call.
pub const FEATURE_VMCALL: u32 = 1 << 0;
/// Feature bit in EBX: VMMCALL is the instruction of a call.
pub const FEATURE_VMMCALL: u32 = 1 << 1;

/// Feature bit in EBX: the three ways to print are offered.
pub const FEATURE_PRINT: u32 = 1 << 2;

/// The port that prints each byte written to it: the one of the debug console
/// of Bochs and QEMU. Reads give [`PRINT_READY`].
pub const PRINT_PORT: u16 = 0xe9;
/// What the print port and the print register read as.
pub const PRINT_READY: u8 = 0xe9;

/// The signature as CPUID returns it: EBX, ECX, EDX.
pub const fn signature_registers() -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = SIGNATURE;
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
        u32::from_le_bytes([i, j, k, l]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_spell_the_signature() {
        let spelt: [u8; 12] = {
            let words = signature_registers().map(u32::to_le_bytes);
            core::array::from_fn(|i| words[i / 4][i % 4])
        };
        assert_eq!(&spelt, b"UnderlayHV\0\0");
    }
}
