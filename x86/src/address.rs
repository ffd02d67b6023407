//! Addresses that know their space: a guest-physical address is never passed
//! where a guest-virtual or a host-physical one is wanted, and arithmetic on
//! them is checked.

use core::fmt;

/// Bytes of the smallest page.
pub const PAGE_SIZE: u64 = 4096;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// This address plus `bytes`, unless it leaves 64 bits.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
            /// The offset of this address in its 4 KiB page, in bytes.
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }
            /// Bytes from this address to the end of its 4 KiB page.
            pub const fn left_in_page(self) -> u64 {
                PAGE_SIZE - self.page_offset()
            }
            /// The first address of the 4 KiB page.
            pub const fn page(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// A guest-physical address: what the guest's page tables yield and nested
    /// paging translates.
    Gpa
}
address! {
    /// A guest-virtual address: linear, before the guest's own paging.
    Gva
}
address! {
    /// A host-physical address: what is on the memory bus.
    Hpa
}

/// Whether a linear address is canonical for an address width of `bits`
/// (48 for 4-level paging, 57 for 5-level).
/// Intel SDM volume 1, "Canonical Addressing".
pub const fn is_canonical(linear: u64, bits: u32) -> bool {
    let unused = 64 - bits;
    ((linear << unused) as i64 >> unused) as u64 == linear
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_space_ends_where_the_manual_says() {
        assert!(is_canonical(0x0000_7fff_ffff_ffff, 48));
        assert!(!is_canonical(0x0000_8000_0000_0000, 48));
        assert!(!is_canonical(0xffff_7fff_ffff_ffff, 48));
        assert!(is_canonical(0xffff_8000_0000_0000, 48));
        assert!(is_canonical(0x0000_8000_0000_0000, 57));
    }
}
