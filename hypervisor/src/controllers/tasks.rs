//! Hardware task switches, which VT-x does not let a guest do by itself; under
//! AMD-V they do not exit. Intel SDM volume 3, "Task Switching" and "Treatment
//! of Task Switches".
//!
//! A switch has a commit point. What is wrong before it is raised in the old
//! task, of which nothing has changed; what is wrong after it, in the new one.

mod begin;
mod cause;
mod linear;
mod old;
mod prepare;
mod segments;

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use begin::begin;
use cause::Cause;
use machine::{Memory, Vcpu};
use prepare::prepare;
use x86::exit::TaskSource;
use x86::{Exception, Exit};

/// Does the switch.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::TaskSwitch(request) = exit else {
        return Outcome::Pass;
    };
    let cause = Cause::new(request, cpu.vcpu.event());
    match switch(vm, &mut cpu.vcpu, &cause) {
        Ok(()) => Outcome::Moved,
        Err(exception) => Outcome::Fault(exception),
    }
}

fn switch<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &mut V, cause: &Cause) -> Result<(), Exception> {
    // Even an IRET that faults lets NMIs in again. Intel SDM volume 3,
    // "Handling Multiple NMIs".
    if cause.source == TaskSource::Iret {
        vcpu.block_nmis(false);
    }
    let prepared = prepare(vm, vcpu, cause)?;
    let state = prepared.commit();
    begin(vm, vcpu, cause, &prepared, &state)
}

#[cfg(test)]
mod tests;
