//! How many bytes of a value count.

/// 1, 2, 4 or 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Width {
    /// A byte.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Double = 4,
    /// 64 bits.
    Quad = 8,
}

impl Width {
    /// In bytes.
    pub const fn bytes(self) -> u8 {
        self as u8
    }

    /// In bits.
    pub const fn bits(self) -> u32 {
        8 * self as u32
    }

    /// The bits that count.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// `value` without the bits that do not count.
    pub const fn cut(self, value: u64) -> u64 {
        value & self.mask()
    }

    /// The highest bit that counts.
    pub const fn top(self, value: u64) -> bool {
        value >> (self.bits() - 1) & 1 != 0
    }

    /// `value` with its top bit in all bits above.
    pub const fn extend(self, value: u64) -> u64 {
        let unused = 64 - self.bits();
        ((value << unused) as i64 >> unused) as u64
    }

    /// `value` where this width of it is put into `old`, as a register or a
    /// counter takes it: 32 bits clear the upper half.
    pub const fn merge(self, old: u64, value: u64) -> u64 {
        match self {
            Self::Double | Self::Quad => self.cut(value),
            Self::Byte | Self::Word => old & !self.mask() | self.cut(value),
        }
    }
}
