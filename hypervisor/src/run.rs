//! The loop: enter the guest, offer its exit to the chain, apply the outcome,
//! count the exit. Nothing else raises an exception in the guest, or leaves the
//! loop; nothing else moves the instruction pointer, but for a task switch,
//! which loads all registers.

use crate::chain::{Chain, Guest};
use crate::instruction;
use crate::outcome::{Outcome, Stop};
use crate::vm::{Cpu, Vm};
use machine::{CodeSize, Memory, Vcpu};
use x86::control::Rflags;
use x86::event::{Merged, merge};
use x86::{Exception, Exit};

/// Runs `cpu` until its guest cannot go on.
pub fn run<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Stop {
    run_by::<Guest, V, M>(vm, cpu)
}

/// The same by the controllers of `C`.
pub fn run_by<C: Chain<V, M>, V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Stop {
    loop {
        let exit = cpu.vcpu.enter();
        if let Err(stop) = answer::<C, V, M>(vm, cpu, &exit) {
            return stop;
        }
    }
}

/// Answers one exit.
#[inline(always)]
pub fn answer<C: Chain<V, M>, V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    exit: &Exit,
) -> Result<(), Stop> {
    let arrival = cpu.arrive(exit);
    let outcome = C::offer(vm, cpu, exit);
    let applied = match outcome {
        Outcome::Done => step_over(vm, cpu),
        Outcome::Emulated { length } => {
            step(&mut cpu.vcpu, u64::from(length));
            Ok(())
        }
        Outcome::Again => repeat(&mut cpu.vcpu),
        Outcome::Resume => redeliver(&mut cpu.vcpu),
        Outcome::Moved => Ok(()),
        Outcome::Fault(exception) => raise(&mut cpu.vcpu, exception),
        Outcome::HandUp => Err(Stop::HandUp),
        Outcome::Stop(stop) => Err(stop),
        Outcome::Pass => Err(Stop::Unhandled(*exit)),
    };
    cpu.depart(exit, arrival, outcome);
    applied.and_then(|()| C::go_on(cpu))
}

/// The instruction that exited is done: the guest goes on behind it. Where the
/// hardware gives no length and the code cannot be read any more, the guest
/// gets what fetching it again would have raised.
fn step_over<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Result<(), Stop> {
    let length = match cpu.vcpu.instruction_length() {
        Some(length) => length,
        None => match instruction::length(vm, &cpu.vcpu) {
            Ok(length) => length,
            Err(exception) => return raise(&mut cpu.vcpu, exception),
        },
    };
    step(&mut cpu.vcpu, length);
    Ok(())
}

#[inline]
fn step<V: Vcpu>(vcpu: &mut V, length: u64) {
    vcpu.set_rip(advance(vcpu, length));
    vcpu.clear_interrupt_shadow();
    let rflags = vcpu.rflags();
    if rflags.intersects(Rflags::TF | Rflags::RF) {
        vcpu.set_rflags(rflags - Rflags::RF);
        trap(vcpu, rflags);
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

/// Between two rounds of a repeated instruction the CPU takes interrupts and
/// single-step traps, but hits no instruction breakpoint again. Intel SDM
/// volume 3, "Instruction-Breakpoint Exception Condition".
fn repeat<V: Vcpu>(vcpu: &mut V) -> Result<(), Stop> {
    vcpu.clear_interrupt_shadow();
    let rflags = vcpu.rflags();
    vcpu.set_rflags(rflags | Rflags::RF);
    trap(vcpu, rflags);
    Ok(())
}

fn trap<V: Vcpu>(vcpu: &mut V, rflags: Rflags) {
    if rflags.contains(Rflags::TF) {
        vcpu.pend_single_step();
    }
}

fn redeliver<V: Vcpu>(vcpu: &mut V) -> Result<(), Stop> {
    vcpu.redeliver();
    Ok(())
}

/// Raises `exception`, merged with the event that was being delivered. A fault
/// restarts its instruction without hitting the instruction breakpoint on it
/// again, hence RF.
fn raise<V: Vcpu>(vcpu: &mut V, exception: Exception) -> Result<(), Stop> {
    let merged = vcpu.event().map(|event| merge(event, exception));
    let exception = match merged {
        None => exception,
        Some(Merged::Second(second)) => second,
        Some(Merged::DoubleFault) => Exception::DoubleFault,
        Some(Merged::TripleFault) => return Err(Stop::Reset),
    };
    let rflags = vcpu.rflags();
    vcpu.set_rflags(rflags | Rflags::RF);
    vcpu.inject(exception);
    Ok(())
}

#[cfg(test)]
mod tests;
