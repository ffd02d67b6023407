//! The machine's other CPUs, started by the guest itself with INIT and start-up
//! IPIs: away from the firmware, which has no more use for them, and again
//! whenever one of them was taken down meanwhile.
//!
//! Each runs on the firmware's descriptors, a copy of its root table, and a stack
//! of its own. NMIs are counted, at any moment of a start, too.

mod trampoline;

use crate::apic::{self, delivery};
use crate::linear::Table;
use alloc::boxed::Box;
use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use uefi::boot;
use uefi::proto::pi::mp::MpServices;

/// The most that a guest starts, itself counted.
pub const MAX: usize = 8;
/// Bits of an address within a stack.
pub(crate) const STACK_SHIFT: u32 = 15;
const NMI: usize = 2;

#[repr(align(4096))]
pub(crate) struct Stacks(UnsafeCell<[[u8; 1 << STACK_SHIFT]; MAX - 1]>);
// SAFETY: each CPU uses its own, as its stack.
unsafe impl Sync for Stacks {}

/// That of CPU 1 is the first: the boot processor keeps the firmware's.
pub(crate) static STACKS: Stacks = Stacks(UnsafeCell::new([[0; _]; MAX - 1]));

/// What all run, a `fn(usize)`. Written before they are started.
static WORK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
/// How often each has come, and how often it was done. Written by the CPU.
static COME: [AtomicU32; MAX] = [const { AtomicU32::new(0) }; MAX];
static DONE: [AtomicU32; MAX] = [const { AtomicU32::new(0) }; MAX];
/// NMIs that each has handled. Counted by its handler.
static NMIS: [AtomicU32; MAX] = [const { AtomicU32::new(0) }; MAX];

/// The number of the CPU that runs this: 0 for the boot processor, else the
/// number of its APIC.
pub fn number() -> usize {
    let here: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack)) };
    let stack = here.wrapping_sub(STACKS.0.get() as u64) >> STACK_SHIFT;
    if stack < MAX as u64 - 1 {
        stack as usize + 1
    } else {
        0
    }
}

/// NMIs that CPU `number` has handled.
pub fn nmis(number: usize) -> u32 {
    NMIS[number].load(Ordering::Acquire)
}

/// How often CPU `number` was started.
pub fn starts(number: usize) -> u32 {
    COME[number].load(Ordering::Acquire)
}

/// Waits until `holds`; false if it does not for a long time.
pub fn wait_until(holds: impl Fn() -> bool) -> bool {
    /// Instructions in Bochs; about half a minute in QEMU, where the computer
    /// may have other work.
    const PATIENCE: u64 = 100_000_000_000;
    let begin = ticks();
    loop {
        if holds() {
            return true;
        }
        if ticks().wrapping_sub(begin) > PATIENCE {
            return false;
        }
        spin_loop();
    }
}

/// The time-stamp counter, read after all that comes before.
pub fn ticks() -> u64 {
    // SAFETY: neither changes anything.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// The others, which can be started any number of times.
pub struct Others {
    count: usize,
    vector: u8,
}

impl Others {
    /// Asks the firmware how many there are, and takes pages below 1 MiB for
    /// their start. The boot processor counts its NMIs from then on.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX`], or no such pages.
    pub fn new() -> Self {
        let all = processors();
        assert!(all <= MAX, "{all} processors");
        let page = trampoline::place(Box::leak(Table::boxed()), arrive, count_nmi);
        Self {
            count: all - 1,
            vector: (page >> 12) as u8,
        }
    }

    /// How many.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Their numbers.
    pub fn numbers(&self) -> core::ops::RangeInclusive<usize> {
        1..=self.count
    }

    /// The command that starts one that waits for it.
    pub fn startup(&self) -> u32 {
        delivery::STARTUP | u32::from(self.vector)
    }

    /// Says what they will run when they are started, with interrupts off and
    /// with their number; behind it they halt.
    pub fn set_work(&self, work: fn(usize)) {
        WORK.store(work as *mut (), Ordering::Release);
        for number in self.numbers() {
            DONE[number].store(0, Ordering::Release);
        }
    }

    /// Has all run `work`. False if not all come.
    pub fn start(&self, work: fn(usize)) -> bool {
        self.set_work(work);
        let before: [u32; MAX] = core::array::from_fn(starts);
        self.stop();
        // SAFETY: they come to the trampoline.
        unsafe { apic::send(self.startup() | apic::OTHERS, 0) };
        wait_until(|| self.numbers().all(|number| starts(number) > before[number]))
    }

    /// Takes all down: each waits for a start-up IPI.
    pub fn stop(&self) {
        // SAFETY: nobody needs what they run.
        unsafe { apic::send(delivery::INIT | apic::OTHERS, 0) };
        apic::settle();
    }

    /// Waits until all are done.
    pub fn wait(&self) -> bool {
        wait_until(|| {
            let mut all = self.numbers();
            all.all(|number| DONE[number].load(Ordering::Acquire) > 0)
        })
    }
}

impl Default for Others {
    fn default() -> Self {
        Self::new()
    }
}

fn processors() -> usize {
    let count = || {
        let handle = boot::get_handle_for_protocol::<MpServices>()?;
        let services = boot::open_protocol_exclusive::<MpServices>(handle)?;
        services.get_number_of_processors()
    };
    count().expect("the firmware's MP services").enabled
}

/// Where each comes to, by way of the trampoline.
unsafe extern "sysv64" fn arrive(number: usize) -> ! {
    COME[number].fetch_add(1, Ordering::AcqRel);
    let work = WORK.load(Ordering::Acquire);
    if !work.is_null() {
        // SAFETY: only `set_work` stores here, always a `fn(usize)`.
        let work: fn(usize) = unsafe { core::mem::transmute(work) };
        work(number);
    }
    DONE[number].fetch_add(1, Ordering::AcqRel);
    crate::cpu::halt_forever()
}

#[unsafe(naked)]
unsafe extern "sysv64" fn count_nmi() {
    naked_asm!(
        "push rax",
        "push rcx",
        "lea rax, [rip + {stacks}]",
        "mov rcx, rsp",
        "sub rcx, rax",
        "shr rcx, {shift}",
        "xor eax, eax",
        "cmp rcx, {others}",
        "jae 2f",
        "lea rax, [rcx + 1]",
        "2: lea rcx, [rip + {nmis}]",
        "lock inc dword ptr [rcx + 4 * rax]",
        "pop rcx",
        "pop rax",
        "iretq",
        stacks = sym STACKS,
        shift = const STACK_SHIFT,
        others = const MAX - 1,
        nmis = sym NMIS,
    )
}
