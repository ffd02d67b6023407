//! Instructions by which a child waits, or writes back caches, which are not
//! its.

use crate::children::program::plain;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::kind;
use machine::{Memory, Vcpu};
use x86::exit::{ControlAccess, Instruction, RegisterAccess};
use x86::{Exception, Exit};

/// HLT is its program's. Caches are coherent and all memory of a child is
/// write-back, so that nothing is to be done about them. CR8, where it exits,
/// holds nothing. All others are unknown.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match exit {
        Exit::Instruction(Instruction::Hlt) => {
            cpu.program.tell(plain(kind::HALT));
            Outcome::Done
        }
        Exit::Instruction(Instruction::Invd | Instruction::Wbinvd | Instruction::Pause) => {
            Outcome::Done
        }
        Exit::Control(ControlAccess::Move(RegisterAccess {
            register: 8,
            write,
            general: Some(general),
        })) => {
            if !write {
                cpu.vcpu.set_general(*general, 0);
            }
            Outcome::Done
        }
        Exit::Instruction(_) | Exit::Control(_) | Exit::Debug(_) => {
            Outcome::Fault(Exception::InvalidOpcode)
        }
        _ => Outcome::Pass,
    }
}
