//! Children: the VMs that programs of the guest's owner run. Each is a [`Vm`]
//! like the guest, with memory of the pool, vCPUs and controllers of its own; it
//! runs within a call of its program's.
//!
//! Nobody waits for a lock here while another CPU runs a child under it: who
//! finds one in use says so to its caller.

pub mod drive;
pub mod give;
pub mod program;
pub mod registers;

use crate::statistics::Counts;
use crate::vm::{Cpu, Vm};
use abi::Errno;
use abi::child::{CHILDREN_MAX, HANDLE, PIECE, VCPUS_MAX};
use abi::record::{Text, VmRecord};
use core::ops::Range;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32};
use machine::{ChildVcpu, Vcpu};
use spin::{Mutex, MutexGuard, Once, RwLock, RwLockReadGuard};
use x86::Gpa;

/// The memory of children of `V`.
pub type MemoryOf<V> = <<V as Vcpu>::Child as ChildVcpu<V>>::Memory;

/// What is counted of a vCPU of `V`'s children.
type CountsOf<V> = <<V as Vcpu>::Child as ChildVcpu<V>>::Placed<Counts>;

/// The most pieces that a pool has, which lies below 4 GiB.
const PIECES: usize = ((4u64 << 30) / PIECE) as usize;

/// Bits of a handle that say in which place its child is.
const PLACE: u64 = CHILDREN_MAX.next_power_of_two() as u64 - 1;

/// Where a child can be.
pub type Slot<V> = RwLock<Option<Child<V>>>;

/// Which child has each piece of the pool, by its number; 0: none.
pub type Pieces = Mutex<[u32; PIECES]>;

/// No piece is anybody's.
pub const fn no_pieces() -> Pieces {
    Mutex::new([0; PIECES])
}

/// All children. Shared by all CPUs.
pub struct Children<V: Vcpu> {
    slots: [&'static Slot<V>; CHILDREN_MAX],
    pool: Range<u64>,
    pieces: &'static Pieces,
    /// The number of the next child.
    next: AtomicU32,
    /// What handles are made with.
    secret: [u64; 2],
}

/// One of them.
pub struct Child<V: Vcpu> {
    number: u32,
    handle: u64,
    name: Text<{ abi::child::NAME_MAX }>,
    vm: Vm<MemoryOf<V>>,
    /// Pieces of the pool that it has. Written under the pieces' lock.
    given: AtomicU32,
    /// It is to end: it does not run any more.
    ends: AtomicBool,
    vcpus: [Mutex<Option<Cpu<V::Child>>>; VCPUS_MAX],
    /// What is counted of each, made before it. Apart, so that it can be read while
    /// the vCPU runs.
    counts: [Once<CountsOf<V>>; VCPUS_MAX],
}

/// A child that is not taken away as long as this is there.
pub type Held<'a, V> = RwLockReadGuard<'a, Option<Child<V>>>;

/// A vCPU that does not run.
type Stopped<'a, V> = Option<MutexGuard<'a, Option<Cpu<<V as Vcpu>::Child>>>>;

/// Those of the programs of `vm`, if the config has memory for them.
pub fn of<V: Vcpu, M>(vm: &Vm<M>) -> Option<&'static Children<V>> {
    vm.children?.downcast_ref()
}

impl<V: Vcpu> Children<V> {
    /// None yet, who are to be in `slots` and share `pool`.
    pub fn new(
        slots: [&'static Slot<V>; CHILDREN_MAX],
        pieces: &'static Pieces,
        pool: Range<u64>,
        secret: [u64; 2],
    ) -> Self {
        Self {
            slots,
            pool,
            pieces,
            next: AtomicU32::new(1),
            secret,
        }
    }

    /// Makes a child called `name`. Gives its handle and its number.
    pub fn create(
        &self,
        host: &V,
        name: &str,
        now: u64,
        make: impl FnOnce(MemoryOf<V>) -> Vm<MemoryOf<V>>,
    ) -> Result<(u64, u32), Errno> {
        let mut free = None;
        for (place, slot) in (0..).zip(self.slots) {
            // One that is being made could get the same name.
            let found = slot.try_upgradeable_read().ok_or(Errno::Busy)?;
            match found.as_ref() {
                Some(child) if child.name.as_str() == name => return Err(Errno::Exists),
                None if free.is_none() => free = Some((place, found)),
                _ => {}
            }
        }
        let (place, slot) = free.ok_or(Errno::NoSpace)?;
        let mut slot = slot.upgrade();
        let memory = V::Child::memory(host).ok_or(Errno::NoSpace)?;
        let number = self.next.fetch_add(1, Relaxed);
        let handle = self.handle(number, now) | place;
        *slot = Some(Child {
            number,
            handle,
            name: Text::new(name),
            vm: make(memory),
            given: AtomicU32::new(0),
            ends: AtomicBool::new(false),
            vcpus: core::array::from_fn(|_| Mutex::new(None)),
            counts: [const { Once::new() }; VCPUS_MAX],
        });
        Ok((handle, number))
    }

    /// A handle that nobody can guess who does not know the owner's token:
    /// number, time and token, mixed. Steele and others, "Fast Splittable
    /// Pseudorandom Number Generators".
    fn handle(&self, number: u32, now: u64) -> u64 {
        let [first, second] = self.secret;
        let seeds = [first ^ u64::from(number), second, now];
        let mixed = seeds.into_iter().fold(0u64, |sum, seed| {
            let mut word = (sum ^ seed).wrapping_add(0x9e37_79b9_7f4a_7c15);
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ word >> 31
        });
        mixed & (HANDLE - 1) & !PLACE | HANDLE
    }

    /// The child with this handle.
    #[inline(always)]
    pub fn hold(&self, handle: u64) -> Result<Held<'_, V>, Errno> {
        let slot = self.slots.get((handle & PLACE) as usize);
        let held = slot.ok_or(Errno::NotFound)?.try_read();
        let held = held.ok_or(Errno::Busy)?;
        let is_it = held.as_ref().is_some_and(|child| child.handle == handle);
        is_it.then_some(held).ok_or(Errno::NotFound)
    }

