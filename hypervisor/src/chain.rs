//! The chain: every controller, in the order in which an exit is offered.
//! Accesses to ports and accesses that the nested tables do not allow have lists
//! of their own, so that a device is asked at once. To add a controller, write
//! its file and its line in each list whose exits it handles: its name, and in
//! one of them the word `watches` if it has a function of that name, in which it
//! declares what it needs to see.

use crate::children::{self, Children};
use crate::controllers::child::{
    calls, cpuid as child_cpuid, debug, ends, faults, interruptions, memory as child_memory, msrs,
    ports as child_ports, waits,
};
#[cfg(feature = "breakable")]
use crate::controllers::mirror;
use crate::controllers::{
    apic, caches, control_registers, counters, cpuid, debug_registers, exceptions, hypercall,
    interrupts, msr, nested_fault, port, print, shutdown, signs, sleep, startup, tasks,
    translations, unasked, virtualisation, waiting, xsetbv,
};
use crate::counted::Counted;
use crate::outcome::{Outcome, Stop};
use crate::services;
use crate::statistics::{Counts, Moment};
use crate::trace::Whose;
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use abi::call;
use machine::nested::OutOfTables;
use machine::{Memory, Vcpu};
use x86::Exit;
use x86::exit::{Kind, NestedFault, PortAccess};

/// A list of controllers, and where the exits that they answer are counted.
pub trait Chain<V: Vcpu, M: Memory>: Copy {
    /// Whether `run` may answer by itself what the guest's services and MSRs would.
    const HAS_SERVICES: bool = false;
    /// Serves the call that runs a child's vCPU. False: it is another one, or one that
    /// has more to say; nothing has happened.
    #[inline(always)]
    fn turn_at_once(self, _: &Vm<M>, _: &mut Cpu<V>) -> bool {
        false
    }
    /// Does CPUID, where nobody has to be asked. False: it is for the list.
    fn cpuid_at_once(vm: &Vm<M>, cpu: &mut Cpu<V>, leaf: u32, subleaf: u32) -> bool;
    /// Offers an access to a port, of one that is no string, to who often gets some.
    /// What passes, or has to wait, has done nothing.
    fn offer_port_at_once(vm: &Vm<M>, cpu: &mut Cpu<V>, access: PortAccess) -> Outcome;
    /// The same with an access that the nested tables do not allow.
    fn offer_fault_at_once(vm: &Vm<M>, cpu: &mut Cpu<V>, fault: NestedFault) -> Outcome;
    /// Offers `exit` to each controller that is for such exits until one takes it.
    fn offer(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome;
    /// Whether the vCPU goes on after an exit that was answered.
    #[inline]
    fn go_on(_: &Cpu<V>) -> Result<(), Stop> {
        Ok(())
    }
    /// Counts an exit that was answered between these moments, on a CPU where
    /// this is counted.
    fn count(self, counted: &Counted, kind: Kind, begin: Moment, end: Moment);
    /// Whose exits these are, if they are to be recorded.
    fn whose(self) -> Option<Whose>;
}

/// The guest's.
pub struct Guest<V: Vcpu> {
    /// The VMs of its programs. They never change: no call has to find them again.
    children: Option<&'static Children<V>>,
}

impl<V: Vcpu> Guest<V> {
    /// That of `vm`.
    pub fn new<M>(vm: &Vm<M>) -> Self {
        Self {
            children: children::of(vm),
        }
    }
}

impl<V: Vcpu> Clone for Guest<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V: Vcpu> Copy for Guest<V> {}

impl<V: Vcpu, M: Memory> Chain<V, M> for Guest<V> {
    const HAS_SERVICES: bool = true;

    #[inline(always)]
    fn turn_at_once(self, vm: &Vm<M>, cpu: &mut Cpu<V>) -> bool {
        match self.children {
            Some(children) if cpu.vcpu.registers().rax == call::VM_TURN => {
                services::serve_turn(vm, cpu, children)
            }
            _ => false,
        }
    }

    #[inline(always)]
    fn cpuid_at_once(vm: &Vm<M>, cpu: &mut Cpu<V>, leaf: u32, subleaf: u32) -> bool {
        cpuid::answer(vm, &mut cpu.vcpu, leaf, subleaf);
        true
    }

    #[inline(always)]
    fn offer_port_at_once(vm: &Vm<M>, cpu: &mut Cpu<V>, access: PortAccess) -> Outcome {
        offer_port_at_once(vm, cpu, access)
    }

    #[inline(always)]
    fn offer_fault_at_once(vm: &Vm<M>, cpu: &mut Cpu<V>, fault: NestedFault) -> Outcome {
        offer_fault(vm, cpu, fault)
    }

    #[inline]
    fn offer(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
        match exit {
            Exit::Port(access) => offer_port(vm, cpu, *access),
            Exit::NestedFault(fault) => offer_fault(vm, cpu, *fault),
            other => offer_other(vm, cpu, other),
        }
    }

