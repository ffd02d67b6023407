//! A second CPU that sends NMIs to the first, and makes Underlay call it there,
//! while the first exits in a loop and handles them.
//!
//! Underlay calls a CPU by an NMI, too: for a start-up IPI, even one that finds
//! its CPU running and so does nothing natively, and under VT-x for a changed
//! memory-type range.

use crate::attempt::{self, GP};
use crate::cpu::{cpuid, inb, rdmsr, wrmsr};
use crate::random::Random;
use crate::{Fault, attempt as attempt_to};
use core::arch::naked_asm;
use core::ffi::c_void;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use uefi::boot::{self, EventType, Tpl};
use uefi::proto::pi::mp::{MpServices, Procedure};
use x86::msr;

const NMI: u8 = 2;
/// Looks after which something does not come any more.
const PATIENCE: u32 = 20_000_000;

/// Handlers of the first CPU that began, and that ended.
static BEGUN: AtomicU32 = AtomicU32::new(0);
static HANDLED: AtomicU32 = AtomicU32::new(0);
/// Handlers under way, and the most that were at once.
static DEPTH: AtomicU32 = AtomicU32::new(0);
static DEEPEST: AtomicU32 = AtomicU32::new(0);
/// The handler shall not end yet.
static HOLD: AtomicU32 = AtomicU32::new(0);
/// Exits of the first CPU: it counts each when it is past it.
static EXITS: AtomicU32 = AtomicU32::new(0);
/// NMIs that were sent.
static SENT: AtomicU32 = AtomicU32::new(0);
/// What the second CPU waited for in vain.
static IN_VAIN: AtomicU32 = AtomicU32::new(0);
/// The first CPU has its handlers.
static READY: AtomicBool = AtomicBool::new(false);
static FINISHED: AtomicBool = AtomicBool::new(false);

/// What became of the NMIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// NMIs that the second CPU sent.
    pub sent: u32,
    /// NMIs that the first handled.
    pub handled: u32,
    /// The most handlers that were under way at once.
    pub deepest: u32,
    /// Whether all that the second CPU waited for came.
    pub in_time: bool,
}

/// Runs `sender` on the second CPU, with this one in its loop of exits.
///
/// # Errors
///
/// An exception of the loop.
///
/// # Panics
///
/// If the firmware does not start the second CPU.
pub fn run(sender: Procedure) -> Result<Outcome, Fault> {
    start(sender).expect("a second CPU");
    attempt_to(|| {
        // SAFETY: inside an attempt; both return by IRETQ, the second behind the
        // RDMSR that faulted, which is the one of `absent_register`.
        unsafe {
            attempt::handle(NMI, on_nmi);
            attempt::handle(GP, step_over);
        }
        READY.store(true, Ordering::Release);
        let mut random = Random::of(7, 0);
        while !FINISHED.load(Ordering::Acquire) {
            exit(&mut random);
        }
        for _ in 0..100 {
            exit(&mut random);
        }
    })?;
    Ok(Outcome {
        sent: SENT.load(Ordering::Acquire),
        handled: HANDLED.load(Ordering::Acquire),
        deepest: DEEPEST.load(Ordering::Acquire),
        in_time: IN_VAIN.load(Ordering::Acquire) == 0,
    })
}

/// With an event the firmware does not wait for it.
fn start(sender: Procedure) -> uefi::Result {
    let handle = boot::get_handle_for_protocol::<MpServices>()?;
    let services = boot::open_protocol_exclusive::<MpServices>(handle)?;
    // SAFETY: without a function to call, it runs nothing of ours.
    let done = unsafe { boot::create_event(EventType::empty(), Tpl::APPLICATION, None, None) }?;
    services.startup_this_ap(1, sender, core::ptr::null_mut(), Some(done), None)
}

/// One of the ways to leave the guest, then a word that it came back.
fn exit(random: &mut Random) {
    const POST_CODES: u16 = 0x80;
    match random.below(4) {
        0 => absent_register(),
        1 => {
            // SAFETY: nobody waits for what the port holds.
            core::hint::black_box(unsafe { inb(POST_CODES) });
        }
        _ => {
            core::hint::black_box(cpuid(0).eax);
        }
    }
    EXITS.fetch_add(1, Ordering::AcqRel);
}

/// An exit that ends with an event: beneath Underlay nobody has this register.
fn absent_register() {
    // SAFETY: the handler steps over it.
    core::hint::black_box(unsafe { rdmsr(msr::CET_FIRST) });
}

/// What the second CPU does.
pub struct Sender {
    random: Random,
    /// The last variable range, and what is in it.
    range: Option<(u32, u64)>,
}

