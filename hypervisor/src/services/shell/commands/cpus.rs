//! `cpus`: which there are, what each does, and which this is.

use super::{Asked, Next, Out, State};
use crate::counted;
use machine::{Memory, Vcpu};
use x86::cpuid;
use x86::startup;

/// One CPU, or one fact about this one.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let (vm, cpu) = (asked.place.vm, asked.place.cpu);
    let all = u64::from(vm.cpus);
    match state.step.checked_sub(all) {
        None => one(asked, state.step as u32, out),
        Some(0) => out.say(format_args!(
            "this is cpu{}; its clock ticks {} times a second",
            cpu.number, vm.ticks_per_second
        )),
        Some(_) => {
            let leaf = cpu.vcpu.cpuid(cpuid::FEATURES, 0);
            out.say(format_args!(
                "{}, signature {:#x}, privilege level {}, {}-bit code",
                V::VENDOR.name(),
                leaf.eax,
                cpu.vcpu.cpl(),
                cpu.vcpu.code_size().bits()
            ));
        }
    }
    Next::more(state.step <= all)
}

fn one<V: Vcpu, M: Memory>(asked: &Asked<V, M>, number: u32, out: &mut Out) {
    let (vm, cpu) = (asked.place.vm, asked.place.cpu);
    let Some((apic, state)) = vm.peers.place(number) else {
        return;
    };
    let counted = counted::of(vm, cpu, number.into());
    let exits = counted.map_or(0, |counted| counted.statistics.total());
    out.say(format_args!(
        "cpu{number}: APIC {apic}, {}, {exits} exits so far",
        does(state)
    ));
}

fn does(state: startup::State) -> &'static str {
    match state {
        startup::State::Running(_) => "runs",
        startup::State::Waiting => "waits for a start-up IPI",
        startup::State::Init => "got an INIT",
        startup::State::Started(_) => "got a start-up IPI",
    }
}
