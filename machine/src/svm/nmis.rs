//! The guest's NMIs, which exit because other CPUs call by NMIs, too: AMD-V does
//! not keep track of them then. One that is given to the guest blocks further
//! ones until its IRET, which exits. The exit comes before the IRET has run, so
//! the blocking ends when the guest is seen elsewhere; if an NMI is due while it
//! is still there, the IRET is stepped over by the trap flag.

use crate::percpu::{self, noted};
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

#[cfg(test)]
mod tests;
