//! MSRs of a child that exit: EFER, where the hardware does not switch it, and
//! what a child has not, which its program may play.

use crate::children::program::{Answer, plain};
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::{entry, exit as flags, kind};
use abi::record::VmExit;
use machine::{Memory, Vcpu};
use x86::control::Efer;
use x86::{Exception, Exit, msr};

/// Reads or writes it, or raises #GP, as for a register that is not there.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let (number, written) = match *exit {
        Exit::ReadMsr { number } => (number, None),
        Exit::WriteMsr { number, value } => (number, Some(value)),
        _ => return Outcome::Pass,
    };
    let vcpu = &mut cpu.vcpu;
    let done = match (number, written) {
        (msr::EFER, Some(value)) => vcpu.set_efer(Efer::from_bits_retain(value)),
        (msr::EFER, None) => read(vcpu, vcpu.efer().bits()),
        (msr::TSC, None) => read(vcpu, vcpu.ticks()),
        _ => return other(cpu, exit, number, written),
    };
    match done {
        true => Outcome::Done,
        false => Outcome::Fault(Exception::GeneralProtection(0)),
    }
}

fn read<V: Vcpu>(vcpu: &mut V, value: u64) -> bool {
    vcpu.registers_mut().set_edx_eax(value);
    true
}

fn other<V: Vcpu>(cpu: &mut Cpu<V>, exit: &Exit, number: u32, written: Option<u64>) -> Outcome {
    match cpu.program.answer.take() {
        Some(Answer::Values([value, ..])) => {
            if written.is_none() {
                read(&mut cpu.vcpu, value);
            }
            Outcome::Done
        }
        None if cpu.program.wants(entry::MSRS) => {
            let record = VmExit {
                flags: if written.is_none() { flags::READ } else { 0 },
                size: 8,
                port: number,
                data: written.unwrap_or(0),
                ..plain(kind::MSR)
            };
            // A write is answered, too: the register may refuse it.
            cpu.program.tell(record);
            cpu.program.waiting = Some(*exit);
            Outcome::HandUp
        }
        _ => Outcome::Fault(Exception::GeneralProtection(0)),
    }
}
