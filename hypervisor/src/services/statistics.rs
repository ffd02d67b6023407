//! What the exits of a CPU cost, and what was odd on any: for the log, or into
//! the owner's buffer.

use super::{Failure, counted};
use crate::buffer::write_records;
use crate::caller::Caller;
use crate::reply::Reply;
use crate::vm::{Cpu, Vm};
use abi::record::{ExitsRecord, OddityRecord};
use abi::report;
use core::fmt::Arguments;
use machine::{Memory, Vcpu};

/// Lines written in one call: the guest gets no interrupts while a serial port
/// takes them.
const BATCH: usize = 2;

/// Writes some lines of the table of CPU `of`, with what was odd on any, from
/// the one with the number `first`. Returns the number of the next line, or 0 at
/// the end. The caller learns nothing else, and the log's ration holds back who
/// asks too often.
pub fn write<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>, first: u64, of: u64) -> Result<Reply, Failure> {
    let next = write_to(vm, cpu, [first, of], &mut |line| log::info!("{line}"));
    next.map(Reply::from)
}

/// The same, to `line`. Every kind of exit has a number, so that one which
/// happens for the first time between two calls moves no other.
pub(super) fn write_to<V: Vcpu, M>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    [first, of]: [u64; 2],
    line: &mut dyn FnMut(Arguments<'_>),
) -> Result<u64, Failure> {
    let statistics = &counted(vm, cpu, of)?.statistics;
    let first = usize::try_from(first).unwrap_or(usize::MAX);
    let mut left = BATCH;
    if first == 0 {
        let lines = statistics.rows().count() + vm.oddities.kinds().flatten().count();
        let head = report::Statistics {
            cpu: of as u32,
            hz: vm.ticks_per_second,
            lines: lines as u64,
        };
        line(format_args!("{head}"));
        left -= 1;
    }
    let exits = statistics.kinds().map(|row| row.map(Row::Exits));
    let oddities = vm.oddities.kinds().map(|row| row.map(Row::Oddity));
    let rows = (1..).zip(exits.chain(oddities));
    for (number, row) in rows.skip(first.saturating_sub(1)) {
        let Some(row) = row else { continue };
        if left == 0 {
            return Ok(number);
        }
        left -= 1;
        match row {
            Row::Exits(row) => line(format_args!("{row}")),
            Row::Oddity(row) => line(format_args!("{row}")),
        }
    }
    Ok(0)
}

#[allow(clippy::large_enum_variant)] // one at a time, on the stack
enum Row {
    Exits(report::Exits<'static>),
    Oddity(report::Oddity<'static>),
}

/// Writes what there is of the kinds of exits of CPU `of` from number `first`
/// on, as far as there is room.
pub fn read<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    room: [u64; 2],
    [first, of]: [u64; 2],
) -> Result<Reply, Failure> {
    let rows = counted(vm, cpu, of)?.statistics.all();
    let all = rows.len() as u64;
    let records = rows.map(|row| ExitsRecord::from(row).to_bytes());
    let written = write_records(caller, room, records, first)?;
    Ok(Reply::from(written).rbx(all).rcx(of))
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

/// Forgets what was counted on CPU `of`. Returns how many exits that were.
pub fn reset<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>, of: u64) -> Result<Reply, Failure> {
    Ok(counted(vm, cpu, of)?.statistics.reset().into())
}
