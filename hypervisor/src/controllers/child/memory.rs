//! Accesses of a child to what it does not see: registers of a device that its
//! program plays. The instruction is decoded and done here; the program sees
//! one read or one write of so many bytes.

use super::ports::{Asked, Device};
use crate::children::program::plain;
use crate::emulator;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::kind;
use abi::record::VmExit;
use machine::{Memory, Vcpu};
use x86::exit::NestedFault;
use x86::{Exception, Exit, Gpa, PAGE_SIZE};

/// Does the access with the program in the device's place.
pub fn handle_fault<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    fault: NestedFault,
) -> Outcome {
    let exit = &Exit::NestedFault(fault);
    // No instruction's access, or one that a device cannot answer: the program
    // may show the child memory there, and it tries again.
    if cpu.vcpu.event().is_some() || fault.walk || fault.access.fetch {
        let record = VmExit {
            address: fault.gpa.0,
            data: u64::from(fault.access.fetch),
            ..plain(kind::OTHER)
        };
        cpu.program.tell(record);
        return Outcome::Resume;
    }
    let page = fault.gpa.page();
    let watched = page..Gpa(page.0.saturating_add(PAGE_SIZE));
    let Some(mut device) = Asked::new(cpu) else {
        return Outcome::Fault(Exception::GeneralProtection(0));
    };
    let outcome = emulator::access(vm, cpu, watched, &mut device);
    device.finish(cpu, exit, outcome, |access| Device {
        kind: kind::MEMORY,
        address: page.0 + access.at,
        ..Device::default()
    })
}
