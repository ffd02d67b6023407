//! `cpus`: how many there are, and which this is.

use super::{Asked, Next, Out, State};
use machine::{Memory, Vcpu, percpu};
use x86::cpuid;

/// One fact.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let (vm, cpu) = (asked.place.vm, asked.place.cpu);
    match state.step {
        0 => out.say(format_args!("CPUs: {}", vm.cpus)),
        1 => out.say(format_args!(
            "this is cpu{}: {} exits so far; its clock ticks {} times a second",
            percpu::number(),
            cpu.statistics.total(),
            vm.ticks_per_second
        )),
        _ => {
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
    Next::more(state.step < 2)
}
