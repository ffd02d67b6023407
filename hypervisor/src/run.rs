//! The loop: enter the guest, count the exit, offer it to the chain, apply the
//! outcome. Nothing else moves the instruction pointer, raises an exception in
//! the guest, or leaves the loop.

use crate::chain;
use crate::instruction;
use crate::outcome::{Outcome, Stop};
use crate::vm::{Cpu, Vm};
use machine::{CodeSize, Memory, Vcpu};
use x86::Exception;
use x86::control::Rflags;

/// Runs `cpu` until its guest cannot go on.
pub fn run<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Stop {
    loop {
        let exit = cpu.vcpu.enter();
        cpu.counts.add(&exit);
        match chain::offer(vm, cpu, &exit) {
            Outcome::Done => step_over(vm, cpu),
            Outcome::Resume => cpu.vcpu.redeliver(),
            Outcome::Fault(_) if cpu.vcpu.is_delivering() => return Stop::Reset,
            Outcome::Fault(exception) => raise(&mut cpu.vcpu, exception),
            Outcome::Stop(stop) => return stop,
            Outcome::Pass => return Stop::Unhandled(exit),
        }
    }
}

/// The instruction that exited is done: the guest goes on behind it as the CPU
/// would have: no longer in an interrupt shadow, with its single-step trap.
/// Where the hardware gives no length and the code cannot be read any more,
/// the guest gets what fetching it again would have raised.
fn step_over<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) {
    let length = match cpu.vcpu.instruction_length() {
        Some(length) => length,
        None => match instruction::length(vm, &cpu.vcpu) {
            Ok(length) => length,
            Err(exception) => return raise(&mut cpu.vcpu, exception),
        },
    };
    let vcpu = &mut cpu.vcpu;
    vcpu.set_rip(advance(vcpu, length));
    vcpu.clear_interrupt_shadow();
    let rflags = vcpu.rflags();
    if rflags.intersects(Rflags::TF | Rflags::RF) {
        vcpu.set_rflags(rflags - Rflags::RF);
        if rflags.contains(Rflags::TF) {
            vcpu.pend_single_step();
        }
    }
}

/// RIP `length` bytes on. Outside 64-bit mode the upper half does not exist;
/// only a sum beyond it needs to know the mode.
#[inline]
fn advance<V: Vcpu>(vcpu: &V, length: u64) -> u64 {
    let rip = vcpu.rip();
    let next = rip.wrapping_add(length);
    let crosses = (rip ^ next) & !0xffff_ffff != 0;
    if crosses && vcpu.code_size() != CodeSize::Bits64 {
        next & 0xffff_ffff
    } else {
        next
    }
}

/// A fault restarts its instruction without hitting the instruction breakpoint
/// on it again, hence RF. Intel SDM volume 3, "Instruction-Breakpoint
/// Exception Condition".
fn raise<V: Vcpu>(vcpu: &mut V, exception: Exception) {
    let rflags = vcpu.rflags();
    vcpu.set_rflags(rflags | Rflags::RF);
    vcpu.inject(exception);
}

#[cfg(test)]
mod tests;
