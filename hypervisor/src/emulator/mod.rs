//! Instructions that the policy runs in the CPU's place, because an operand of
//! theirs lies in memory or at a port that a controller watches.
//!
//! The instruction is fetched and decoded through the guest's own tables, all
//! its operands are found and checked, and only then is anything read or
//! written: a fault leaves registers and memory as they were. The part of a
//! memory operand that is watched goes to the controller's [`Device`], the rest
//! to the guest's memory.
//!
//! Known are MOV in all forms but those that load a segment register, MOVZX,
//! MOVSX, MOVBE, MOVNTI, CMOVcc, SETcc, the two-operand and one-operand
//! arithmetic, shifts, rotations and bit tests, XCHG, XADD, CMPXCHG, CMPXCHG8B,
//! PUSH, POP, and the string instructions. Anything else raises #UD, and is an
//! oddity: the device is one that no CPU's instruction of that kind can reach,
//! which is how a guest learns at the very place and with nothing changed. To
//! skip it or to make up a result would be found out later, elsewhere.

mod address;
mod arithmetic;
mod execute;
mod operand;
mod operation;
mod plain;
mod string;
mod width;

use crate::caller::Caller;
use crate::instruction::{Fetched, fetch};
use crate::oddities::Oddity;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use core::ops::Range;
use iced_x86::Instruction;
use machine::{Memory, Vcpu};
use operation::{Operation, Text};
use x86::control::Rflags;
use x86::exit::{NestedFault, PortAccess};
use x86::{Exception, Gpa};

/// What answers for a watched range of memory or for ports.
pub trait Device {
    /// Reads `size` bytes (1 to 8) at `at`: an offset in the watched range, or
    /// a port. Higher bits of the answer are ignored.
    fn read(&mut self, at: u64, size: u8) -> u64;
    /// Writes the low `size` bytes of `value` there.
    fn write(&mut self, at: u64, size: u8, value: u64);
    /// Whether what was read is not known yet: the instruction then changes
    /// nothing, and is run again once it is.
    fn is_waiting(&self) -> bool {
        false
    }
    /// Whether it takes one access at a time: a repeated instruction then does
    /// one round.
    fn is_full(&self) -> bool {
        false
    }
}

/// One instruction being run.
struct Emulator<'a, V, M, D> {
    vcpu: &'a mut V,
    caller: Caller<'a, M>,
    watched: Range<Gpa>,
    /// The access of INS and OUTS, where those are what is watched.
    port: Option<PortAccess>,
    device: &'a mut D,
    /// Whether the device was asked.
    reached: bool,
}

/// How far an instruction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// To its end.
    Finished,
    /// More rounds are to come.
    Unfinished,
}

/// Runs the instruction that touched `watched`, the whole or part of a page
/// that exits, with `device` in its place.
#[inline(never)]
pub fn memory<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    fault: NestedFault,
    watched: Range<Gpa>,
    device: &mut impl Device,
) -> Outcome {
    // What the CPU does by itself, without an instruction: it delivers an
    // event, walks tables, fetches code. A device's registers are no place for
    // any of it, and an access that nobody answers is #GP.
    if cpu.vcpu.event().is_some() || fault.walk || fault.access.fetch {
        let what = format_args!("{fault:?}, rip {:#x}", cpu.vcpu.rip());
        vm.oddities.note(Oddity::NoInstruction, what);
        return Outcome::Fault(Exception::GeneralProtection(0));
    }
    access(vm, cpu, watched, device)
}

/// The same where it is known that an instruction made the access.
#[inline(always)]
pub fn access<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    watched: Range<Gpa>,
    device: &mut impl Device,
) -> Outcome {
    let mut emulator = Emulator {
        caller: Caller::new(vm, &cpu.vcpu),
        vcpu: &mut cpu.vcpu,
        watched,
        port: None,
        device,
        reached: false,
    };
    match emulator.plain() {
        Some(outcome) => outcome,
        None => emulate(vm, emulator),
    }
}

