//! Memory-type range registers: which memory type the firmware gave to a
//! physical address. Under EPT they no longer act on the guest by themselves,
//! so the nested tables must repeat what they say. Intel SDM volume 3, "Memory
//! Type Range Registers (MTRRs)".

use crate::msr;

/// A memory type, by its encoding in MTRRs and EPT entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MemoryType {
    /// Uncacheable.
    Uncacheable = 0,
    /// Write combining.
    WriteCombining = 1,
    /// Write-through.
    WriteThrough = 4,
    /// Write-protected.
    WriteProtected = 5,
    /// Write-back.
    WriteBack = 6,
}

impl MemoryType {
    /// The type that an MTRR's low byte names; reserved ones count as
    /// uncacheable, the type that is right for anything.
    pub const fn from_bits(bits: u64) -> Self {
        match bits & 0xff {
            1 => Self::WriteCombining,
            4 => Self::WriteThrough,
            5 => Self::WriteProtected,
            6 => Self::WriteBack,
            _ => Self::Uncacheable,
        }
    }

    /// The type where two variable ranges overlap. Intel SDM volume 3, "MTRR
    /// Precedences".
    const fn merge(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a as u8 == b as u8 => a,
            (Self::WriteThrough, Self::WriteBack) | (Self::WriteBack, Self::WriteThrough) => {
                Self::WriteThrough
            }
            _ => Self::Uncacheable,
        }
    }
}

/// The most variable ranges that are read.
pub const VARIABLE_MAX: usize = 32;
/// How many fixed-range registers there are.
pub const FIXED: usize = 11;
/// The fixed ranges end here.
pub const FIXED_END: u64 = 1 << 20;

const ENABLED: u64 = 1 << 11;
const FIXED_ENABLED: u64 = 1 << 10;
const VALID: u64 = 1 << 11;

/// The numbers of the fixed-range registers, lowest addresses first.
pub const FIXED_NUMBERS: [u32; FIXED] = [
    msr::MTRR_FIXED_64K,
    msr::MTRR_FIXED_16K,
    msr::MTRR_FIXED_16K + 1,
    msr::MTRR_FIXED_4K,
    msr::MTRR_FIXED_4K + 1,
    msr::MTRR_FIXED_4K + 2,
    msr::MTRR_FIXED_4K + 3,
    msr::MTRR_FIXED_4K + 4,
    msr::MTRR_FIXED_4K + 5,
    msr::MTRR_FIXED_4K + 6,
    msr::MTRR_FIXED_4K + 7,
];

/// One variable range, as its two registers hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variable {
    /// IA32_MTRR_PHYSBASEn.
    pub base: u64,
    /// IA32_MTRR_PHYSMASKn.
    pub mask: u64,
}

/// A reading of all MTRRs of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtrrs {
    /// IA32_MTRR_DEF_TYPE.
    pub default_type: u64,
    /// The fixed-range registers in the order of [`FIXED_NUMBERS`].
    pub fixed: [u64; FIXED],
    /// The variable ranges; invalid ones do nothing.
    pub variable: [Variable; VARIABLE_MAX],
}

impl Mtrrs {
    /// What a CPU without MTRRs does: everything write-back.
    pub const fn none() -> Self {
        let variable = [Variable { base: 0, mask: 0 }; VARIABLE_MAX];
        Self {
            default_type: ENABLED | 6,
            fixed: [0; FIXED],
            variable,
        }
    }

    /// Whether they are on. Off, everything is uncacheable.
    pub const fn is_on(&self) -> bool {
        self.default_type & ENABLED != 0
    }

    /// The type of the naturally aligned `size` bytes (a power of two of at
    /// least 4096) at `start`, or None if they have several.
    pub fn of_range(&self, start: u64, size: u64) -> Option<MemoryType> {
        if self.default_type & ENABLED == 0 {
            return Some(MemoryType::Uncacheable);
        }
        if start < FIXED_END && self.default_type & FIXED_ENABLED != 0 {
            return self.of_fixed(start, size);
        }
        self.of_variable(start, size)
    }

    fn of_fixed(&self, start: u64, size: u64) -> Option<MemoryType> {
        if size > PAGE {
            return None;
        }
        let (register, unit) = match start {
            0..0x8_0000 => (0, start >> 16),
            0x8_0000..0xc_0000 => {
                let unit = (start - 0x8_0000) >> 14;
                (1 + (unit >> 3), unit)
            }
            _ => {
                let unit = (start - 0xc_0000) >> 12;
                (3 + (unit >> 3), unit)
            }
        };
        let value = self.fixed.get(register as usize).copied().unwrap_or(0);
        Some(MemoryType::from_bits(value >> ((unit & 7) * 8)))
    }

