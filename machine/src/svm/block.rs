//! The VMCB's page, and the bitmap of MSRs that exit.

use crate::region::Page;
use x86::segment::Segment;
use x86::svm::vmcb::VmcbSegment;

/// Pages of the MSR permission map.
pub(crate) const MSR_MAP_PAGES: usize = 2;

/// Pages of the I/O permission map: a bit for each port, and three more for an
/// access of four bytes at the last one. AMD APM volume 2, "I/O Intercepts".
pub(crate) const IO_MAP_PAGES: usize = 3;

/// Two bits for each MSR of three ranges: read, write. AMD APM volume 2, "MSR
/// Intercepts".
pub(crate) struct MsrMap(pub &'static mut [Page]);

impl MsrMap {
    /// Where `number` has its two bits: page, byte, shift.
    fn place(number: u32) -> Option<(usize, usize, usize)> {
        let range = match number {
            0..0x2000 => 0,
            0xc000_0000..0xc000_2000 => 1,
            0xc001_0000..0xc001_2000 => 2,
            _ => return None,
        };
        let byte = range * 0x800 + (number as usize & 0x1fff) / 4;
        Some((byte / 4096, byte % 4096, (number as usize % 4) * 2))
    }

    /// Makes reads and writes of `number` exit, or not.
    pub(crate) fn intercept(&mut self, number: u32, read: bool, write: bool) {
        let Some((page, byte, shift)) = Self::place(number) else {
            return;
        };
        let Some(page) = self.0.get_mut(page) else {
            return;
        };
        let bits = u8::from(read) | u8::from(write) << 1;
        page.0[byte] = (page.0[byte] & !(3 << shift)) | bits << shift;
    }
}

/// A segment register from the VMCB.
pub(crate) fn segment(saved: &VmcbSegment) -> Segment {
    Segment {
        selector: saved.selector,
        base: saved.base,
        limit: saved.limit,
        rights: Segment::rights_from_svm(saved.attributes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msrs_have_their_bits_where_the_manual_says() {
        assert_eq!(MsrMap::place(0), Some((0, 0, 0)));
        assert_eq!(MsrMap::place(0x1b), Some((0, 6, 6)));
        assert_eq!(MsrMap::place(0xc000_0080), Some((0, 0x820, 0)));
        assert_eq!(MsrMap::place(0xc001_0117), Some((1, 0x45, 6)));
        assert_eq!(MsrMap::place(0x4000_0000), None);
    }
}
