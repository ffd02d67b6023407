//! The ring alone, under threads, and under every order of memory accesses
//! that the language allows.

use super::*;
use proptest::prelude::*;
use std::thread;

fn lines<const LINE: usize>(count: usize) -> Vec<[AtomicU64; LINE]> {
    let line = || core::array::from_fn(|_| AtomicU64::new(0));
    (0..count).map(|_| line()).collect()
}

/// Reads until nothing is left; each line must hold its own number in every
/// word. Returns how many there were.
fn drain<const LINE: usize, W: Word>(ring: &Ring<'_, LINE, W>, reader: &mut Reader) -> u64 {
    let mut content = [0; 2];
    let mut read = 0;
    while reader.read(ring, &mut content) {
        assert_eq!(content, [reader.next - 1; 2]);
        read += 1;
    }
    read
}

proptest! {
    #[test]
    fn what_is_not_read_is_lost_and_counted(
        size in 0usize..20,
        bursts in prop::collection::vec(0u64..40, 0..10),
    ) {
        let memory = lines::<3>(size);
        let ring = Ring::new(&memory);
        let mut reader = Reader::default();
        let (mut written, mut read) = (0, 0);
        for burst in bursts {
            for number in written..written + burst {
                ring.write(&[number; 2]);
            }
            let fresh = drain(&ring, &mut reader);
            prop_assert_eq!(fresh, burst.min(ring.capacity()));
            written += burst;
            read += fresh;
        }
        let kept = if ring.capacity() > 0 { written } else { 0 };
        prop_assert_eq!(read + reader.lost, kept);
    }
}

#[test]
fn threads_that_read_while_one_writes_get_whole_lines_and_count_the_others() {
    const WRITTEN: u64 = 200_000;
    let memory = lines::<3>(8);
    let ring = Ring::new(&memory);
    let read_all = || {
        let mut reader = Reader::default();
        let mut read = 0;
        while reader.next < WRITTEN {
            read += drain(&ring, &mut reader);
        }
        assert_eq!((reader.next, read + reader.lost), (WRITTEN, WRITTEN));
    };
    thread::scope(|scope| {
        scope.spawn(read_all);
        scope.spawn(read_all);
        for number in 0..WRITTEN {
            ring.write(&[number; 2]);
        }
    });
}

impl Word for loom::sync::atomic::AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

/// Every interleaving and every reordering while a line is written over the one
/// that is being read.
#[test]
fn no_order_of_accesses_shows_a_mixture() {
    use loom::sync::{Arc, atomic::AtomicU64};
    let mut model = loom::model::Builder::new();
    // More switches between the two find nothing that these do not, and take
    // very long.
    model.preemption_bound = Some(2);
    model.check(|| {
        let line = || core::array::from_fn(|_| AtomicU64::new(0));
        let memory: &'static [[AtomicU64; 3]; 1] = Box::leak(Box::new([line()]));
        let ring = Arc::new(Ring::new(memory.as_slice()));
        ring.write(&[7; 2]);
        let writer = Arc::clone(&ring);
        let thread = loom::thread::spawn(move || writer.write(&[8; 2]));
        let mut content = [0; 2];
        if ring.read(0, &mut content) == Reading::Whole {
            assert_eq!(content, [7; 2]);
        }
        thread.join().expect("the writer does not panic");
        assert_eq!(ring.read(0, &mut content), Reading::Lost);
        assert_eq!(ring.read(1, &mut content), Reading::Whole);
        assert_eq!(content, [8; 2]);
    });
}
