//! Accesses that the nested tables do not allow: to the hypervisor's memory,
//! or to addresses that no table covers.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use core::sync::atomic::Ordering;
use machine::{Memory, Vcpu};
use x86::exit::NestedFault;
use x86::{Exception, Exit};

/// A first touch of the hypervisor's memory is logged and shows a scrap page
/// from then on; fetching code from it is a fault of the guest's.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::NestedFault(fault) = exit else {
        return Outcome::Pass;
    };
    if !vm.memory.reserved().contains(&fault.gpa) {
        return outside(cpu, fault);
    }
    if !vm.trespassed.swap(true, Ordering::Relaxed) {
        log::warn!(
            "the guest reached for the hypervisor's memory: gpa {:#x}, write {}, fetch {}, rip {:#x}",
            fault.gpa,
            fault.access.write,
            fault.access.fetch,
            cpu.vcpu.rip()
        );
    }
    let opened = vm.memory.open_scrap();
    cpu.vcpu.flush_nested();
    if opened.is_err() || (fault.access.fetch && !fault.walk) {
        return Outcome::Fault(Exception::GeneralProtection(0));
    }
    Outcome::Resume
}

/// Only addresses beyond what the tables can cover come here. There is no
/// memory and no device; natively the access would be lost in silence.
fn outside<V: Vcpu>(cpu: &Cpu<V>, fault: &NestedFault) -> Outcome {
    log::warn!(
        "access to gpa {:#x}, where nothing is: rip {:#x}",
        fault.gpa,
        cpu.vcpu.rip()
    );
    Outcome::Fault(Exception::GeneralProtection(0))
}
