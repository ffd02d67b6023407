//! The guest's NMIs, which exit because other CPUs call by NMIs, too: AMD-V does
//! not keep track of them then. One that is given to the guest blocks further
//! ones until its IRET, which exits. The exit comes before the IRET has run, so
//! the blocking ends when the guest is seen elsewhere; if an NMI is due while it
//! is still there, the IRET is stepped over by the trap flag.

use super::setup;
use super::vcpu::SvmCpu;
use crate::percpu::{self, noted};
use crate::vcpu::Vcpu;
use core::sync::atomic::Ordering;
use x86::Exit;
use x86::control::Rflags;
use x86::svm::control::intercept3;
use x86::svm::vmcb::{Control, Vmcb};

const DEBUG: u8 = 1;
const DR6_SINGLE_STEP: u64 = 1 << 14;
/// What else a debug exception can be: a breakpoint, an access to the debug
/// registers, a task switch.
const DR6_OTHERS: u64 = 0xf | 1 << 13 | 1 << 15;
/// All exceptions but NMI, which is no exception.
const ALL: u32 = !(1 << 2);

/// Where the guest is with its NMIs. Written by the vCPU that has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nmis {
    /// The guest has one in hand.
    blocked: bool,
    /// CS and RIP of the IRET that ends that, once the guest was there.
    end: Option<(u16, u64)>,
    stepping: Option<Stepping>,
}

/// What was there before the IRET was stepped over.
#[derive(Clone, Copy, Debug)]
struct Stepping {
    trap: bool,
    exceptions: u32,
    dr6: u64,
}

/// What an exit means while the IRET is stepped over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stepped {
    /// What it always does: the IRET has not run.
    Not,
    /// Nothing else: the IRET has run.
    Over,
    /// The guest's own trap, behind the IRET.
    Trap,
    /// A fault of the IRET.
    Fault,
}

/// Run in the handlers of NMIs and the like: the guest is not entered before
/// the vCPU has seen to it.
pub(super) fn hold_for_nmi() {
    if let Some(percpu) = percpu::current() {
        percpu.hold_for(noted::NMI);
    }
}

pub(super) fn hold_for_call() {
    if let Some(percpu) = percpu::current() {
        percpu.hold_for(noted::CALL);
    }
}

fn place(vmcb: &Vmcb) -> (u16, u64) {
    (vmcb.save.cs.selector, vmcb.save.rip)
}

impl Nmis {
    pub(super) const fn are_stepping(&self) -> bool {
        self.stepping.is_some()
    }

    /// Whether the guest, which is where `vmcb` says, handles one and can take
    /// none.
    pub(super) fn are_blocked(&mut self, vmcb: &Vmcb) -> bool {
        if self.end.is_some_and(|end| end != place(vmcb)) {
            self.unblock();
        }
        self.blocked
    }

    fn unblock(&mut self) {
        (self.blocked, self.end) = (false, None);
    }

    /// The guest gets one.
    pub(super) fn begin(&mut self, control: &mut Control) {
        (self.blocked, self.end) = (true, None);
        control.intercept3 |= intercept3::IRET;
    }

    /// The guest is at an IRET, which ends the blocking.
    pub(super) fn end(&mut self, vmcb: &mut Vmcb) {
        self.end = Some(place(vmcb));
        vmcb.control.intercept3 &= !intercept3::IRET;
    }

    /// An NMI waits: if all that it waits for is an IRET, that is stepped over.
    pub(super) fn step(&mut self, vmcb: &mut Vmcb) {
        if self.end.is_none() || self.are_stepping() {
            return;
        }
        self.stepping = Some(Stepping {
            trap: vmcb.save.rflags & Rflags::TF.bits() != 0,
            exceptions: vmcb.control.intercept_exceptions,
            dr6: vmcb.save.dr6,
        });
        vmcb.save.rflags |= Rflags::TF.bits();
        vmcb.save.dr6 &= !(DR6_SINGLE_STEP | DR6_OTHERS);
        vmcb.control.intercept_exceptions = ALL;
    }

