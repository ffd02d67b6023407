//! What each CPU keeps to itself while the hypervisor runs on it, found
//! through GS: descriptors, stacks, and what its exception handlers need.

use crate::boot::CPUS_MAX;
use crate::call::{Call, Failure, Nmi};
use crate::instructions::{read_msr, write_msr};
use crate::region::{Exhausted, Page, Region};
use crate::{apic, backtrace, exceptions};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering};
use x86::msr;

/// Pages of the stack on which the hypervisor runs.
pub(crate) const STACK: usize = 16;
/// Pages of each stack for exceptions.
const EXCEPTION_STACK: usize = 3;

/// Writes what the CPU was doing when an exception hit the hypervisor.
pub(crate) type Describe = fn(&mut dyn core::fmt::Write);

/// One CPU. Written by that CPU alone; its NMI handler and its exception
/// handlers interrupt the rest, hence the atomics.
pub struct PerCpu {
    /// Its number, 0 for the one that boots.
    pub number: u32,
    /// Top of the stack on which the hypervisor runs.
    pub(crate) stack_top: u64,
    /// Tops of the stacks for exceptions, in the order of `exceptions`.
    pub(crate) exception_stacks: [u64; 4],
    /// NMIs that the guest has not had yet, at most two, as a CPU holds one in
    /// service and one back. Counted by the NMI handler and at NMI exits, taken
    /// by the run loop.
    nmis: AtomicU8,
    /// A machine check hit the hypervisor, which could go on; the guest has not
    /// heard of it yet. Set by the handler, taken by the run loop.
    machine_check: AtomicBool,
    /// An INIT hit the hypervisor, or a child. Set by the handler of #SX and at
    /// exits of children, taken by the run loop.
    init: AtomicBool,
    /// What the guest must not be entered before, see [`noted`]: 0 if nothing.
    /// Set by handlers, cleared by the vCPU.
    pub(crate) noted: AtomicU8,
    /// Called by the NMI handler after it has counted, so that the guest is
    /// left as soon as it can take one. Written before the first entry, and
    /// while a child is loaded.
    pub(crate) on_nmi: AtomicPtr<()>,
    /// A [`Describe`]. Written once, before the first entry.
    pub(crate) describe: AtomicPtr<()>,
    /// The number of its local APIC, or [`NOT_IN`]. Written by `set_apic`.
    apic: AtomicU32,
    /// Another CPU wants this one to leave its guest and look around.
    call: Call,
    /// Called by the NMI handler when the NMI was such a call. Written before
    /// the first entry, and while a child is loaded.
    on_call: AtomicPtr<()>,
    /// An NMI or a call arrived while a child was loaded: the guest has yet to
    /// hear of it. Set by the NMI handler and at exits, taken by this CPU.
    visited: AtomicBool,
    /// The control block of the vCPU that runs here, for reports. Written once,
    /// before the first entry.
    pub(crate) block: AtomicPtr<()>,
}

/// What the guest is not entered before.
pub(crate) mod noted {
    /// Another CPU called.
    pub(crate) const CALL: u8 = 1;
    /// The guest has an NMI or a machine check to come.
    pub(crate) const NMI: u8 = 2;
    /// An NMI is to follow the event that is injected first.
    pub(crate) const BEHIND: u8 = 4;
}

/// The CPU has not come in yet: nobody calls it.
const NOT_IN: u32 = u32::MAX;

/// The blocks of all CPUs, by their numbers. Written by the boot processor
/// before another CPU is let in.
static ALL: [AtomicPtr<PerCpu>; CPUS_MAX as usize] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; CPUS_MAX as usize];

/// Makes CPU `number` leave its guest soon, and look around. It does so at
/// least once after this.
pub fn call(number: u32) {
    if let Some(percpu) = of(number).filter(|percpu| percpu.call.ask()) {
        percpu.send_nmi();
    }
}

/// Calls all other CPUs once more, because one was called and does not come,
/// however their local APICs are numbered: a guest may give them other numbers
/// where the hardware lets it.
pub fn call_whoever() {
    if let Err(apic::Busy) = insist() {
        stays_busy();
    }
}

/// Their flags come first, so that a spare NMI is none of a guest's.
fn insist() -> Result<(), apic::Busy> {
    for other in others().filter_map(of) {
        other.call.insist();
    }
    apic::send_nmi_to_others()
}

fn stays_busy() -> ! {
    exceptions::stop(format_args!(
        "other CPUs cannot be called: the local APIC stays busy"
    ))
}

