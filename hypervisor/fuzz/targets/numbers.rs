//! Numbers from the fuzzer's bytes; zeros behind their end.

/// What is left of the bytes.
pub struct Numbers<'a>(pub &'a [u8]);

impl Numbers<'_> {
    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let size = N.min(self.0.len());
        let (head, tail) = self.0.split_at(size);
        self.0 = tail;
        let mut bytes = [0; N];
        bytes[..size].copy_from_slice(head);
        bytes
    }

    /// The next 8 bytes as a number.
    pub fn quad(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// The next 4 bytes as a number.
    pub fn double(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }
}
