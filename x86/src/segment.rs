//! Segments: descriptors as they lie in a descriptor table, and the access
//! rights as VT-x and AMD-V keep them.

/// A segment register's name. The numbers are those of instructions and of
/// VT-x' exit information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
}

impl SegmentName {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Es,
        Self::Cs,
        Self::Ss,
        Self::Ds,
        Self::Fs,
        Self::Gs,
        Self::Ldtr,
        Self::Tr,
    ];

    /// The one with this number, of those that an instruction can name.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Es),
            1 => Some(Self::Cs),
            2 => Some(Self::Ss),
            3 => Some(Self::Ds),
            4 => Some(Self::Fs),
            5 => Some(Self::Gs),
            _ => None,
        }
    }
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// Linear base.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u32,
    /// Type, S, DPL, P in bits 0 to 7 and AVL, L, D/B, G in bits 12 to 15, as
    /// in a descriptor's second word; bit 16 set: unusable. Intel SDM volume 3,
    /// "Guest Register State", "Format of Access Rights".
    pub rights: u32,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableRegister {
    /// Linear base.
    pub base: u64,
    /// The offset of the table's last byte.
    pub limit: u32,
}

/// `Segment::rights`: the segment is unusable.
pub const UNUSABLE: u32 = 1 << 16;
/// `Segment::rights`: a code segment for 64-bit mode.
pub const LONG: u32 = 1 << 13;
/// `Segment::rights`: default operand size is 32 bits.
pub const DEFAULT_BIG: u32 = 1 << 14;
/// `Segment::rights`: a code or data segment, not a system one.
pub const CODE_OR_DATA: u32 = 1 << 4;
/// `Segment::rights`: of a code segment that it can be read, of a data segment
/// that it can be written.
pub const READABLE_OR_WRITABLE: u32 = 1 << 1;
/// `Segment::rights`: of a data segment that it extends from its limit upwards.
pub const EXPAND_DOWN: u32 = 1 << 2;
/// `Segment::rights`: a code segment.
pub const CODE: u32 = 1 << 3;
/// `Segment::rights`: present.
pub const PRESENT: u32 = 1 << 7;
/// `Segment::rights` of a code or data segment: it has been loaded.
pub const ACCESSED: u32 = 1 << 0;
/// `Segment::rights` of a code segment: it runs at its caller's privilege.
pub const CONFORMING: u32 = 1 << 2;
/// `Segment::rights` of a TSS: its task runs, or waits for one that it called.
pub const BUSY: u32 = 1 << 1;

/// A busy 64-bit TSS at 0: what TR must look like at a VM entry where the
/// firmware has loaded none. Intel SDM volume 3, "Checks on Guest Segment
/// Registers".
pub const NO_TASK: Segment = Segment {
    selector: 0,
    base: 0,
    limit: 0xffff,
    rights: 0x8b,
};

impl Segment {
    /// A segment register that holds a null selector.
    pub const fn null(selector: u16) -> Self {
        Self {
            selector,
            base: 0,
            limit: 0,
            rights: UNUSABLE,
        }
    }

    /// The segment behind `selector`, whose descriptor's two quadwords are
    /// `low` and, for system segments in 64-bit mode, `high`. Intel SDM volume
    /// 3, "Segment Descriptors".
    pub const fn from_descriptor(selector: u16, low: u64, high: u64) -> Self {
        let rights = ((low >> 40) & 0xf0ff) as u32;
        let raw_limit = ((low & 0xffff) | ((low >> 32) & 0xf_0000)) as u32;
        let granular = low & (1 << 55) != 0;
        let limit = if granular {
            (raw_limit << 12) | 0xfff
        } else {
            raw_limit
        };
        let base = ((low >> 16) & 0xff_ffff) | ((low >> 32) & 0xff00_0000);
        let system = rights & CODE_OR_DATA == 0;
        let base = if system { base | (high << 32) } else { base };
        let rights = if rights & PRESENT == 0 {
            rights | UNUSABLE
        } else {
            rights
        };
        Self {
            selector,
            base,
            limit,
            rights,
        }
    }

    /// The segment behind `selector` in virtual-8086 mode. Intel SDM volume 3,
    /// "Checks on Guest Segment Registers".
    pub const fn virtual_8086(selector: u16) -> Self {
        Self {
            selector,
            base: (selector as u64) << 4,
            limit: 0xffff,
            rights: 0xf3,
        }
    }

    /// The descriptor privilege level: of SS, the guest's CPL.
    pub const fn dpl(&self) -> u8 {
        (self.rights >> 5 & 3) as u8
    }

    /// The rights in the VMCB's form: type, S, DPL, P, AVL, L, D/B, G packed
    /// into 12 bits. An unusable segment is one that is not present. AMD APM
    /// volume 2, "VMCB State Save Area", "Segment State in the VMCB".
    pub const fn svm_attributes(&self) -> u16 {
        if self.rights & UNUSABLE != 0 {
            return 0;
        }
        ((self.rights & 0xff) | ((self.rights >> 4) & 0xf00)) as u16
    }

    /// The rights of a segment whose VMCB attributes are `attributes`.
    pub const fn rights_from_svm(attributes: u16) -> u32 {
        let attributes = attributes as u32;
        let rights = (attributes & 0xff) | ((attributes & 0xf00) << 4);
        if attributes & PRESENT == 0 {
            rights | UNUSABLE
        } else {
            rights
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_long_code_descriptor() {
        let segment = Segment::from_descriptor(0x38, 0x00af_9b00_0000_ffff, 0);
        assert_eq!(segment.base, 0);
        assert_eq!(segment.limit, 0xffff_ffff);
        assert_eq!(segment.rights, 0xa09b);
        assert_eq!(segment.svm_attributes(), 0xa9b);
        assert_eq!(Segment::rights_from_svm(0xa9b), 0xa09b);
    }

    #[test]
    fn a_task_descriptor_has_a_64_bit_base() {
        let segment = Segment::from_descriptor(0x40, 0x1200_8b34_5678_0067, 0xffff_8000);
        assert_eq!(segment.base, 0xffff_8000_1234_5678);
        assert_eq!(segment.limit, 0x67);
        assert_eq!(segment.rights, 0x8b);
    }
}