fn of(number: u32) -> Option<&'static PerCpu> {
    let place = ALL.get(number as usize)?;
    // SAFETY: only `PerCpu::new` stores here, always a static block.
    let percpu = unsafe { place.load(Ordering::Acquire).as_ref() };
    percpu.filter(|percpu| percpu.apic.load(Ordering::Acquire) != NOT_IN)
}

/// The numbers of all other CPUs that are in.
pub(crate) fn others() -> impl Iterator<Item = u32> {
    let own = number();
    (0..CPUS_MAX as u32).filter(move |other| *other != own && of(*other).is_some())
}

/// The CPU that failed, if one did. Written by that CPU.
static FAILURE: Failure = Failure::new();

/// This CPU fails: true for the first who does. The others stop, too.
pub(crate) fn fail() -> bool {
    let first = FAILURE.note(number());
    if first && others().next().is_some() {
        // There is nobody left to tell of NMIs that cannot be sent.
        let _ = insist();
    }
    first
}

/// The pages around the stacks, which must not be mapped.
type Guards = [Range<u64>; 5];

fn guarded_stack(region: &mut Region, pages: usize) -> Result<(Range<u64>, u64), Exhausted> {
    let all = region.pages(pages + 1)?;
    let base = core::ptr::from_ref::<[Page]>(all).cast::<Page>() as u64;
    let guard = base..base + x86::PAGE_SIZE;
    Ok((guard, base + (pages as u64 + 1) * x86::PAGE_SIZE))
}

impl PerCpu {
    /// Lays out CPU `number`. The guards are the lowest pages of its stacks.
    pub(crate) fn new(
        region: &mut Region,
        number: u32,
    ) -> Result<(&'static Self, Guards), Exhausted> {
        let (main, stack_top) = guarded_stack(region, STACK)?;
        let (nmi, nmi_top) = guarded_stack(region, EXCEPTION_STACK)?;
        let (double, double_top) = guarded_stack(region, EXCEPTION_STACK)?;
        let (check, check_top) = guarded_stack(region, EXCEPTION_STACK)?;
        let (fault, fault_top) = guarded_stack(region, EXCEPTION_STACK)?;
        let percpu = region.place(Self {
            number,
            stack_top,
            exception_stacks: [nmi_top, double_top, check_top, fault_top],
            nmis: AtomicU8::new(0),
            machine_check: AtomicBool::new(false),
            init: AtomicBool::new(false),
            noted: AtomicU8::new(0),
            on_nmi: AtomicPtr::new(core::ptr::null_mut()),
            describe: AtomicPtr::new(core::ptr::null_mut()),
            apic: AtomicU32::new(NOT_IN),
            call: Call::default(),
            on_call: AtomicPtr::new(core::ptr::null_mut()),
            visited: AtomicBool::new(false),
            block: AtomicPtr::new(core::ptr::null_mut()),
        })?;
        if let Some(place) = ALL.get(number as usize) {
            place.store(core::ptr::from_mut(percpu), Ordering::Release);
        }
        Ok((percpu, [main, nmi, double, check, fault]))
    }

    /// Makes this the per-CPU block of the CPU that runs this.
    ///
    /// # Safety
    /// Runs on that CPU, on the hypervisor's own tables, once.
    pub(crate) unsafe fn install(&'static self) {
        // SAFETY: every 64-bit CPU has IA32_GS_BASE, and nothing in the
        // hypervisor but `current` uses GS.
        unsafe { write_msr(msr::GS_BASE, core::ptr::from_ref(self) as u64) };
    }

    /// Names what the exception handlers say of the guest.
    pub(crate) fn set_describe(&self, describe: Describe) {
        self.describe.store(describe as *mut (), Ordering::Release);
    }

    /// Names what an NMI does beside being noted.
    pub(crate) fn set_on_nmi(&self, action: fn()) {
        self.on_nmi.store(action as *mut (), Ordering::Release);
    }

    pub(crate) fn describe(&self, out: &mut dyn core::fmt::Write) {
        let describe = self.describe.load(Ordering::Acquire);
        if !describe.is_null() {
            // SAFETY: only `set_describe` stores here, always a `Describe`.
            let describe: Describe = unsafe { core::mem::transmute(describe) };
            describe(out);
        }
    }

    /// One more NMI for the guest; a third is lost, as natively.
    pub(crate) fn add_nmi(&self) {
        let more = |nmis: u8| (nmis < 2).then_some(nmis + 1);
        // An error says that there are two already.
        let _ = self
            .nmis
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
    }

    /// Those that came while the guest handles one are one: a CPU holds no more
    /// back.
    pub(crate) fn merge_nmis(&self) {
        self.nmis.fetch_min(1, Ordering::AcqRel);
    }