    #[inline(always)]
    fn count(self, counted: &Counted, kind: Kind, begin: Moment, end: Moment) {
        counted.statistics.add(kind, begin, end);
    }

    #[inline(always)]
    fn whose(self) -> Option<Whose> {
        Some(Whose::GUEST)
    }
}

/// A child's, for one of its vCPUs: its exits are its own wherever it runs, and
/// stand in the trace of that CPU.
#[derive(Clone, Copy)]
pub struct Child<'a> {
    /// The vCPU's. None for an exit that was counted and recorded when it was handed
    /// up.
    pub counts: Option<&'a Counts>,
    /// Which it is.
    pub whose: Whose,
}

impl<V: Vcpu, M: Memory> Chain<V, M> for Child<'_> {
    #[inline(always)]
    fn cpuid_at_once(_: &Vm<M>, cpu: &mut Cpu<V>, leaf: u32, subleaf: u32) -> bool {
        child_cpuid::answer_at_once(cpu, leaf, subleaf)
    }

    #[inline(always)]
    fn offer_port_at_once(vm: &Vm<M>, cpu: &mut Cpu<V>, access: PortAccess) -> Outcome {
        child_ports::handle_at_once(vm, cpu, access)
    }

    #[inline(always)]
    fn offer_fault_at_once(vm: &Vm<M>, cpu: &mut Cpu<V>, fault: NestedFault) -> Outcome {
        child_memory::handle_fault(vm, cpu, fault)
    }

    #[inline]
    fn offer(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
        match exit {
            Exit::Port(access) => child_ports::handle_port(vm, cpu, *access),
            Exit::NestedFault(fault) => child_memory::handle_fault(vm, cpu, *fault),
            other => offer_child(vm, cpu, other),
        }
    }

    /// Not where something is to be told to its program.
    #[inline]
    fn go_on(cpu: &Cpu<V>) -> Result<(), Stop> {
        match cpu.program.is_told {
            false => Ok(()),
            true => Err(Stop::HandUp),
        }
    }

    #[inline(always)]
    fn count(self, _: &Counted, kind: Kind, begin: Moment, end: Moment) {
        if let Some(counts) = self.counts {
            counts.add(kind, begin, end);
        }
    }

    #[inline(always)]
    fn whose(self) -> Option<Whose> {
        self.counts.map(|_| self.whose)
    }
}

macro_rules! chain {
    ($(
        $(#[$doc:meta])*
        $offer:ident by $handle:ident($what:ident: $What:ty) {
            $($(#[$when:meta])? $controller:ident $($watches:ident)?,)*
        }
    )*) => {
        /// Declares what each controller needs to see.
        pub fn declare<V: Vcpu, M: Memory>(
            vm: &Vm<M>,
            vcpu: &mut V,
        ) -> Result<(), OutOfTables> {
            let mut all = Watches::new(vm, vcpu);
            $($($(#[$when])? { $($controller::$watches(&mut all);)? })*)*
            all.finish()
        }

        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $offer<V: Vcpu, M: Memory>(
                vm: &Vm<M>,
                cpu: &mut Cpu<V>,
                $what: $What,
            ) -> Outcome {
                $(
                    $(#[$when])?
                    match $controller::$handle(vm, cpu, $what) {
                        Outcome::Pass => {}
                        outcome => return outcome,
                    }
                )*
                Outcome::Pass
            }
        )*
    };
}

chain! {
    /// Offers an access to ports.
    offer_port by handle_port(access: PortAccess) {
        print watches,
        sleep watches,
        port,
    }

    /// Offers an access to ports to devices whose ports are often used. Who passes
    /// is asked again in the whole list, so has done nothing.
    offer_port_at_once by handle_port(access: PortAccess) {
        print,
    }

    /// Offers an access that the nested tables do not allow.
    offer_fault by handle_fault(fault: NestedFault) {
        apic watches,
        print,
        #[cfg(feature = "breakable")]
        mirror,
        nested_fault,
    }

    /// Offers any other exit.
    offer_other by handle(exit: &Exit) {
        cpuid,
        hypercall,
        apic,
        signs watches,
        msr watches,
        control_registers,
        xsetbv,
        interrupts,
        startup,
        caches,
        virtualisation watches,
        tasks,
        exceptions,
        debug_registers,
        counters,
        waiting,
        translations,
        shutdown,
        unasked,
    }

    /// Offers any other exit of a child's. What none of these handles is its
    /// program's to know.
    offer_child by handle(exit: &Exit) {
        interruptions,
        child_cpuid,
        calls,
        msrs,
        faults,
        control_registers,
        xsetbv,
        virtualisation,
        tasks,
        debug,
        translations,
        waits,
        ends,
    }
}