    /// An exit while the IRET is stepped over. A fault of the IRET is the
    /// guest's: the NMI then waits for the next IRET.
    pub(super) fn stepped(&mut self, vmcb: &mut Vmcb, exit: Exit) -> Stepped {
        let (Some(stepping), Exit::Exception { event, .. }) = (self.stepping, exit) else {
            return Stepped::Not;
        };
        self.stepping = None;
        vmcb.control.intercept_exceptions = stepping.exceptions;
        if event.vector != DEBUG {
            vmcb.save.dr6 = stepping.dr6;
            if !stepping.trap {
                vmcb.save.rflags &= !Rflags::TF.bits();
            }
            self.end = None;
            vmcb.control.intercept3 |= intercept3::IRET;
            return Stepped::Fault;
        }
        self.unblock();
        let others = vmcb.save.dr6 & DR6_OTHERS;
        vmcb.save.dr6 = stepping.dr6 | others;
        if stepping.trap {
            vmcb.save.dr6 |= DR6_SINGLE_STEP;
        }
        if stepping.trap || others != 0 {
            Stepped::Trap
        } else {
            Stepped::Over
        }
    }

    /// The guest is reset.
    pub(super) fn forget(&mut self, vmcb: &mut Vmcb) {
        self.unblock();
        vmcb.control.intercept3 &= !intercept3::IRET;
        if let Some(stepping) = self.stepping.take() {
            vmcb.control.intercept_exceptions = stepping.exceptions;
        }
    }
}

impl<const CHILD: bool> SvmCpu<CHILD> {
    /// An exit while the guest's IRET was stepped over: behind it, an NMI that
    /// waited is due, but after the guest's own trap there.
    #[cold]
    pub(super) fn stepped(&mut self, exit: Exit) -> Exit {
        let (nmis, vmcb) = self.nmis_and_vmcb();
        match nmis.stepped(vmcb, exit) {
            Stepped::Not | Stepped::Fault => exit,
            Stepped::Over => Exit::NmiWindow,
            Stepped::Trap => {
                self.percpu.hold_for(noted::NMI);
                exit
            }
        }
    }

    /// The guest was not entered. What was to be injected is still to be, as if
    /// its delivery had been broken off. Never a part of `enter`, which it calls
    /// and which is to be a part of the loop.
    #[cold]
    #[inline(never)]
    pub(super) fn held(&mut self) -> Exit {
        if CHILD {
            return self.turned_away();
        }
        let held_for = self.percpu.noted.load(Ordering::Acquire);
        if held_for == noted::BEHIND {
            return self.enter_with_nmi_behind();
        }
        let control = &mut self.vmcb_mut().control;
        control.exit_event = control.entry_event;
        control.entry_event = 0;
        if held_for & noted::CALL != 0 {
            Exit::PreemptionTimer
        } else {
            Exit::NmiWindow
        }
    }

    /// A child was not entered, as the guest is to see to something first. What
    /// was to be injected into the child stays so.
    fn turned_away(&mut self) -> Exit {
        self.vmcb_mut().control.exit_event = 0;
        Exit::PreemptionTimer
    }

    /// AMD-V has no window that opens behind an injected event: an NMI that this
    /// CPU sends itself makes the guest exit there. Without a local APIC the
    /// guest's NMI waits for the next exit.
    fn enter_with_nmi_behind(&mut self) -> Exit {
        setup::hold_nmis();
        self.percpu.seen_to(noted::BEHIND);
        self.percpu.call_self();
        let exit = self.enter();
        self.percpu.hold_for(noted::NMI);
        exit.unwrap_or_else(|| self.rare_exit())
    }

    pub(super) fn nmis_and_vmcb(&mut self) -> (&mut Nmis, &mut Vmcb) {
        // SAFETY: as for `vmcb_mut`.
        (&mut self.nmis, unsafe { self.vmcb.as_mut() })
    }
}

#[cfg(test)]
mod tests;
