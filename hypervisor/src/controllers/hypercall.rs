//! The call instruction: from registers to a service and back.

use crate::failure::Failure;
use crate::oddities::Oddity;
use crate::outcome::Outcome;
use crate::services;
use crate::vm::{Cpu, Vm};
use abi::Errno;
use abi::call;
use abi::handoff::Presence;
use machine::{Memory, Vcpu};
use x86::{Exception, Exit};

/// Serves a call. A hidden hypervisor has no calls.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Hypercall = exit else {
        return Outcome::Pass;
    };
    if vm.presence == Presence::Hidden {
        return Outcome::Fault(Exception::InvalidOpcode);
    }
    match services::serve(vm, cpu) {
        Ok(reply) => reply.apply(cpu.vcpu.registers_mut()),
        Err(Failure::Refused(Errno::NotPermitted)) => refuse(vm, cpu),
        Err(Failure::Refused(errno)) => cpu.vcpu.registers_mut().rax = errno.to_register(),
        Err(Failure::BadAddress(address)) => {
            let registers = cpu.vcpu.registers_mut();
            registers.rax = Errno::BadAddress.to_register();
            registers.rbx = address;
        }
        Err(Failure::Fault(exception)) => return Outcome::Fault(exception),
    }
    Outcome::Done
}

/// Serves the cheapest call, which does not even ask who calls. False: it is
/// another one.
#[inline(always)]
pub fn ping<V: Vcpu>(vcpu: &mut V) -> bool {
    let registers = vcpu.registers_mut();
    if registers.rax != call::PING {
        return false;
    }
    registers.rax = u64::from(call::VERSION);
    true
}

/// A caller that reaches for more than it may is worth a note.
#[cold]
fn refuse<V: Vcpu, M>(vm: &Vm<M>, cpu: &mut Cpu<V>) {
    let number = cpu.vcpu.registers().rax;
    let cpl = cpu.vcpu.cpl();
    vm.oddities.note(
        Oddity::RefusedCall,
        format_args!("number {number:#x} at privilege level {cpl}"),
    );
    cpu.vcpu.registers_mut().rax = Errno::NotPermitted.to_register();
}
