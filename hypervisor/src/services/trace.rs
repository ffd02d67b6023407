//! The switch of the trace, and its ways out: into the owner's buffer, or
//! straight to the log's port. The log's ration does not hold there, because
//! the machine's owner asked for a trace in the config; and its ring would lose
//! everything else to it.

use super::Failure;
use crate::buffer::Buffer;
use crate::caller::Caller;
use crate::reply::Reply;
use crate::trace::ring::Reader;
use crate::vm::{Cpu, Vm};
use abi::record::TraceRecord;
use abi::{Errno, report};
use core::fmt::Arguments;
use machine::{Memory, Vcpu, percpu, write_to_log_port};

/// Records written in one call. A serial port takes some hundredths of a second
/// for them, in which the guest gets no interrupts.
const BATCH: usize = 4;

/// Does what `command` says, see [`abi::call::TRACE`].
pub fn serve<V: Vcpu, M>(vm: &Vm<M>, cpu: &mut Cpu<V>, command: u64) -> Result<Reply, Failure> {
    offered(cpu)?;
    match command {
        0 => cpu.trace.switch(false),
        1 => cpu.trace.switch(true),
        2 => return Ok(write_out(vm, cpu, &mut write_to_log_port).into()),
        _ => return Err(Failure::Refused(Errno::InvalidArgument)),
    }
    Ok(0.into())
}

/// Gives the next records to `line`, and how far that is. Returns how many are
/// left; what `line` does not take is one of them, and comes again.
pub(super) fn write_out<V: Vcpu, M>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    line: &mut dyn FnMut(Arguments<'_>) -> bool,
) -> u64 {
    let number = percpu::number();
    for _ in 0..BATCH {
        let mut reader = cpu.trace_reader;
        let Some(record) = cpu.trace.read(&mut reader, number) else {
            break;
        };
        if !line(format_args!("{record}")) {
            break;
        }
        cpu.trace_reader = reader;
    }
    let written = report::Written {
        cpu: number,
        hz: vm.ticks_per_second,
        next: cpu.trace_reader.next,
        lost: cpu.trace_reader.lost,
    };
    let taken = line(format_args!("{written}"));
    cpu.trace.left(&cpu.trace_reader).max(u64::from(!taken))
}

/// Writes the records from number `next` on, as far as there is room. A number
/// that no record has yet is waited for, like the next one.
pub fn read<V: Vcpu, M: Memory>(
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    room: [u64; 2],
    next: u64,
) -> Result<Reply, Failure> {
    offered(cpu)?;
    let mut reader = Reader { next, lost: 0 };
    let left = match next < cpu.trace.next() {
        true => cpu.trace.left(&reader),
        false => 0,
    };
    let buffer = Buffer::for_records(caller, room, TraceRecord::SIZE, left)?;
    let mut written = 0;
    for place in (0..buffer.length()).step_by(TraceRecord::SIZE) {
        let Some(record) = cpu.trace.read(&mut reader, percpu::number()) else {
            break;
        };
        buffer.write(place, &TraceRecord::from(record).to_bytes())?;
        written += 1;
    }
    Ok(Reply::from(written).rbx(reader.next).rcx(reader.lost))
}

/// Starts or stops it. Returns what it was.
pub fn switch<V: Vcpu>(cpu: &Cpu<V>, on: u64) -> Result<Reply, Failure> {
    offered(cpu)?;
    let before = cpu.trace.is_on();
    match on {
        0 | 1 => cpu.trace.switch(on == 1),
        _ => return Err(Errno::InvalidArgument.into()),
    }
    Ok(u64::from(before).into())
}

fn offered<V: Vcpu>(cpu: &Cpu<V>) -> Result<(), Failure> {
    let offered = cpu.trace.is_possible();
    offered.then_some(()).ok_or(Errno::NoService.into())
}
