//! Debug registers of a child. Where its accesses to them exit, they are in the CPU
//! only while its DR7 enables a breakpoint, which is looked at when a turn begins.

use crate::children::program::plain;
use crate::controllers::debug_registers;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::kind;
use machine::{Memory, Vcpu};
use x86::Exit;
use x86::exit::RegisterAccess;

/// Does the access. Another turn begins behind a write to DR7, or DR5, which is the
/// same or does not exist.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let outcome = debug_registers::handle(vm, cpu, exit);
    let is_switch = matches!(
        exit,
        Exit::Debug(RegisterAccess {
            register: 5 | 7,
            write: true,
            ..
        })
    );
    if is_switch && outcome == Outcome::Done {
        cpu.program.tell(plain(kind::INTERRUPTED));
    }
    outcome
}
