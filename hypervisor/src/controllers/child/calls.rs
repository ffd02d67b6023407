//! The call instruction: a child calls its program.

use crate::children::program::{Answer, plain};
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::kind;
use abi::record::VmExit;
use machine::{Memory, Vcpu};
use x86::{Exception, Exit};

/// Gives its registers to the program, whose answer is RAX.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Hypercall = exit else {
        return Outcome::Pass;
    };
    let registers = cpu.vcpu.registers_mut();
    match cpu.program.answer.take() {
        Some(Answer::Values([value, ..])) => {
            registers.rax = value;
            return Outcome::Done;
        }
        Some(Answer::Fault) => return Outcome::Fault(Exception::GeneralProtection(0)),
        None => {}
    }
    let record = VmExit {
        data: registers.rax,
        values: [
            registers.rbx,
            registers.rcx,
            registers.rdx,
            registers.rsi,
            registers.rdi,
        ],
        ..plain(kind::CALL)
    };
    cpu.program.ask(exit, record);
    Outcome::HandUp
}
