//! Ends of a child: a triple fault, and an entry that fails. Either is its
//! program's to know, and nobody else's.

use crate::children::program::plain;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::kind;
use abi::record::VmExit;
use machine::{Memory, Vcpu};
use x86::Exit;
use x86::exit::EntryFailure;

/// Tells the program.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let record = match *exit {
        Exit::TripleFault => plain(kind::SHUTDOWN),
        Exit::EntryFailed(failure) => failed(failure),
        _ => return Outcome::Pass,
    };
    cpu.program.tell(record);
    Outcome::HandUp
}

fn failed(failure: EntryFailure) -> VmExit {
    let (address, data) = match failure {
        EntryFailure::Instruction(number) => (1, u64::from(number)),
        EntryFailure::GuestState(detail) => (2, detail),
        EntryFailure::MsrLoad(index) => (3, index),
        EntryFailure::MachineCheck => (4, 0),
    };
    VmExit {
        address,
        data,
        ..plain(kind::ENTRY_FAILED)
    }
}
