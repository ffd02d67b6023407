//! What a CPU does when its system takes it up, or may be about to leave it
//! halted: `peers` learns from it when start-up signals have to be watched for.

use crate::outcome::Outcome;
use crate::peers::watch;
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use machine::{Memory, Vcpu};
use x86::control::Cr0;
use x86::exit::Instruction;
use x86::startup::Sign;
use x86::{Exception, Exit, msr};

/// The entry for system calls, and instructions that write caches back.
pub fn watches<V: Vcpu, M: Memory>(watches: &mut Watches<V, M>) {
    if watches.vm.peers.watch.may_end {
        watches.msrs(msr::LSTAR..=msr::LSTAR, false, true);
        watches.write_backs();
    }
}

/// Notes the sign. Caches are left to the controller of these.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match *exit {
        Exit::WriteMsr {
            number: msr::LSTAR,
            value,
        } => {
            if !cpu.vcpu.set_system_call_entry(value) {
                return Outcome::Fault(Exception::GeneralProtection(0));
            }
            watch::note(vm, cpu, Sign::Entry);
            Outcome::Done
        }
        // With caches off it changes memory types, as a kernel does early in its
        // boot; a CPU that halts for good has them on until then.
        Exit::Instruction(Instruction::Invd | Instruction::Wbinvd)
            if !cpu.vcpu.cr0().contains(Cr0::CD) =>
        {
            watch::note(vm, cpu, Sign::WriteBack);
            Outcome::Pass
        }
        _ => Outcome::Pass,
    }
}
