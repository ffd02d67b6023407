//! What the exits of one CPU cost, by kind: how many there were, how long the
//! guest waited for them, and how that is spread.

use abi::report::{BUCKETS, Exits};
use core::fmt;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use spin::Mutex;
use x86::exit::Kind;

const KINDS: usize = Kind::ALL.len();

/// Figures by [`Kind`]. Written in `run` by the CPU that has them, or that runs the
/// vCPU whose they are, and by no other, so that counting needs no locked
/// instruction. Any CPU may read them: each number is whole, but two of them may
/// be of different moments.
pub struct Counts([Figures; KINDS]);

/// Those of a CPU, which any CPU may let begin anew.
pub struct Statistics {
    counts: Counts,
    /// What there was of each kind when it was made 0, which a CPU cannot do
    /// with numbers that another one is adding to. Taken by who reads or resets,
    /// never on the way of an exit.
    base: Mutex<&'static [[AtomicU64; BASE]]>,
}

/// Words of a kind's base: ticks, and the buckets.
const BASE: usize = 1 + BUCKETS;

/// Figures of one kind. Times are ticks from an exit to the next entry. How many
/// exits there were is the sum of the buckets.
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

impl Statistics {
    /// Bytes of the words that [`Self::new`] wants.
    pub const BASE_BYTES: usize = KINDS * BASE * size_of::<AtomicU64>();

    /// Figures without an exit, with words that are 0 in which to note what there
    /// was at a reset. Without them there is none.
    pub fn new(base: &'static [AtomicU64]) -> Self {
        let (base, _) = base.as_chunks();
        Self {
            counts: Counts::default(),
            base: Mutex::new(base),
        }
    }

    /// Counts an exit that was answered between these moments.
    #[inline(always)]
    pub fn add(&self, kind: Kind, begin: Moment, end: Moment) {
        self.counts.add(kind, begin, end);
    }

    /// All exits that are counted.
    pub fn total(&self) -> u64 {
        self.all().fold(0, |sum, row| sum.wrapping_add(row.count))
    }

    /// All exits since the machine began.
    pub fn ever(&self) -> u64 {
        let counts = self.counts.0.iter().map(Figures::count);
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
        let rows = self.counts.0.iter().zip(Kind::ALL).enumerate();
        rows.map(|(number, (figures, kind))| {
            let base = self.base.lock();
            figures.read(kind, base.get(number))
        })
    }

    /// Forgets everything, though the CPU that has them may go on counting: each
    /// exit is forgotten, or is counted from here on. Returns how many were
    /// forgotten.
    pub fn reset(&self) -> u64 {
        let base = self.base.lock();
        let kinds = self.counts.0.iter().zip(base.iter());
        let forgotten = kinds.map(|(figures, base)| figures.forget(base));
        forgotten.fold(0, u64::wrapping_add)
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Figures::default()))
    }
}

impl Counts {
    /// Counts an exit that was answered between these moments.
    #[inline(always)]
    pub fn add(&self, kind: Kind, begin: Moment, end: Moment) {
        let Some(figures) = self.0.get(kind as usize) else {
            return;
        };
        let (low, borrow) = end.low.overflowing_sub(begin.low);
        let high = end.high.wrapping_sub(begin.high);
        let high = high.wrapping_sub(borrow.into());
        let ticks = u64::from(low);
        if high == 0 {
            figures.add(ticks, bucket(low));
        } else {
            figures.add_long(u64::from(high) << 32 | ticks);
        }
    }

    /// What there is of each kind, in the order of their numbers.
    pub fn all(&self) -> impl ExactSizeIterator<Item = Exits<'static>> {
        let rows = self.0.iter().zip(Kind::ALL);
        rows.map(|(figures, kind)| figures.read(kind, None))
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
    fn add_long(&self, ticks: u64) {
        match i64::try_from(ticks) {
            Ok(_) => self.add(ticks, BUCKETS - 1),
            Err(_) => self.add(0, 0),
        }
    }

    fn count(&self) -> u64 {
        let counts = self.buckets.iter().map(|count| count.load(Acquire));
        counts.fold(0, u64::wrapping_add)
    }

