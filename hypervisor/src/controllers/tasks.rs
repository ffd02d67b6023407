//! Hardware task switches, which VT-x does not let a guest do by itself and no
//! 64-bit kernel does. They are not emulated yet.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::exit::TaskSwitch;
use x86::{Exception, Exit};

/// Refuses a switch as if the new task's state were invalid: #TS with its
/// selector. One that was to deliver an event ends as when the handler of a
/// double fault cannot run.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, _: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::TaskSwitch(TaskSwitch { selector, .. }) = *exit else {
        return Outcome::Pass;
    };
    log::warn!("task switch to selector {selector:#x}: not emulated, refused");
    Outcome::Fault(Exception::InvalidTaskState(u32::from(selector & !7)))
}
