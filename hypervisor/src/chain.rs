//! The chain: every controller, in the order in which an exit is offered. To
//! add one, write its file and its line here: its name, and the word `watches`
//! if it has a function of that name, in which it declares what it needs to
//! see.

use crate::controllers::child::{
    calls, cpuid as child_cpuid, ends, faults, interruptions, memory as child_memory, msrs,
    ports as child_ports, waits,
};
#[cfg(feature = "breakable")]
use crate::controllers::mirror;
use crate::controllers::{
    apic, caches, control_registers, counters, cpuid, debug_registers, exceptions, hypercall,
    interrupts, msr, nested_fault, port, print, shutdown, signs, sleep, startup, tasks,
    translations, unasked, virtualisation, waiting, xsetbv,
};
use crate::outcome::{Outcome, Stop};
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use machine::nested::OutOfTables;
use machine::{Memory, Vcpu};
use x86::Exit;

/// A list of controllers.
pub trait Chain<V: Vcpu, M: Memory> {
    /// Whether `run` may answer CPUID, the cheapest call and RDMSR by itself, as
    /// the guest's controllers would.
    const AT_ONCE: bool = false;
    /// Declares what each controller needs to see.
    fn declare(watches: &mut Watches<V, M>);
    /// Offers `exit` to each controller until one takes it.
    fn offer(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome;
    /// Whether the vCPU goes on after an exit that was answered.
    #[inline]
    fn go_on(_: &Cpu<V>) -> Result<(), Stop> {
        Ok(())
    }
}

/// Declares what the guest's controllers need to see.
pub fn declare<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &mut V) -> Result<(), OutOfTables> {
    let mut all = Watches::new(vm, vcpu);
    Guest::declare(&mut all);
    all.finish()
}

macro_rules! chain {
    ($(#[$about:meta])* $name:ident $(at_once $at_once:literal)? $(go_on $go_on:path)? :
     $($(#[$when:meta])? $controller:ident $($watches:ident)?,)*) => {
        $(#[$about])*
        pub struct $name;

        impl<V: Vcpu, M: Memory> Chain<V, M> for $name {
            $(const AT_ONCE: bool = $at_once;)?

            fn declare(_all: &mut Watches<V, M>) {
                $($(#[$when])? { $($controller::$watches(_all);)? })*
            }

            #[inline]
            fn offer(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
                $(
                    $(#[$when])?
                    match $controller::handle(vm, cpu, exit) {
                        Outcome::Pass => {}
                        outcome => return outcome,
                    }
                )*
                Outcome::Pass
            }

            $(#[inline]
            fn go_on(cpu: &Cpu<V>) -> Result<(), Stop> {
                $go_on(cpu)
            })?
        }
    };
}

chain! {
    /// The guest's.
    Guest at_once true:
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

chain! {
    /// A child's. What none of these handles is its program's to know.
    Child go_on go_on_alone:
    interruptions,
    child_cpuid,
    calls,
    child_ports,
    child_memory,
    msrs,
    faults,
    control_registers,
    xsetbv,
    virtualisation,
    tasks,
    debug_registers,
    translations,
    waits,
    ends,
}

/// Not where something is to be told to its program.
fn go_on_alone<V>(cpu: &Cpu<V>) -> Result<(), Stop> {
    match cpu.program.exit {
        None => Ok(()),
        Some(_) => Err(Stop::HandUp),
    }
}
