//! The loop: enter the guest, offer its exit to the chain, apply the outcome,
//! count the exit. Nothing else raises an exception in the guest, or leaves the
//! loop; nothing else moves the instruction pointer, but for a task switch,
//! which loads all registers.

use crate::chain::{Chain, Guest};
use crate::controllers::{hypercall, msr};
use crate::instruction;
use crate::outcome::{Outcome, Stop};
use crate::statistics::Moment;
use crate::trace::Before;
use crate::vm::{Cpu, Vm};
use abi::handoff::Presence;
use machine::{CodeSize, Memory, Vcpu};
use x86::control::Rflags;
use x86::event::{Merged, merge};
use x86::exit::Kind;
use x86::{Exception, Exit};

/// Runs `cpu` until its guest cannot go on.
pub fn run<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Stop {
    run_by::<Guest, V, M>(vm, cpu)
}

/// The same by the controllers of `C`.
pub fn run_by<C: Chain<V, M>, V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Stop {
    // It never changes: no exit has to ask again.
    let has_calls = vm.presence != Presence::Hidden;
    loop {
        if let Err(stop) = round::<C, V, M>(vm, cpu, has_calls) {
            return stop;
        }
    }
}

/// Into the guest and back. Frequent exits are answered at once where the list's own
/// controllers would say the same.
#[inline(always)]
fn round<C: Chain<V, M>, V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    has_calls: bool,
) -> Result<(), Stop> {
    let frequent = cpu.vcpu.enter();
    match frequent.map(|frequent| cpu.vcpu.frequent_exit(frequent)) {
        Some(Exit::Cpuid { leaf, subleaf }) => {
            let exit = Exit::Cpuid { leaf, subleaf };
            answer_at_once::<C, V, M>(vm, cpu, exit, |cpu| {
                C::cpuid_at_once(vm, cpu, leaf, subleaf)
            })
        }
        Some(Exit::Hypercall) if C::HAS_SERVICES => {
            answer_at_once::<C, V, M>(vm, cpu, Exit::Hypercall, |cpu| {
                has_calls && hypercall::at_once(vm, cpu)
            })
        }
        Some(Exit::ReadMsr { number }) if C::HAS_SERVICES => {
            answer_at_once::<C, V, M>(vm, cpu, Exit::ReadMsr { number }, |cpu| {
                msr::answer_read(&mut cpu.vcpu, number)
            })
        }
        Some(exit) => answer::<C, V, M>(vm, cpu, exit),
        None => answer_rare::<C, V, M>(vm, cpu),
    }
}

/// Has `does` answer a frequent exit, which needs nothing but registers, and counts
/// it. What it does not answer goes to the chain, as do all while exits are traced.
#[inline(always)]
fn answer_at_once<C: Chain<V, M>, V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    exit: Exit,
    does: impl FnOnce(&mut Cpu<V>) -> bool,
) -> Result<(), Stop> {
    let counted = cpu.counted;
    let begin = Moment::from(cpu.vcpu.ticks());
    let kind = exit.kind();
    match instruction::known_length(vm, &cpu.vcpu, kind) {
        Some(length) if !counted.trace.is_on() && does(cpu) => {
            step(&mut cpu.vcpu, length);
            let end = Moment::from(cpu.vcpu.ticks());
            counted.statistics.add(kind, begin, end);
            Ok(())
        }
        _ => answer::<C, V, M>(vm, cpu, exit),
    }
}

/// What devices wait for goes to them without a detour.
#[inline(never)]
fn answer_rare<C: Chain<V, M>, V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
) -> Result<(), Stop> {
    let is_answered = match cpu.vcpu.access() {
        Some(Exit::Port(access)) if !access.string => by_device(vm, cpu, Kind::Port, |cpu| {
            C::offer_port_at_once(vm, cpu, access)
        })?,
        Some(Exit::NestedFault(fault)) => by_device(vm, cpu, Kind::NestedFault, |cpu| {
            C::offer_fault_at_once(vm, cpu, fault)
        })?,
        _ => false,
    };
    if is_answered {
        return C::go_on(cpu);
    }
    let exit = cpu.vcpu.rare_exit();
    answer::<C, V, M>(vm, cpu, exit)
}

