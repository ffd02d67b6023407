//! `info`: what there is beneath.

use super::{Asked, Next, Out, State};
use abi::call::VERSION;
use machine::{Memory, Vcpu};

/// One fact.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let (vm, cpu) = (asked.place.vm, asked.place.cpu);
    let reserved = vm.memory.reserved();
    match state.step {
        0 => out.say(format_args!(
            "Underlay {}, version {VERSION} of the call interface, on {}",
            env!("CARGO_PKG_VERSION"),
            V::VENDOR.name()
        )),
        1 => out.say(format_args!(
            "its memory: {:#x} to {:#x}, {} of {} KiB used",
            reserved.start,
            reserved.end,
            vm.memory_used / 1024,
            (reserved.end.0 - reserved.start.0) / 1024
        )),
        _ => out.say(format_args!(
            "presence {:?}, printing {}, trace {}, compat {:?}",
            vm.presence,
            on_or_off(vm.printer.is_some()),
            on_or_off(cpu.counted.trace.is_on()),
            vm.compat
        )),
    }
    Next::more(state.step < 2)
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
