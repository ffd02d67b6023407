//! What this CPU's exits cost, and what was odd: for the log, or into the
//! owner's buffer.

use super::Failure;
use crate::buffer::write_records;
use crate::caller::Caller;
use crate::reply::Reply;
use crate::vm::{Cpu, Vm};
use abi::record::{ExitsRecord, OddityRecord};
use abi::report;
use machine::{Memory, Vcpu, percpu};

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

/// Writes what there is of the kinds of exits from number `first` on, as far as
/// there is room.
pub fn read<V: Vcpu, M: Memory>(
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    room: [u64; 2],
    first: u64,
) -> Result<Reply, Failure> {
    let rows = cpu.statistics.all();
    let all = rows.len() as u64;
    let records = rows.map(|row| ExitsRecord::from(row).to_bytes());
    let written = write_records(caller, room, records, first)?;
    Ok(Reply::from(written).rbx(all).rcx(percpu::number().into()))
}

/// The same for what is odd.
pub fn oddities<M: Memory>(
    vm: &Vm<M>,
    caller: &Caller<M>,
    room: [u64; 2],
    first: u64,
) -> Result<Reply, Failure> {
    let rows = vm.oddities.all();
    let all = rows.len() as u64;
    let records = rows.map(|row| OddityRecord::from(row).to_bytes());
    let written = write_records(caller, room, records, first)?;
    Ok(Reply::from(written).rbx(all))
}

/// Forgets what was counted on this CPU. Returns how many exits that were.
pub fn reset<V: Vcpu>(cpu: &Cpu<V>) -> u64 {
    let total = cpu.statistics.total();
    cpu.statistics.reset();
    total
}
