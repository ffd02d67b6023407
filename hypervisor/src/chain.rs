//! The chain: every controller, in the order in which an exit is offered. To
//! add one, write its file and its line here.

use crate::controllers::{
    caches, control_registers, cpuid, hypercall, interrupts, msr, nested_fault, shutdown, startup,
    tasks, virtualisation, xsetbv,
};
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exit;

macro_rules! chain {
    ($($controller:ident,)*) => {
        /// Offers `exit` to each controller until one takes it.
        #[inline]
        pub fn offer<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
            $(
                match $controller::handle(vm, cpu, exit) {
                    Outcome::Pass => {}
                    outcome => return outcome,
                }
            )*
            Outcome::Pass
        }
    };
}

chain! {
    cpuid,
    hypercall,
    msr,
    nested_fault,
    control_registers,
    xsetbv,
    interrupts,
    startup,
    caches,
    virtualisation,
    tasks,
    shutdown,
}
