//! Who is in the CPU: the guest, or a child's vCPU for as long as a call of the
//! guest's lasts.

use super::extended::{self, Extended, Unswitched};
use super::memory::PoolMemory;
use super::pages;
use crate::instructions;
use crate::nested::Format;
use crate::region::Region;
use abi::handoff::Handoff;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;
use x86::PAGE_SIZE;

/// The memory that children are given parts of. Set before the guest runs, if
/// the config has any.
static POOL: Once<Range<u64>> = Once::new();

/// The number of the next vCPU: none is used again, so that a CPU can tell whose
/// translations it has.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Sets the pool aside that `handoff` names, with pages of the region for what
/// children are made of.
pub(crate) fn start(handoff: &Handoff, region: &mut Region) {
    let bytes = abi::handoff::footprint::children(handoff.pool_size);
    if bytes == 0 || !extended::is_possible() {
        return;
    }
    if let Ok(share) = region.pages((bytes / PAGE_SIZE) as usize) {
        // SAFETY: pages of the region, handed out once and mapped at their
        // physical addresses in the firmware's tables and the own ones.
        unsafe { pages::start(share.as_ptr() as u64, bytes) };
        POOL.call_once(|| handoff.pool_base..handoff.pool_base + handoff.pool_size);
    }
}

/// The pool; empty if there are no children.
pub fn pool() -> Range<u64> {
    POOL.get().cloned().unwrap_or(0..0)
}

pub(crate) fn memory(format: Format) -> Option<PoolMemory> {
    let pool = POOL.get()?.clone();
    // SAFETY: the loader took the pool from the guest's memory, all of which the
    // own tables map at the offset, without the region.
    unsafe { PoolMemory::new(format, pool) }
}

/// Ticks between two failed entries of children that are explained.
const PAUSE: u64 = 1 << 28;

/// Whether the log may have an explanation of why a child could not be entered:
/// its program decides how often that happens.
pub(crate) fn may_explain() -> bool {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = instructions::read_tsc();
    let last = LAST.load(Ordering::Relaxed);
    let is_due = last == 0 || now.wrapping_sub(last) > PAUSE;
    if is_due {
        LAST.store(now, Ordering::Relaxed);
    }
    is_due
}

/// A CPU that children can run on. Written by that CPU alone.
#[derive(Debug)]
pub(crate) struct Seat<U> {
    /// The guest's registers while a child runs.
    guest: Extended<U>,
    /// Whose translations the CPU has.
    last: u64,
}

impl<U: Unswitched> Seat<U> {
    /// None if there are no children.
    pub(crate) fn new() -> Option<Self> {
        POOL.get()?;
        Some(Self {
            guest: Extended::new()?,
            last: 0,
        })
    }
}

/// What a vCPU takes along. Written by the CPU that it is loaded on.
#[derive(Debug)]
pub(crate) struct Passenger<U> {
    pub(crate) registers: Extended<U>,
    number: u64,
    /// The CPU that it ran on last.
    cpu: Option<u32>,
    /// The generation of the tables that it ran with.
    generation: u64,
    /// Whether its breakpoint registers are in the CPU, while it is.
    pub(crate) has_debug: bool,
}

impl<U: Unswitched> Passenger<U> {
    pub(crate) fn new() -> Option<Self> {
        Some(Self {
            registers: Extended::new()?,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            cpu: None,
            generation: 0,
            has_debug: false,
        })
    }

    /// Exchanges the registers, those of breakpoints only if `debug`. Says whether
    /// translations in this CPU may be another's, or old: this vCPU ran elsewhere
    /// meanwhile, another ran here, or the tables have changed.
    #[inline(always)]
    pub(crate) fn board(
        &mut self,
        seat: &mut Seat<U>,
        cpu: u32,
        generation: u64,
        debug: bool,
    ) -> bool {
        let is_new = self.cpu != Some(cpu);
        let is_stale = is_new || seat.last != self.number || self.generation != generation;
        self.cpu = Some(cpu);
        self.generation = generation;
        seat.last = self.number;
        seat.guest.exchange(&self.registers, debug);
        self.has_debug = debug;
        is_stale
    }

    /// Exchanges them again.
    #[inline(always)]
    pub(crate) fn alight(&mut self, seat: &Seat<U>) {
        let debug = core::mem::take(&mut self.has_debug);
        self.registers.exchange(&seat.guest, debug);
    }
}
