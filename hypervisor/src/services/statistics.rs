//! What this CPU's exits cost, for the log.

use crate::vm::{Cpu, Vm};
use abi::report;
use machine::{Vcpu, percpu};

/// Writes the table of this CPU, with what was odd on any. The caller learns
/// nothing, and the log's ration holds back who asks too often.
pub fn write<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>) -> u64 {
    let lines = cpu.statistics.rows().count() + vm.oddities.rows().count();
    let head = report::Statistics {
        cpu: percpu::number(),
        hz: vm.ticks_per_second,
        lines: lines as u64,
    };
    log::info!("{head}");
    for row in cpu.statistics.rows() {
        log::info!("{row}");
    }
    for row in vm.oddities.rows() {
        log::info!("{row}");
    }
    0
}