/// Applies what a device answers, and counts the exit. False: it answers nothing
/// by which the guest could go on, or exits are traced; nothing has changed.
#[inline(always)]
fn by_device<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    kind: Kind,
    does: impl FnOnce(&mut Cpu<V>) -> Outcome,
) -> Result<bool, Stop> {
    let counted = cpu.counted;
    let begin = Moment::from(cpu.vcpu.ticks());
    if counted.trace.is_on() {
        return Ok(false);
    }
    let outcome = does(cpu);
    let applied = match (apply(vm, &mut cpu.vcpu, kind, outcome), outcome) {
        (Some(delivered), _) => delivered.or_stop(),
        (None, Outcome::HandUp) => Err(Stop::HandUp),
        (None, Outcome::Stop) => Err(Stop::at(cpu.vcpu.rare_exit(), outcome)),
        (None, _) => return Ok(false),
    };
    let end = Moment::from(cpu.vcpu.ticks());
    counted.statistics.add(kind, begin, end);
    applied.map(|()| true)
}

/// Offers `exit` to the chain, applies the outcome, counts and records.
#[inline(never)]
pub fn answer<C: Chain<V, M>, V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    exit: Exit,
) -> Result<(), Stop> {
    let counted = cpu.counted;
    let begin = Moment::from(cpu.vcpu.ticks());
    let traced = counted.trace.is_on();
    let before = traced.then(|| Before::new(&cpu.vcpu, &exit));
    let (outcome, length) = match length_first(vm, &mut cpu.vcpu, exit.kind()) {
        Ok(length) => (C::offer(vm, cpu, &exit), length),
        Err(exception) => (Outcome::Fault(exception), None),
    };
    let applied = match (outcome, length) {
        (Outcome::Done, Some(length)) => {
            step(&mut cpu.vcpu, length);
            Some(Delivered::Yes)
        }
        _ => apply(vm, &mut cpu.vcpu, exit.kind(), outcome),
    };
    let applied = match applied {
        Some(delivered) => delivered.or_stop(),
        None => Err(Stop::at(exit, outcome)),
    };
    let end = Moment::from(cpu.vcpu.ticks());
    counted.statistics.add(exit.kind(), begin, end);
    if let Some(before) = before {
        let times = [begin.into(), end.into()];
        counted.trace.write(&exit, before, outcome, times);
    }
    applied.and_then(|()| C::go_on(cpu))
}

/// The length of an instruction that must not run twice, because it changes what it
/// is asked by, or more. Where it cannot be fetched any more, for which another CPU
/// may have changed the tables, that is to be known before it has done anything.
#[inline]
fn length_first<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    vcpu: &mut V,
    kind: Kind,
) -> Result<Option<u64>, Exception> {
    match kind {
        Kind::Cpuid
        | Kind::Hypercall
        | Kind::ReadMsr
        | Kind::WriteMsr
        | Kind::SetExtendedControl => instruction::length(vm, vcpu, kind).map(Some),
        _ => Ok(None),
    }
}

/// Has the guest go on after an exit of `kind` as `outcome` says; None if it does
/// not.
#[inline(always)]
fn apply<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    vcpu: &mut V,
    kind: Kind,
    outcome: Outcome,
) -> Option<Delivered> {
    match outcome {
        Outcome::Done => Some(step_over(vm, vcpu, kind)),
        Outcome::Emulated { length } => {
            step(vcpu, u64::from(length));
            Some(Delivered::Yes)
        }
        other => apply_rare(vcpu, other),
    }
}

