//! The guest's NMIs where they exit, because other CPUs call by them: which
//! AMD-V does not keep track of then. An NMI that is given to the guest blocks
//! further ones until its IRET, which exits; if one waits, the IRET is stepped
//! over by the trap flag, because the NMI is due only behind it.

use x86::Exit;
use x86::control::Rflags;
use x86::svm::control::intercept3;
use x86::svm::vmcb::{Control, Vmcb};

const DEBUG: u8 = 1;
const DR6_SINGLE_STEP: u64 = 1 << 14;
/// All exceptions but NMI, which is no exception.
const ALL: u32 = !(1 << 2);

/// Where the guest is with its NMIs. Written by the vCPU that has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nmis {
    /// They exit.
    several: bool,
    blocked: bool,
    stepping: Option<Stepping>,
}

/// What was there before the IRET was stepped over.
#[derive(Clone, Copy, Debug)]
struct Stepping {
    trap: bool,
    exceptions: u32,
}

impl Nmis {
    pub(super) const fn new(several: bool) -> Self {
        Self {
            several,
            blocked: false,
            stepping: None,
        }
    }

    pub(super) const fn is_stepping(&self) -> bool {
        self.stepping.is_some()
    }

    /// Whether the guest can take none now.
    pub(super) const fn are_blocked(&self) -> bool {
        self.blocked || self.stepping.is_some()
    }

    /// The guest gets one.
    pub(super) fn begin(&mut self, control: &mut Control) {
        if self.several {
            self.blocked = true;
            control.intercept3 |= intercept3::IRET;
        }
    }

    /// The guest is at an IRET, which ends the blocking; `waits` says whether an
    /// NMI is due behind it.
    pub(super) fn end(&mut self, vmcb: &mut Vmcb, waits: bool) {
        self.blocked = false;
        vmcb.control.intercept3 &= !intercept3::IRET;
        if waits && self.stepping.is_none() {
            self.stepping = Some(Stepping {
                trap: vmcb.save.rflags & Rflags::TF.bits() != 0,
                exceptions: vmcb.control.intercept_exceptions,
            });
            vmcb.save.rflags |= Rflags::TF.bits();
            vmcb.control.intercept_exceptions = ALL;
        }
    }

    /// What an exit means while the IRET is stepped over. A fault of the IRET
    /// is the guest's, as is the trap behind it if its own flag was set: the NMI
    /// then waits for the next IRET.
    pub(super) fn stepped(&mut self, vmcb: &mut Vmcb, exit: Exit) -> Exit {
        let (Some(stepping), Exit::Exception { event, .. }) = (self.stepping, exit) else {
            return exit;
        };
        self.stepping = None;
        vmcb.control.intercept_exceptions = stepping.exceptions;
        if event.vector == DEBUG && !stepping.trap {
            vmcb.save.dr6 &= !DR6_SINGLE_STEP;
            return Exit::NmiWindow;
        }
        if event.vector != DEBUG && !stepping.trap {
            vmcb.save.rflags &= !Rflags::TF.bits();
        }
        vmcb.control.intercept3 |= intercept3::IRET;
        exit
    }

    /// The guest is reset.
    pub(super) fn forget(&mut self, vmcb: &mut Vmcb) {
        self.blocked = false;
        vmcb.control.intercept3 &= !intercept3::IRET;
        if let Some(stepping) = self.stepping.take() {
            vmcb.control.intercept_exceptions = stepping.exceptions;
        }
    }
}
