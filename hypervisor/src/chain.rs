//! The chain: every controller, in the order in which an exit is offered. To
//! add one, write its file and its line here: its name, and the word `watches`
//! if it has a function of that name, in which it declares what it needs to
//! see.

#[cfg(feature = "breakable")]
use crate::controllers::mirror;
use crate::controllers::{
    apic, caches, control_registers, counters, cpuid, debug_registers, exceptions, hypercall,
    interrupts, msr, nested_fault, port, print, shutdown, signs, sleep, startup, tasks,
    translations, unasked, virtualisation, waiting, xsetbv,
};
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use machine::nested::OutOfTables;
use machine::{Memory, Vcpu};
use x86::Exit;

macro_rules! chain {
    ($($(#[$when:meta])? $controller:ident $($watches:ident)?,)*) => {
        /// Declares what each controller needs to see.
        pub fn declare<V: Vcpu, M: Memory>(
            vm: &Vm<M>,
            vcpu: &mut V,
        ) -> Result<(), OutOfTables> {
            let mut all = Watches::new(vm, vcpu);
            $($(#[$when])? { $($controller::$watches(&mut all);)? })*
            all.finish()
        }

        /// Offers `exit` to each controller until one takes it.
        #[inline]
        pub fn offer<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
            $(
                $(#[$when])?
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
    apic watches,
    signs watches,
    msr watches,
    print watches,
    #[cfg(feature = "breakable")]
    mirror,
    nested_fault,
    control_registers,
    xsetbv,
    interrupts,
    startup,
    caches,
    virtualisation watches,
    tasks,
    sleep watches,
    port,
    exceptions,
    debug_registers,
    counters,
    waiting,
    translations,
    shutdown,
    unasked,
}