#[cold]
fn apply_rare<V: Vcpu>(vcpu: &mut V, outcome: Outcome) -> Option<Delivered> {
    Some(match outcome {
        Outcome::Again => repeat(vcpu),
        Outcome::Resume => redeliver(vcpu),
        Outcome::Moved => Delivered::Yes,
        Outcome::Fault(exception) => raise(vcpu, exception),
        Outcome::Pass
        | Outcome::HandUp
        | Outcome::Stop
        | Outcome::Done
        | Outcome::Emulated { .. } => return None,
    })
}

/// What became of an exception, if there was one.
enum Delivered {
    Yes,
    /// It came in the delivery of a double fault.
    TripleFault,
}

impl Delivered {
    #[inline(always)]
    fn or_stop(self) -> Result<(), Stop> {
        match self {
            Self::Yes => Ok(()),
            Self::TripleFault => Err(Stop::Reset),
        }
    }
}

/// The instruction of an exit of `kind` is done: the guest goes on behind it.
/// Where the hardware gives no length and the code cannot be read any more, the guest
/// gets what fetching it again would have raised.
#[inline(always)]
fn step_over<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &mut V, kind: Kind) -> Delivered {
    match instruction::length(vm, vcpu, kind) {
        Ok(length) => {
            step(vcpu, length);
            Delivered::Yes
        }
        Err(exception) => raise(vcpu, exception),
    }
}

#[inline]
fn step<V: Vcpu>(vcpu: &mut V, length: u64) {
    vcpu.set_rip(advance(vcpu, length));
    vcpu.clear_interrupt_shadow();
    let rflags = vcpu.rflags();
    if rflags.intersects(Rflags::TF | Rflags::RF) {
        end_step(vcpu, rflags);
    }
}

#[cold]
fn end_step<V: Vcpu>(vcpu: &mut V, rflags: Rflags) {
    vcpu.set_rflags(rflags - Rflags::RF);
    trap(vcpu, rflags);
}

/// RIP `length` bytes on. Outside 64-bit mode the upper half does not exist;
/// only a sum beyond it needs to know the mode.
#[inline]
fn advance<V: Vcpu>(vcpu: &V, length: u64) -> u64 {
    let next = vcpu.rip().wrapping_add(length);
    let crosses = (next as u32) < length as u32;
    if crosses && vcpu.code_size() != CodeSize::Bits64 {
        next & 0xffff_ffff
    } else {
        next
    }
}

/// Between two rounds of a repeated instruction the CPU takes interrupts and
/// single-step traps, but hits no instruction breakpoint again. Intel SDM
/// volume 3, "Instruction-Breakpoint Exception Condition".
#[cold]
fn repeat<V: Vcpu>(vcpu: &mut V) -> Delivered {
    vcpu.clear_interrupt_shadow();
    let rflags = vcpu.rflags();
    vcpu.set_rflags(rflags | Rflags::RF);
    trap(vcpu, rflags);
    Delivered::Yes
}

fn trap<V: Vcpu>(vcpu: &mut V, rflags: Rflags) {
    if rflags.contains(Rflags::TF) {
        vcpu.pend_single_step();
    }
}

fn redeliver<V: Vcpu>(vcpu: &mut V) -> Delivered {
    vcpu.redeliver();
    Delivered::Yes
}

/// Raises `exception`, merged with the event that was being delivered. A fault
/// restarts its instruction without hitting the instruction breakpoint on it
/// again, hence RF.
#[cold]
fn raise<V: Vcpu>(vcpu: &mut V, exception: Exception) -> Delivered {
    let merged = vcpu.event().map(|event| merge(event, exception));
    let exception = match merged {
        None => exception,
        Some(Merged::Second(second)) => second,
        Some(Merged::DoubleFault) => Exception::DoubleFault,
        Some(Merged::TripleFault) => {
            log::error!(
                "triple fault at rip {:#x}, {exception:?} in the delivery of {:?}: the machine resets",
                vcpu.rip(),
                vcpu.event(),
            );
            return Delivered::TripleFault;
        }
    };
    let rflags = vcpu.rflags();
    vcpu.set_rflags(rflags | Rflags::RF);
    vcpu.inject(exception);
    Delivered::Yes
}

#[cfg(test)]
mod tests;
