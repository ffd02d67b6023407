//! MOV to and from debug registers, where it exits.

use crate::outcome::Outcome;
use machine::{CodeSize, Vcpu};
use x86::Exception;
use x86::control::Cr4;
use x86::exit::RegisterAccess;

/// DR7: any access to a debug register is a debug exception, in whose delivery the
/// bit is cleared. Intel SDM volume 3, "Debug Control Register (DR7)".
pub const GENERAL_DETECT: u64 = 1 << 13;
/// DR6: that was it.
const ACCESS_DETECTED: u64 = 1 << 13;

/// DR4 and DR5 are DR6 and DR7 unless CR4.DE says that they do not exist. The
/// upper halves of DR6 and DR7 must be written as 0. Intel SDM volume 3, "Debug
/// Registers". The exit comes before all that MOV DR may raise, unlike those of other
/// instructions. Intel SDM volume 3, "Relative Priority of Faults and VM Exits".
pub fn access<V: Vcpu>(vcpu: &mut V, access: RegisterAccess) -> Outcome {
    let RegisterAccess {
        register,
        write,
        general: Some(general),
    } = access
    else {
        return Outcome::Pass;
    };
    let register = match register {
        4 | 5 if vcpu.cr4().contains(Cr4::DE) => {
            return Outcome::Fault(Exception::InvalidOpcode);
        }
        4 | 5 => register + 2,
        other => other,
    };
    if vcpu.cpl() != 0 {
        return Outcome::Fault(Exception::GeneralProtection(0));
    }
    let control = vcpu.debug_register(7);
    if control & GENERAL_DETECT != 0 {
        vcpu.set_debug_register(7, control & !GENERAL_DETECT);
        let status = vcpu.debug_register(6);
        vcpu.set_debug_register(6, status | ACCESS_DETECTED);
        return Outcome::Fault(Exception::Debug);
    }
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