    /// The child with this handle, or this number.
    pub fn hold_called(&self, wanted: u64) -> Result<Held<'_, V>, Errno> {
        let mut in_use = false;
        for slot in self.slots {
            match slot.try_read() {
                None => in_use = true,
                Some(held) => {
                    if held.as_ref().is_some_and(|child| child.is_called(wanted)) {
                        return Ok(held);
                    }
                }
            }
        }
        Err(if in_use { Errno::Busy } else { Errno::NotFound })
    }

    /// Ends the child with this handle, or this number.
    pub fn destroy(&self, wanted: u64) -> Result<(), Errno> {
        for slot in self.slots {
            let Some(found) = slot.try_upgradeable_read() else {
                continue;
            };
            let Some(child) = found.as_ref().filter(|child| child.is_called(wanted)) else {
                continue;
            };
            child.ends.store(true, Release);
            let number = child.number;
            let mut alone = found.try_upgrade().map_err(|_| Errno::Busy)?;
            *alone = None;
            drop(alone);
            self.take_back(number);
            return Ok(());
        }
        Err(Errno::NotFound)
    }

    fn take_back(&self, number: u32) {
        let mut pieces = self.pieces.lock();
        for owner in pieces.iter_mut().filter(|owner| **owner == number) {
            *owner = 0;
        }
    }

    /// Tells of each child; of one that is being made or ended, nothing.
    pub fn records(&self) -> [Option<VmRecord>; CHILDREN_MAX] {
        let mut records = [None; CHILDREN_MAX];
        for (record, slot) in records.iter_mut().zip(self.slots) {
            *record = slot
                .try_read()
                .and_then(|held| Some(held.as_ref()?.record()));
        }
        records
    }
}

impl<V: Vcpu> Child<V> {
    fn is_called(&self, wanted: u64) -> bool {
        self.handle == wanted || u64::from(self.number) == wanted
    }

    /// As `vm_list` tells of it.
    pub fn record(&self) -> VmRecord {
        let is_there = |vcpu: &&Mutex<Option<_>>| vcpu.try_lock().is_none_or(|v| v.is_some());
        VmRecord {
            number: u64::from(self.number),
            memory: u64::from(self.given.load(Acquire)) * PIECE,
            vcpus: self.vcpus.iter().filter(is_there).count() as u32,
            running: u32::from(self.vcpus.iter().any(Mutex::is_locked)),
            name: self.name,
        }
    }

    fn is_ending(&self) -> bool {
        self.ends.load(Acquire)
    }

    /// Gives it another vCPU.
    pub fn add_vcpu(&self, host: &mut Cpu<V>) -> Result<u32, Errno> {
        for ((number, place), counts) in (0..).zip(&self.vcpus).zip(&self.counts) {
            let Some(mut place) = place.try_lock().filter(|place| place.is_none()) else {
                continue;
            };
            let fresh = fresh_counts::<V>().ok_or(Errno::NoSpace)?;
            let vcpu = V::Child::new(&mut host.vcpu, &self.vm.memory).ok_or(Errno::NoSpace)?;
            counts.call_once(|| fresh);
            *place = Some(Cpu::watched(vcpu, host.counted));
            return Ok(number);
        }
        Err(Errno::NoSpace)
    }

    /// Has `page`, the child's own, hold the records of vCPU `number`.
    pub fn keep_records(&self, number: u64, page: Gpa) -> Result<(), Errno> {
        self.with_vcpu(number, |vcpu| {
            vcpu.program.records = Some(page);
            Ok(())
        })
    }

    /// What is counted of vCPU `number`, which may run.
    pub fn counts(&self, number: u64) -> Result<&Counts, Errno> {
        let place = usize::try_from(number).ok();
        let place = place.and_then(|number| self.counts.get(number));
        let counts = place.and_then(Once::get).ok_or(Errno::NotFound)?;
        Ok(counts)
    }

    /// Does `act` with vCPU `number`, which runs nowhere meanwhile.
    fn with_vcpu<R>(
        &self,
        number: u64,
        act: impl FnOnce(&mut Cpu<V::Child>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let place = usize::try_from(number).ok();
        let place = place.and_then(|number| self.vcpus.get(number));
        let place = place.ok_or(Errno::NotFound)?;
        let mut vcpu = place.try_lock().ok_or(Errno::Busy)?;
        act(vcpu.as_mut().ok_or(Errno::NotFound)?)
    }

    /// No vCPU runs as long as this is there.
    fn still(&self) -> Result<[Stopped<'_, V>; VCPUS_MAX], Errno> {
        let locked = self.vcpus.each_ref().map(|vcpu| vcpu.try_lock());
        match locked.iter().all(Option::is_some) {
            true => Ok(locked),
            false => Err(Errno::Busy),
        }
    }
}

/// In a frame of its own, because it is large.
#[inline(never)]
fn fresh_counts<V: Vcpu>() -> Option<CountsOf<V>> {
    V::Child::place(Counts::default())
}

#[cfg(test)]
mod tests;