    /// Takes an NMI for the guest, if there is one.
    pub(crate) fn take_nmi(&self) -> bool {
        let less = |nmis: u8| nmis.checked_sub(1);
        self.nmis
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
            .is_ok()
    }

    /// Whether the guest has an NMI to come.
    pub(crate) fn has_nmi(&self) -> bool {
        self.nmis.load(Ordering::Acquire) > 0
    }

    /// Notes a machine check for the guest.
    pub(crate) fn note_machine_check(&self) {
        self.machine_check.store(true, Ordering::Release);
        self.act();
    }

    /// Takes the machine check for the guest, if there is one.
    pub(crate) fn take_machine_check(&self) -> bool {
        self.machine_check.swap(false, Ordering::AcqRel)
    }

    /// Notes an INIT, which the CPU comes to as to another's call.
    pub(crate) fn note_init(&self) {
        self.init.store(true, Ordering::Release);
        act(&self.on_call);
    }

    /// Takes the INIT, if there is one.
    pub(crate) fn take_init(&self) -> bool {
        self.init.load(Ordering::Acquire) && self.init.swap(false, Ordering::AcqRel)
    }

    /// Has the guest not entered before `what` is seen to.
    pub(crate) fn hold_for(&self, what: u8) {
        self.noted.fetch_or(what, Ordering::AcqRel);
    }

    /// `what` is seen to.
    pub(crate) fn seen_to(&self, what: u8) {
        self.noted.fetch_and(!what, Ordering::AcqRel);
    }

    /// An NMI arrived while the hypervisor ran: another CPU's call, or one for
    /// the guest.
    pub(crate) fn note_nmi(&self) {
        if self.take_call() {
            act(&self.on_call);
        } else {
            self.add_nmi();
            self.act();
        }
    }

    /// Whether the NMI that just arrived was another CPU's call. Where that one
    /// has failed, this CPU stops here.
    pub(crate) fn take_call(&self) -> bool {
        match self.call.take().judge(&FAILURE, self.number) {
            Nmi::Stop => exceptions::stop_with_others(),
            nmi => nmi == Nmi::Call,
        }
    }

    /// This CPU calls itself, if its local APIC can be reached.
    pub(crate) fn call_self(&self) {
        if apic::is_reachable() && self.call.ask() {
            self.send_nmi();
        }
    }

    fn send_nmi(&self) {
        if let Err(apic::Busy) = apic::send_nmi(self.apic.load(Ordering::Acquire)) {
            stays_busy();
        }
    }

    /// Names what a call does beside being taken.
    pub(crate) fn set_on_call(&self, action: fn()) {
        self.on_call.store(action as *mut (), Ordering::Release);
    }

    /// Sets the number by which it is called.
    pub(crate) fn set_apic(&self, id: u32) {
        self.apic.store(id, Ordering::Release);
    }

    /// Notes that something arrived while a child was loaded.
    pub(crate) fn visit(&self) {
        self.visited.store(true, Ordering::Release);
    }

    /// Whether something has arrived so.
    pub(crate) fn was_visited(&self) -> bool {
        self.visited.load(Ordering::Acquire)
    }

    /// The same, which is forgotten then.
    pub(crate) fn take_visit(&self) -> bool {
        self.visited.swap(false, Ordering::AcqRel)
    }

    fn act(&self) {
        act(&self.on_nmi);
    }
}

fn act(action: &AtomicPtr<()>) {
    let action = action.load(Ordering::Acquire);
    if !action.is_null() {
        // SAFETY: only `set_on_nmi` and `set_on_call` store here, always a
        // `fn()`.
        let action: fn() = unsafe { core::mem::transmute(action) };
        action();
    }
}

/// The block of the CPU that runs this, if it has one yet: before `install`,
/// and once a refusal has put it back, GS is the firmware's, which knows no
/// address of the region.
pub(crate) fn current() -> Option<&'static PerCpu> {
    if !backtrace::is_region_known() {
        return None;
    }
    // SAFETY: every 64-bit CPU has IA32_GS_BASE.
    let base = unsafe { read_msr(msr::GS_BASE) };
    if !backtrace::in_region(base) {
        return None;
    }
    // SAFETY: of the region's addresses only `install` stores one there, that of
    // a static block; whenever the hypervisor runs it is there, because exits
    // restore it.
    unsafe { (base as *const PerCpu).as_ref() }
}

/// Reads how this CPU's local APIC is addressed, and has it called by that.
pub fn adopt_address() -> x86::apic::Address {
    let address = apic::address();
    if let Some(percpu) = current() {
        percpu.set_apic(address.id);
    }
    address
}

/// The number of the CPU that runs this.
pub fn number() -> u32 {
    current().map_or(0, |percpu| percpu.number)
}
