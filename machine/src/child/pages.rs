//! The pages that children's control blocks and tables are made of: a part of
//! the region, so that no guest reaches them. Whoever takes some owns them, and
//! gives them back by being dropped.

use crate::region::Region;
use core::marker::PhantomData;
use core::ops::{Deref, Range};
use spin::{Mutex, Once};
use x86::PAGE_SIZE;

/// Words of 64 pages each: more than a pool below 4 GiB can ask for.
const WORDS: usize = 512;

struct Pages {
    base: u64,
    count: usize,
    /// A bit for each page that is taken.
    taken: Mutex<[u64; WORDS]>,
}

/// Filled in once, before a guest runs.
static PAGES: Once<Pages> = Once::new();

/// Hands out `size` bytes at `base` from here on; what is beyond the most that
/// can be counted is left alone.
///
/// # Safety
/// The bytes are nobody else's, now or later, and mapped at their physical
/// addresses in every table that the hypervisor uses.
pub(crate) unsafe fn start(base: u64, size: u64) {
    let count = (size / PAGE_SIZE) as usize;
    PAGES.call_once(|| Pages {
        base,
        count: count.min(WORDS * 64),
        taken: Mutex::new([0; WORDS]),
    });
}

/// How many pages are taken.
pub fn taken() -> u64 {
    let taken = PAGES.get().map(|pages| *pages.taken.lock());
    let words = taken.unwrap_or([0; WORDS]);
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// Neighbouring pages that are taken.
#[derive(Debug)]
pub struct Block {
    base: u64,
    numbers: Range<usize>,
}

impl Block {
    /// Takes `count` pages, full of zeros; None if there are not so many left
    /// beside each other.
    pub fn take(count: usize) -> Option<Self> {
        let pages = PAGES.get()?;
        let numbers = {
            let mut taken = pages.taken.lock();
            let numbers = find(&taken, pages.count, count)?;
            mark(&mut taken, numbers.clone(), true);
            numbers
        };
        let base = pages.base + numbers.start as u64 * PAGE_SIZE;
        let size = count * PAGE_SIZE as usize;
        // SAFETY: `start`'s caller vouches for this memory, and the marks make
        // sure that nobody else has these pages.
        unsafe { (base as *mut u8).write_bytes(0, size) };
        Some(Self { base, numbers })
    }

    /// Where the pages begin.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The pages, to be laid out.
    ///
    /// # Safety
    /// What is made of them is not used any more when the block is dropped, and
    /// they are laid out once.
    pub(crate) unsafe fn region(&self) -> Region {
        let size = self.numbers.len() as u64 * PAGE_SIZE;
        // SAFETY: the pages are this block's alone.
        unsafe { Region::new(self.base, size, 0) }
    }

    /// Takes back pages whose block was given up by [`Self::forget`].
    ///
    /// # Safety
    /// `base` is what `forget` returned for a block of one page, and this
    /// happens once.
    pub(crate) unsafe fn remember(base: u64) -> Option<Self> {
        let pages = PAGES.get()?;
        let number = (base.checked_sub(pages.base)? / PAGE_SIZE) as usize;
        Some(Self {
            base,
            numbers: number..number + 1,
        })
    }

    /// Gives up a block of one page for its address.
    pub(crate) fn forget(self) -> u64 {
        let base = self.base;
        core::mem::forget(self);
        base
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(pages) = PAGES.get() {
            mark(&mut pages.taken.lock(), self.numbers.clone(), false);
        }
    }
}

/// A value in pages of its own, which any CPU can reach. It is nothing that would
/// have to be dropped.
#[derive(Debug)]
pub struct Placed<T> {
    block: Block,
    value: PhantomData<T>,
}

impl<T> Placed<T> {
    /// Places `value`; None if no pages are left.
    pub fn new(value: T) -> Option<Self> {
        const { assert!(align_of::<T>() <= PAGE_SIZE as usize) };
        const { assert!(!core::mem::needs_drop::<T>()) };
        let block = Block::take(size_of::<T>().div_ceil(PAGE_SIZE as usize))?;
        // SAFETY: the pages are this block's alone, and large and aligned enough.
        unsafe { (block.base as *mut T).write(value) };
        Some(Self {
            block,
            value: PhantomData,
        })
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `new` wrote the value there, and nothing else is laid out in the
        // pages for as long as the block is there.
        unsafe { &*(self.block.base as *const T) }
    }
}

fn find(taken: &[u64; WORDS], end: usize, count: usize) -> Option<Range<usize>> {
    let mut free = 0;
    for number in 0..end {
        let is_taken = taken[number / 64] >> (number % 64) & 1 != 0;
        free = if is_taken { 0 } else { free + 1 };
        if free == count {
            return Some(number + 1 - count..number + 1);
        }
    }
    None
}

fn mark(taken: &mut [u64; WORDS], numbers: Range<usize>, value: bool) {
    for number in numbers {
        let bit = 1 << (number % 64);
        let word = &mut taken[number / 64];
        *word = if value { *word | bit } else { *word & !bit };
    }
}
