//! A word of memory that the other CPUs change all the time.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use tests::processors::Others;
use tests::random::Random;

/// What it is changed to: the first so many. Written before a start.
static CHOICES: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
static COUNT: AtomicU64 = AtomicU64::new(0);
static WORD: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());
static STOPPED: AtomicBool = AtomicBool::new(false);
/// How often it was changed, and how often something else was found than what
/// was written last, but for accessed and dirty bits.
static FLIPS: AtomicU64 = AtomicU64::new(0);
static OTHERS: AtomicU64 = AtomicU64::new(0);

const ACCESSED_DIRTY: u64 = 0x60;

/// Does `what` while CPU 1 changes the word at `word` to one of `choices` after
/// the other. Returns how often, and how often somebody else changed it.
pub fn during(
    others: &Others,
    word: *mut u64,
    choices: &[u64],
    what: impl FnOnce(),
) -> Option<[u64; 2]> {
    for (slot, choice) in CHOICES.iter().zip(choices) {
        slot.store(*choice, Ordering::Release);
    }
    COUNT.store(choices.len() as u64, Ordering::Release);
    WORD.store(word, Ordering::Release);
    STOPPED.store(false, Ordering::Release);
    FLIPS.store(0, Ordering::Release);
    OTHERS.store(0, Ordering::Release);
    if !others.start(flip) {
        return None;
    }
    what();
    STOPPED.store(true, Ordering::Release);
    let done = others.wait();
    done.then(|| [&FLIPS, &OTHERS].map(|count| count.load(Ordering::Acquire)))
}

fn flip(number: usize) {
    if number != 1 {
        return;
    }
    let count = COUNT.load(Ordering::Acquire);
    let mut random = Random::of(11, count);
    // SAFETY: the word stays where it is until this ends, and is aligned; all
    // others read it behind the compiler's back.
    let word = unsafe { AtomicU64::from_ptr(WORD.load(Ordering::Acquire)) };
    let mut last = None;
    while !STOPPED.load(Ordering::Acquire) {
        let next = CHOICES[random.below(count) as usize].load(Ordering::Acquire);
        let found = word.swap(next, Ordering::AcqRel) & !ACCESSED_DIRTY;
        if last.is_some_and(|last| found != last & !ACCESSED_DIRTY) {
            OTHERS.fetch_add(1, Ordering::AcqRel);
        }
        last = Some(next);
        FLIPS.fetch_add(1, Ordering::AcqRel);
        for _ in 0..random.below(64) {
            core::hint::spin_loop();
        }
    }
}