    fn of_variable(&self, start: u64, size: u64) -> Option<MemoryType> {
        let inside = size - 1;
        let mut merged = None;
        for range in self.variable.iter().filter(|range| range.mask & VALID != 0) {
            let mask = range.mask & !(PAGE - 1);
            let matches = (start ^ range.base) & mask & !inside == 0;
            if !matches {
                continue;
            }
            if mask & inside != 0 {
                return None;
            }
            let found = MemoryType::from_bits(range.base);
            merged = Some(merged.map_or(found, |other: MemoryType| other.merge(found)));
        }
        Some(merged.unwrap_or(MemoryType::from_bits(self.default_type)))
    }
}

const PAGE: u64 = crate::PAGE_SIZE;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The manual's rule for one address, written without ranges.
    fn of_address(mtrrs: &Mtrrs, address: u64) -> MemoryType {
        mtrrs
            .of_range(address & !(PAGE - 1), PAGE)
            .expect("one page has one type")
    }

    fn firmware() -> Mtrrs {
        let mut mtrrs = Mtrrs::none();
        mtrrs.default_type = ENABLED | FIXED_ENABLED;
        mtrrs.fixed = [0x0606_0606_0606_0606; FIXED];
        mtrrs.fixed[2] = 0; // 0xa0000 to 0xbffff: the VGA window
        mtrrs.variable[0] = Variable {
            base: 6,
            mask: VALID | 0xff_8000_0000,
        };
        mtrrs.variable[1] = Variable {
            base: 0x7f00_0000,
            mask: VALID | 0xff_ff00_0000,
        };
        mtrrs
    }

    #[test]
    fn a_firmwares_usual_map() {
        let mtrrs = firmware();
        assert_eq!(of_address(&mtrrs, 0), MemoryType::WriteBack);
        assert_eq!(of_address(&mtrrs, 0x9_f000), MemoryType::WriteBack);
        assert_eq!(of_address(&mtrrs, 0xa_0000), MemoryType::Uncacheable);
        assert_eq!(of_address(&mtrrs, 0xc_0000), MemoryType::WriteBack);
        assert_eq!(of_address(&mtrrs, 0x7eff_f000), MemoryType::WriteBack);
        assert_eq!(of_address(&mtrrs, 0x7f00_0000), MemoryType::Uncacheable);
        assert_eq!(of_address(&mtrrs, 0x8000_0000), MemoryType::Uncacheable);
        assert_eq!(mtrrs.of_range(0x4000_0000, 1 << 30), None);
        assert_eq!(
            mtrrs.of_range(0x2000_0000, 2 << 20),
            Some(MemoryType::WriteBack)
        );
        assert_eq!(mtrrs.of_range(0, 2 << 20), None);
    }

    #[test]
    fn disabled_means_uncacheable() {
        let mut mtrrs = firmware();
        mtrrs.default_type = 6;
        assert_eq!(mtrrs.of_range(0, 1 << 30), Some(MemoryType::Uncacheable));
    }

    fn any_variable() -> impl Strategy<Value = Variable> {
        let types = prop::sample::select(vec![0u64, 1, 4, 5, 6]);
        (types, 12u32..34, any::<u64>(), any::<bool>()).prop_map(|(kind, bits, at, valid)| {
            let mask = (!0u64 << bits) & 0xf_ffff_f000;
            let valid = if valid { VALID } else { 0 };
            Variable {
                base: (at & mask) | kind,
                mask: mask | valid,
            }
        })
    }

    proptest! {
        /// A range that claims one type has it at every page looked at, and
        /// overlaps follow the precedence rules.
        #[test]
        fn ranges_agree_with_their_pages(
            ranges in prop::collection::vec(any_variable(), 0..8),
            bits in 12u32..31,
            at in 0u64..(1 << 34),
            probes in prop::collection::vec(any::<u64>(), 16),
        ) {
            let mut mtrrs = firmware();
            for (slot, range) in mtrrs.variable.iter_mut().zip(ranges) {
                *slot = range;
            }
            let size = 1u64 << bits;
            let start = at & !(size - 1);
            if let Some(kind) = mtrrs.of_range(start, size) {
                for probe in probes {
                    let page = start + (probe & (size - 1));
                    prop_assert_eq!(of_address(&mtrrs, page), kind);
                }
            }
        }
    }
}