impl Sender {
    /// Finds what it can change, and waits for the first CPU.
    pub fn new() -> Self {
        wait(|| READY.load(Ordering::Acquire));
        Self {
            random: Random::of(8, 0),
            range: unused_range(),
        }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    /// Sends an NMI to the first CPU.
    pub fn send(&self) {
        SENT.fetch_add(1, Ordering::AcqRel);
        command(0x4400);
    }

    /// Has Underlay call it.
    pub fn call(&mut self) {
        command(0x4600 | 0x9f);
    }

    /// Has Underlay call it under VT-x, and wait until it came.
    pub fn change_types(&mut self) {
        if let Some((number, before)) = self.range {
            // SAFETY: the range is not valid: its base means nothing.
            unsafe {
                wrmsr(number, before ^ 1 << 32);
                wrmsr(number, before);
            }
        }
    }

    /// Waits until the first CPU has taken what was sent to it: it does so before
    /// the next instruction, or when it comes back from an exit.
    pub fn settle(&self) {
        let before = EXITS.load(Ordering::Acquire);
        wait(|| EXITS.load(Ordering::Acquire).wrapping_sub(before) >= 3);
    }

    /// Holds the handler that comes next, or lets it go.
    pub fn hold(&self, hold: bool) {
        HOLD.store(u32::from(hold), Ordering::Release);
    }

    /// Waits until so many handlers began.
    pub fn wait_begun(&self, count: u32) {
        wait(|| BEGUN.load(Ordering::Acquire) >= count);
    }

    /// Waits until so many handlers ended.
    pub fn wait_handled(&self, count: u32) {
        wait(|| HANDLED.load(Ordering::Acquire) >= count);
    }

    /// How many ended so far.
    pub fn handled(&self) -> u32 {
        HANDLED.load(Ordering::Acquire)
    }

    /// Whether nothing was waited for in vain so far.
    pub fn is_in_time(&self) -> bool {
        IN_VAIN.load(Ordering::Acquire) == 0
    }

    /// The first CPU may go on.
    pub fn finish(&self) {
        self.hold(false);
        FINISHED.store(true, Ordering::Release);
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

fn wait(until: impl Fn() -> bool) {
    let came = (0..PATIENCE).any(|_| {
        spin_loop();
        until()
    });
    IN_VAIN.fetch_add(u32::from(!came), Ordering::AcqRel);
}

/// Writes the interrupt command register, with CPU 0 as the destination. Intel
/// SDM volume 3, "Interrupt Command Register (ICR)".
fn command(low: u32) {
    const COMMAND: u64 = 0xfee0_0300;
    const BUSY: u32 = 1 << 12;
    let (low_at, high_at) = (COMMAND as *mut u32, (COMMAND + 0x10) as *mut u32);
    // SAFETY: the local APIC is where it is after reset, and this CPU's own.
    unsafe {
        high_at.write_volatile(0);
        low_at.write_volatile(low);
        wait(|| low_at.read_volatile() & BUSY == 0);
    }
}

/// The base register of the last variable range, if the firmware left it unused.
fn unused_range() -> Option<(u32, u64)> {
    // SAFETY: every CPU here has memory-type range registers.
    unsafe {
        let count = rdmsr(0xfe) as u32 & 0xff;
        let base = msr::MTRR_VARIABLE_BASE + 2 * count.checked_sub(1)?;
        let is_valid = rdmsr(base + 1) & 1 << 11 != 0;
        (!is_valid).then(|| (base, rdmsr(base)))
    }
}

/// Counts, and gives the hypervisor reasons to run before it returns.
#[unsafe(naked)]
unsafe extern "sysv64" fn on_nmi() {
    naked_asm!(
        "push rax", "push rbx", "push rcx", "push rdx",
        "lock inc dword ptr [rip + {depth}]",
        "lock inc dword ptr [rip + {begun}]",
        "mov eax, [rip + {depth}]",
        "cmp eax, [rip + {deepest}]",
        "jbe 2f",
        "mov [rip + {deepest}], eax",
        "2: xor eax, eax",
        "cpuid",
        "lock inc dword ptr [rip + {exits}]",
        "cmp dword ptr [rip + {hold}], 0",
        "jne 2b",
        "lock dec dword ptr [rip + {depth}]",
        "lock inc dword ptr [rip + {handled}]",
        "pop rdx", "pop rcx", "pop rbx", "pop rax",
        "iretq",
        depth = sym DEPTH,
        begun = sym BEGUN,
        deepest = sym DEEPEST,
        exits = sym EXITS,
        hold = sym HOLD,
        handled = sym HANDLED,
    )
}

/// Goes on behind the instruction of two bytes that faulted with an error code.
#[unsafe(naked)]
unsafe extern "sysv64" fn step_over() {
    naked_asm!("add qword ptr [rsp + 8], 2", "add rsp, 8", "iretq")
}

/// What the firmware hands to what it runs on the second CPU.
pub type Argument = *mut c_void;
