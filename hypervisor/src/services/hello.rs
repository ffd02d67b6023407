//! The greeting.

use crate::statistics::Statistics;
use crate::vm::Vm;
use abi::greeting::{GREETING, LOGO};
use core::sync::atomic::Ordering;
use machine::Memory;

/// Writes a logo and a greeting to the log. Returns the greetings so far.
pub fn hello<M: Memory>(vm: &Vm<M>, statistics: &Statistics) -> u64 {
    let count = vm.greetings.fetch_add(1, Ordering::Relaxed) + 1;
    for line in LOGO {
        log::info!("{line}");
    }
    log::info!("{GREETING} (greeting {count})");
    log::info!("exits so far: {statistics}");
    count
}