/// Runs IN, OUT, INS or OUTS on a watched port, with `device` in its place.
#[inline(always)]
pub fn port<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    access: PortAccess,
    device: &mut impl Device,
) -> Outcome {
    if access.string {
        return port_string(vm, cpu, access, device);
    }
    let at = u64::from(access.port);
    if access.input {
        let value = device.read(at, access.size);
        if device.is_waiting() {
            return Outcome::HandUp;
        }
        let registers = cpu.vcpu.registers_mut();
        registers.rax = match access.size {
            1 => width::Width::Byte.merge(registers.rax, value),
            2 => width::Width::Word.merge(registers.rax, value),
            _ => width::Width::Double.cut(value),
        };
    } else {
        device.write(at, access.size, u64::from(access.value));
    }
    match access.next {
        Some(next) => Outcome::Emulated {
            length: next.wrapping_sub(cpu.vcpu.rip()) as u8,
        },
        None => Outcome::Done,
    }
}

#[cold]
fn port_string<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    access: PortAccess,
    device: &mut impl Device,
) -> Outcome {
    let emulator = Emulator {
        caller: Caller::new(vm, &cpu.vcpu),
        vcpu: &mut cpu.vcpu,
        watched: Gpa(0)..Gpa(0),
        port: Some(access),
        device,
        reached: false,
    };
    emulate(vm, emulator)
}

#[inline(never)]
fn emulate<V: Vcpu, M: Memory, D: Device>(
    vm: &Vm<M>,
    mut emulator: Emulator<'_, V, M, D>,
) -> Outcome {
    let fetched = match fetch(&emulator.caller, emulator.vcpu) {
        Ok(fetched) => fetched,
        Err(denied) => return Outcome::Fault(denied.exception()),
    };
    let Some((instruction, operation)) = known(&fetched, emulator.port.is_some()) else {
        return unknown(vm, emulator.vcpu, &fetched);
    };
    if emulator
        .port
        .is_some_and(|access| !is_same(&access, instruction, operation))
    {
        return Outcome::Resume;
    }
    let progress = emulator.execute(instruction, operation);
    if emulator.device.is_waiting() {
        return Outcome::HandUp;
    }
    match progress {
        Ok(Progress::Finished) => Outcome::Emulated {
            length: instruction.len() as u8,
        },
        Ok(Progress::Unfinished) => Outcome::Again,
        Err(exception) => Outcome::Fault(exception),
    }
}

/// Ports are for INS and OUTS, memory is for all others: an INS from a port
/// that is the guest's own into watched memory would have to do the port access
/// on the guest's behalf.
fn known(fetched: &Fetched, at_port: bool) -> Option<(&Instruction, Operation)> {
    let instruction = fetched.instruction.as_ref()?;
    let operation = Operation::of(instruction)?;
    let uses_port = matches!(operation, Operation::String(Text::Input | Text::Output));
    (uses_port == at_port).then_some((instruction, operation))
}

/// Whether this string instruction is the one that exited. The CPU has asked the
/// task's map of ports for that one; code that has changed since runs again, so
/// that it is asked for the ports that a wider one reaches.
fn is_same(access: &PortAccess, instruction: &Instruction, operation: Operation) -> bool {
    let input = operation == Operation::String(Text::Input);
    let width = operation::memory_width(instruction);
    input == access.input && width.is_some_and(|width| width.bytes() == access.size)
}

fn unknown<V: Vcpu, M>(vm: &Vm<M>, vcpu: &V, fetched: &Fetched) -> Outcome {
    let (bytes, rip, size) = (fetched.bytes(), vcpu.rip(), vcpu.code_size());
    let what = format_args!("{bytes:02x?}, rip {rip:#x}, {size:?}");
    vm.oddities.note(Oddity::UnknownForm, what);
    Outcome::Fault(Exception::InvalidOpcode)
}

impl<V: Vcpu, M: Memory, D: Device> Emulator<'_, V, M, D> {
    /// Replaces the status flags, of which `flags` has the new ones.
    fn set_status(&mut self, flags: Rflags) {
        if self.device.is_waiting() {
            return;
        }
        let others = self.vcpu.rflags() - arithmetic::STATUS;
        self.vcpu.set_rflags(others | (flags & arithmetic::STATUS));
    }
}

#[cfg(test)]
mod tests;
