//! Reads of the CPU's counters: the guest gets what the CPU below says.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::exit::Instruction;
use x86::{Exception, Exit, msr};

/// RDTSC, RDTSCP, RDPMC. What CR4 forbids faulted before the exit.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let vcpu = &mut cpu.vcpu;
    let value = match exit {
        Exit::Instruction(Instruction::Rdtsc) => Some(vcpu.ticks()),
        Exit::Instruction(Instruction::Rdtscp) => {
            let number = vcpu.read_msr(msr::TSC_AUX).unwrap_or(0);
            vcpu.registers_mut().rcx = number & 0xffff_ffff;
            Some(vcpu.ticks())
        }
        Exit::Instruction(Instruction::Rdpmc) => vcpu.read_counter(vcpu.registers().rcx as u32),
        _ => return Outcome::Pass,
    };
    match value {
        Some(value) => {
            vcpu.registers_mut().set_edx_eax(value);
            Outcome::Done
        }
        None => Outcome::Fault(Exception::GeneralProtection(0)),
    }
}
