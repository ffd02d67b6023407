//! Exits that may be the hypervisor's own affair, as frequent ones and accesses
//! never are: it holds the guest back for an NMI or a call, or steps over its IRET.

use super::SvmCpu;
use crate::child::boarding;
use crate::percpu::noted;
use crate::svm::nmis::Stepped;
use crate::svm::{checks, setup};
use crate::vcpu::Vcpu;
use core::sync::atomic::Ordering;
use x86::Exit;
use x86::svm::exit::decode_rare;

impl<const CHILD: bool> SvmCpu<CHILD> {
    /// The exit that just happened, if it is no frequent one.
    #[inline(never)]
    pub(super) fn exited_rarely(&mut self) -> Exit {
        let exit = decode_rare(&self.vmcb().control, &self.frame.registers);
        match exit {
            Exit::PreemptionTimer => return self.held(),
            Exit::EntryFailed(failure) if !CHILD || boarding::may_explain() => {
                checks::explain(self.vmcb(), &self.capabilities, failure);
            }
            _ => {}
        }
        if self.nmis.are_stepping() {
            return self.stepped(exit);
        }
        exit
    }

    /// An exit while the guest's IRET was stepped over: behind it, an NMI that
    /// waited is due, but after the guest's own trap there.
    #[cold]
    fn stepped(&mut self, exit: Exit) -> Exit {
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
    /// its delivery had been broken off.
    #[cold]
    fn held(&mut self) -> Exit {
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
        let frequent = self.enter();
        self.percpu.hold_for(noted::NMI);
        match frequent {
            Some(frequent) => self.frequent_exit(frequent),
            None => self.rare_exit(),
        }
    }
}
