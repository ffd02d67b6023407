//! Accesses that the nested tables do not allow: to the hypervisor's memory,
//! or to addresses that no table covers.

use crate::oddities::Oddity;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exception;
use x86::exit::NestedFault;

/// Who touches the hypervisor's memory is noted and sees a scrap page from then
/// on; fetching code from it is a fault of the guest's.
#[cold]
pub fn handle_fault<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    fault: NestedFault,
) -> Outcome {
    if !vm.memory.reserved().contains(&fault.gpa) {
        return outside(vm, cpu, &fault);
    }
    note(vm, cpu, Oddity::Trespass, &fault);
    let opened = vm.memory.open_scrap();
    cpu.vcpu.flush_nested();
    if opened.is_err() || (fault.access.fetch && !fault.walk) {
        return Outcome::Fault(Exception::GeneralProtection(0));
    }
    Outcome::Resume
}

/// Only addresses beyond what the tables can cover come here. There is no
/// memory and no device; natively the access would be lost in silence.
fn outside<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>, fault: &NestedFault) -> Outcome {
    note(vm, cpu, Oddity::OutsideMemory, fault);
    Outcome::Fault(Exception::GeneralProtection(0))
}

fn note<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>, oddity: Oddity, fault: &NestedFault) {
    let (gpa, rip) = (fault.gpa, cpu.vcpu.rip());
    let what = format_args!("gpa {gpa:#x}, {:?}, rip {rip:#x}", fault.access);
    vm.oddities.note(oddity, what);
}
