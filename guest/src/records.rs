//! Records as services write them into a buffer of the caller's.

use abi::record::{CpuRecord, ExitsRecord, OddityRecord, ServiceRecord, TraceRecord, VmRecord};
use core::marker::PhantomData;

/// What can be read out of a buffer.
pub trait Record: Sized {
    /// Bytes of one.
    const SIZE: usize;

    /// The one that these bytes, as many as one has, hold.
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! record {
    ($($record:ident)*) => {$(
        impl Record for $record {
            const SIZE: usize = $record::SIZE;
            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_bytes)
            }
        }
    )*};
}
record! { ServiceRecord ExitsRecord OddityRecord TraceRecord CpuRecord VmRecord }

/// The records that a call brought: an iterator over them.
#[derive(Clone, Debug)]
pub struct Records<'a, T> {
    bytes: &'a [u8],
    kind: PhantomData<T>,
}

impl<'a, T: Record> Records<'a, T> {
    /// The first `written` in `buffer`.
    pub(crate) fn new(buffer: &'a [u8], written: u64) -> Self {
        let bytes = usize::try_from(written).unwrap_or(usize::MAX);
        let bytes = bytes.saturating_mul(T::SIZE).min(buffer.len());
        Self {
            bytes: &buffer[..bytes],
            kind: PhantomData,
        }
    }
}

impl<T: Record> Iterator for Records<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let (first, rest) = self.bytes.split_at_checked(T::SIZE)?;
        self.bytes = rest;
        T::read(first)
    }
}

/// All records of a table that tells part after part: `part` gets a buffer and
/// the number of the first record to tell of, and says how many there are.
#[cfg(feature = "std")]
pub(crate) fn all<T: Record, E>(
    mut part: impl for<'a> FnMut(&'a mut [u8], u64) -> Result<(Records<'a, T>, u64), E>,
) -> Result<Vec<T>, E> {
    const AT_ONCE: usize = 32;
    let mut buffer = vec![0; AT_ONCE * T::SIZE];
    let mut records = Vec::new();
    loop {
        let before = records.len();
        let (some, all) = part(&mut buffer, before as u64)?;
        records.extend(some);
        if records.len() as u64 >= all || records.len() == before {
            return Ok(records);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::call::SERVICES;

    fn tell(into: &mut [u8], first: u64) -> Result<(Records<'_, ServiceRecord>, u64), ()> {
        let rows = SERVICES.iter().skip(first as usize).take(10);
        let mut written = 0;
        for (place, row) in into.chunks_exact_mut(ServiceRecord::SIZE).zip(rows) {
            place.copy_from_slice(&ServiceRecord::from(row).to_bytes());
            written += 1;
        }
        Ok((Records::new(into, written), SERVICES.len() as u64))
    }

    #[test]
    fn a_table_that_comes_in_parts_is_whole_and_in_order() {
        let rows = all(tell).unwrap();
        let numbers: Vec<u64> = rows.iter().map(|row| row.number.into()).collect();
        assert!(numbers.iter().copied().eq(0..SERVICES.len() as u64));
    }

    #[test]
    fn no_more_records_are_read_than_fit_their_buffer() {
        let buffer = [0; ServiceRecord::SIZE + 5];
        assert_eq!(Records::<ServiceRecord>::new(&buffer, u64::MAX).count(), 1);
        assert_eq!(Records::<ServiceRecord>::new(&buffer, 0).count(), 0);
    }
}