    fn read(&self, kind: Kind, base: Option<&[AtomicU64; BASE]>) -> Exits<'static> {
        let mut row = Exits {
            kind: kind.name(),
            count: 0,
            total: self.total.load(Acquire),
            most: self.most.load(Acquire),
            buckets: self.buckets.each_ref().map(|count| count.load(Acquire)),
        };
        if let Some([total, buckets @ ..]) = base {
            row.total = row.total.wrapping_sub(total.load(Relaxed));
            for (count, before) in row.buckets.iter_mut().zip(buckets) {
                *count = count.wrapping_sub(before.load(Relaxed));
            }
        }
        row.count = row.buckets.iter().fold(0, |sum, n| sum.wrapping_add(*n));
        if let Some(slowest) = row.buckets.iter().rposition(|count| *count > 0) {
            // Of an exit that ends while `most` is forgotten the bucket is left.
            let least = if slowest == 0 { 0 } else { 1 << slowest };
            row.most = row.most.max(least);
        }
        row
    }

    /// Makes the figures of this moment the base.
    fn forget(&self, [total, buckets @ ..]: &[AtomicU64; BASE]) -> u64 {
        total.store(self.total.load(Acquire), Relaxed);
        let mut forgotten = 0u64;
        for (count, before) in self.buckets.iter().zip(buckets) {
            let now = count.load(Acquire);
            let fresh = now.wrapping_sub(before.load(Relaxed));
            forgotten = forgotten.wrapping_add(fresh);
            before.store(now, Relaxed);
        }
        self.most.store(0, Relaxed);
        forgotten
    }
}

/// Figures of their own on the desk.
#[cfg(test)]
impl Default for Statistics {
    fn default() -> Self {
        let words = (0..KINDS * BASE).map(|_| AtomicU64::new(0));
        Self::new(words.collect::<Vec<_>>().leak())
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
    // On x86 a plain MOV; who sees it sees what was stored before.
    number.store(number.load(Relaxed).wrapping_add(by), Release);
}

/// `cpuid 12, rdmsr 3`: the kinds that happened since the machine began. Takes no
/// lock, because it is said in reports of failures, too.
impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.counts.0.iter().zip(Kind::ALL);
        let counts = kinds.map(|(figures, kind)| (figures.count(), kind));
        for (number, (count, kind)) in counts.filter(|row| row.0 > 0).enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{} {count}", kind.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicBool;
    use proptest::prelude::*;
    use std::thread;

    fn count(statistics: &Statistics, kind: Kind, ticks: u64) {
        statistics.add(kind, 0.into(), ticks.into());
    }

    /// One CPU counts, two others read and reset.
    #[test]
    fn no_exit_is_lost_or_counted_twice_when_others_reset() {
        const EXITS: u64 = 300_000;
        let (statistics, ended) = (Statistics::default(), AtomicBool::new(false));
        let forgets = || {
            let mut forgotten = 0;
            while !ended.load(Acquire) {
                forgotten += statistics.reset();
                for row in statistics.rows() {
                    assert!((1..=EXITS).contains(&row.count), "{row:?}");
                    assert_eq!(row.count, row.buckets.iter().sum::<u64>());
                    assert!(row.most >= 64 && row.most < 128, "{row:?}");
                }
            }
            forgotten
        };
        let forgotten: u64 = thread::scope(|scope| {
            let others = [scope.spawn(forgets), scope.spawn(forgets)];
            for exit in 0..EXITS {
                count(&statistics, Kind::ALL[exit as usize % 2], 64 + exit % 64);
            }
            ended.store(true, Release);
            let others = others.map(|other| other.join().expect("it found nothing wrong"));
            others.iter().sum()
        });
        assert_eq!(forgotten + statistics.total(), EXITS);
        assert_eq!(statistics.ever(), EXITS);
    }

    #[test]
    fn after_a_reset_figures_are_of_what_came_since() {
        let statistics = Statistics::default();
        count(&statistics, Kind::ReadMsr, 5000);
        count(&statistics, Kind::Cpuid, 7);
        assert_eq!(statistics.reset(), 2);
        assert_eq!(statistics.rows().count(), 0);
        count(&statistics, Kind::ReadMsr, 20);
        let row = statistics.rows().next().expect("one kind happened");
        assert_eq!((row.count, row.total, row.most), (1, 20, 20));
        assert_eq!((statistics.total(), statistics.ever()), (1, 3));
        assert_eq!(statistics.to_string(), "cpuid 1, rdmsr 2");
    }

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
