//! What the exits of one CPU cost, by kind: how many there were, how long the
//! guest waited for them, and how that is spread.

use abi::report::{BUCKETS, Exits};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use x86::exit::Kind;

/// Figures by [`Kind`]. Written in `run` by the CPU that has them and by no
/// other, so that counting needs no locked instruction. Any CPU may read them:
/// each number is whole, but two of them may be of different moments.
pub struct Statistics([Figures; Kind::ALL.len()]);

/// Figures of one kind. Times are ticks from an exit to the next entry.
#[derive(Default)]
struct Figures {
    total: AtomicU64,
    most: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// A value of the time-stamp counter in the halves in which the CPU gives it:
/// between two of them, the upper halves are almost always the same.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    low: u32,
    high: u32,
}

impl From<u64> for Moment {
    #[inline]
    fn from(ticks: u64) -> Self {
        Self {
            low: ticks as u32,
            high: (ticks >> 32) as u32,
        }
    }
}

impl From<Moment> for u64 {
    fn from(moment: Moment) -> Self {
        Self::from(moment.high) << 32 | Self::from(moment.low)
    }
}

impl Default for Statistics {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Figures::default()))
    }
}

impl Statistics {
    /// Counts an exit that was answered between these moments.
    #[inline(always)]
    pub fn add(&self, kind: Kind, begin: Moment, end: Moment) {
        let Some(figures) = self.0.get(kind as usize) else {
            return;
        };
        let (ticks, borrow) = end.low.overflowing_sub(begin.low);
        match end
            .high
            .wrapping_sub(begin.high)
            .wrapping_sub(borrow.into())
        {
            0 => figures.add(ticks.into(), bucket(ticks)),
            high => figures.add_long(Moment { low: ticks, high }),
        }
    }

    /// All exits so far.
    pub fn total(&self) -> u64 {
        let counts = self.0.iter().map(Figures::count);
        counts.fold(0, u64::wrapping_add)
    }

    /// What there is of each kind, of all kinds; None for those that did not
    /// happen.
    pub fn kinds(&self) -> impl Iterator<Item = Option<Exits<'static>>> {
        self.all().map(|row| Some(row).filter(|row| row.count > 0))
    }

    /// What there is of each kind that happened.
    pub fn rows(&self) -> impl Iterator<Item = Exits<'static>> {
        self.kinds().flatten()
    }

    /// What there is of each kind, in the order of their numbers.
    pub fn all(&self) -> impl ExactSizeIterator<Item = Exits<'static>> {
        let rows = self.0.iter().zip(Kind::ALL);
        rows.map(|(figures, kind)| figures.read(kind))
    }

    /// Forgets everything. Only for the CPU that has them.
    pub fn reset(&self) {
        for figures in &self.0 {
            let numbers = [&figures.total, &figures.most];
            for number in numbers.into_iter().chain(&figures.buckets) {
                number.store(0, Relaxed);
            }
        }
    }
}

impl Figures {
    #[inline(always)]
    fn add(&self, ticks: u64, bucket: usize) {
        increase(&self.total, ticks);
        if ticks > self.most.load(Relaxed) {
            self.most.store(ticks, Relaxed);
        }
        if let Some(count) = self.buckets.get(bucket) {
            increase(count, 1);
        }
    }

    /// Negative, if the exit was the write that set the counter back.
    #[cold]
    fn add_long(&self, ticks: Moment) {
        match i64::try_from(u64::from(ticks)) {
            Ok(_) => self.add(ticks.into(), BUCKETS - 1),
            Err(_) => self.add(0, 0),
        }
    }

    fn count(&self) -> u64 {
        let counts = self.buckets.iter().map(|count| count.load(Relaxed));
        counts.fold(0, u64::wrapping_add)
    }

    fn read(&self, kind: Kind) -> Exits<'static> {
        Exits {
            kind: kind.name(),
            count: self.count(),
            total: self.total.load(Relaxed),
            most: self.most.load(Relaxed),
            buckets: self.buckets.each_ref().map(|count| count.load(Relaxed)),
        }
    }
}

/// In which bucket these ticks are counted.
#[inline]
fn bucket(ticks: u32) -> usize {
    (ticks | 1).ilog2() as usize
}

/// Adds to a number that no other CPU writes.
#[inline]
fn increase(number: &AtomicU64, by: u64) {
    number.store(number.load(Relaxed).wrapping_add(by), Relaxed);
}

/// `cpuid 12, rdmsr 3`: the kinds that happened.
impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, row) in self.rows().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{} {}", row.kind, row.count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_are_powers_of_two_and_the_last_has_no_end() {
        for (ticks, bucket) in [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 1),
            (4, 2),
            (1023, 9),
            (1 << 31, 31),
            (1 << 32, 31),
            (i64::MAX as u64, 31),
            (0u64.wrapping_sub(7), 0),
        ] {
            let statistics = Statistics::default();
            statistics.add(Kind::ReadMsr, 7.into(), ticks.wrapping_add(7).into());
            let row = statistics.rows().next().expect("one kind happened");
            let filled = row.buckets.iter().position(|count| *count == 1);
            assert_eq!((row.kind, filled), ("rdmsr", Some(bucket)), "{ticks}");
        }
    }

    proptest! {
        #[test]
        fn figures_of_a_kind_are_of_all_its_exits(
            times in prop::collection::vec((0usize..Kind::ALL.len(), 0u64..1 << 40), 1..50),
        ) {
            let statistics = Statistics::default();
            for (kind, ticks) in &times {
                statistics.add(Kind::ALL[*kind], 7.into(), (7 + *ticks).into());
            }
            prop_assert_eq!(statistics.total(), times.len() as u64);
            for row in statistics.rows() {
                let own = times.iter().filter(|time| Kind::ALL[time.0].name() == row.kind);
                let own: Vec<u64> = own.map(|time| time.1).collect();
                prop_assert_eq!(row.count, own.len() as u64);
                prop_assert_eq!(row.total, own.iter().sum::<u64>());
                prop_assert_eq!(Some(&row.most), own.iter().max());
                prop_assert_eq!(row.buckets.iter().sum::<u64>(), row.count);
            }
        }
    }
}
