//! The greeting.

use crate::vm::{Cpu, Vm};
use abi::greeting::{GREETING, LOGO};
use core::fmt::Arguments;
use core::sync::atomic::Ordering;
use machine::{Memory, Vcpu};

/// Lines of a greeting: the logo, and two of text.
const LINES: u64 = LOGO.len() as u64 + 2;

/// Gives a logo and a greeting to `say`. Returns the greetings so far. Anybody
/// may ask for one, so a ration keeps them from washing all else out of the
/// log: what goes over it is counted alone.
pub fn hello<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &Cpu<V>, say: &dyn Fn(Arguments<'_>)) -> u64 {
    let count = vm.greetings.fetch_add(1, Ordering::Relaxed) + 1;
    let now = cpu.vcpu.ticks();
    if vm.greeting_lines.take(LINES, now, vm.ticks_per_second) {
        for line in LOGO {
            say(format_args!("{line}"));
        }
        say(format_args!("{GREETING} (greeting {count})"));
        say(format_args!("exits so far: {}", cpu.counted.statistics));
    }
    count
}

/// Where the lines go.
pub fn say(line: Arguments<'_>) {
    log::info!("{line}");
}
