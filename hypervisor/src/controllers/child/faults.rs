//! Exceptions of a child that exit: two in whose delivery it could stay for
//! ever, which are raised as they were, and machine checks, which are not its.

use crate::children::program::plain;
use crate::debug::GENERAL_DETECT;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::kind;
use machine::{Memory, Vcpu};
use x86::{Exception, Exit};

const DEBUG: u8 = 1;
const MACHINE_CHECK: u8 = 18;

/// Causes of a debug exception that a child can have: breakpoints, general detection,
/// a single step.
const CAUSES: u64 = 0x600f;

/// Raises it, or leaves the CPU to the guest.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Exception { event, detail } = *exit else {
        return Outcome::Pass;
    };
    match event.vector {
        MACHINE_CHECK => {
            cpu.program.leave_for(exit, plain(kind::INTERRUPTED));
            return Outcome::Resume;
        }
        // Under VT-x an exit leaves DR6 as it was. Intel SDM volume 3, "Exit
        // Qualification for Debug Exceptions".
        DEBUG => {
            let control = cpu.vcpu.debug_register(7);
            let before = cpu.vcpu.debug_register(6);
            let causes = enabled(detail & CAUSES, control);
            cpu.vcpu.set_debug_register(6, before | causes);
            // Only the delivery by the CPU itself does that.
            cpu.vcpu.set_debug_register(7, control & !GENERAL_DETECT);
        }
        _ => {}
    }
    Outcome::Fault(Exception::from_event(event, detail))
}

/// `causes` of a debug exception without breakpoints that `control`, DR7, does not
/// enable: the CPU may report those, too, and the addresses may be the guest's.
fn enabled(causes: u64, control: u64) -> u64 {
    (0..4)
        .filter(|number| control >> (2 * number) & 3 == 0)
        .fold(causes, |causes, number| causes & !(1 << number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_breakpoints_of_its_own_are_causes() {
        const SINGLE_STEP: u64 = 1 << 14;
        assert_eq!(enabled(SINGLE_STEP | 0xf, 0), SINGLE_STEP);
        assert_eq!(enabled(0xf, 0b01 | 0b10 << 4), 0b0101);
        assert_eq!(enabled(0b0010, 0xff), 0b0010);
    }
}
