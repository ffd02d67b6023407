//! MOV to and from debug registers.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{CodeSize, Memory, Vcpu};
use x86::control::Cr4;
use x86::exit::RegisterAccess;
use x86::{Exception, Exit};

/// DR4 and DR5 are DR6 and DR7 unless CR4.DE says that they do not exist. The
/// upper halves of DR6 and DR7 must be written as 0. Intel SDM volume 3, "Debug
/// Registers".
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Debug(RegisterAccess {
        register,
        write,
        general: Some(general),
    }) = *exit
    else {
        return Outcome::Pass;
    };
    let vcpu = &mut cpu.vcpu;
    let register = match register {
        4 | 5 if vcpu.cr4().contains(Cr4::DE) => {
            return Outcome::Fault(Exception::InvalidOpcode);
        }
        4 | 5 => register + 2,
        other => other,
    };
    let wide = vcpu.code_size() == CodeSize::Bits64;
    let mask = if wide { u64::MAX } else { 0xffff_ffff };
    if !write {
        let value = vcpu.debug_register(register);
        vcpu.set_general(general, value & mask);
        return Outcome::Done;
    }
    let value = vcpu.general(general) & mask;
    if register >= 6 && value > 0xffff_ffff {
        return Outcome::Fault(Exception::GeneralProtection(0));
    }
    vcpu.set_debug_register(register, value);
    Outcome::Done
}
