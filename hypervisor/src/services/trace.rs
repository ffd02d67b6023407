//! The switch of the trace, and its ways out: into the owner's buffer, or
//! straight to the log's port. The log's ration does not hold there, because
//! the machine's owner asked for a trace in the config; and its ring would lose
//! everything else to it.

use super::{Failure, counted};
use crate::buffer::{Buffer, Pages};
use crate::caller::Caller;
use crate::reply::Reply;
use crate::trace::Trace;
use crate::trace::ring::Reader;
use crate::vm::{Cpu, Vm};
use abi::record::TraceRecord;
use abi::{Errno, report};
use core::fmt::Arguments;
use machine::{Memory, Vcpu, write_to_log_port};

/// Records written in one call. A serial port takes some hundredths of a second
/// for them, in which the guest gets no interrupts.
const BATCH: usize = 4;

/// Does what `command` says, see [`abi::call::TRACE`], with the trace of CPU
/// `of`.
pub fn serve<V: Vcpu, M>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    command: u64,
    of: u64,
) -> Result<Reply, Failure> {
    let trace = offered(vm, cpu, of)?;
    match command {
        0 => trace.switch(false),
        1 => trace.switch(true),
        2 => return Ok(write_out(vm, trace, of as u32, &mut write_to_log_port).into()),
        _ => return Err(Failure::Refused(Errno::InvalidArgument)),
    }
    Ok(0.into())
}

/// Gives the next records of CPU `number` to `line`, and how far that is.
/// Returns how many are left; what `line` does not take is one of them, and
/// comes again. Who else writes the same trace meanwhile waits.
pub(super) fn write_out<M>(
    vm: &Vm<M>,
    trace: &Trace,
    number: u32,
    line: &mut dyn FnMut(Arguments<'_>) -> bool,
) -> u64 {
    let mut so_far = trace.written.lock();
    for _ in 0..BATCH {
        let mut reader = *so_far;
        let Some(record) = trace.read(&mut reader, number) else {
            break;
        };
        if !line(format_args!("{record}")) {
            break;
        }
        *so_far = reader;
    }
    let written = report::Written {
        cpu: number,
        hz: vm.ticks_per_second,
        next: so_far.next,
        lost: so_far.lost,
    };
    let taken = line(format_args!("{written}"));
    trace.left(&so_far).max(u64::from(!taken))
}

/// Writes the records of CPU `of` from number `next` on, as far as there is
/// room. A number that no record has yet is waited for, like the next one.
pub fn read<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    room: [u64; 2],
    [next, of]: [u64; 2],
) -> Result<Reply, Failure> {
    let trace = offered(vm, cpu, of)?;
    let mut reader = Reader { next, lost: 0 };
    let left = match next < trace.next() {
        true => trace.left(&reader),
        false => 0,
    };
    let mut pages = Pages::default();
    let buffer = Buffer::for_records(&mut pages, caller, room, TraceRecord::SIZE, left)?;
    let mut written = 0;
    for place in (0..buffer.length()).step_by(TraceRecord::SIZE) {
        let Some(record) = trace.read(&mut reader, of as u32) else {
            break;
        };
        buffer.write(place, &TraceRecord::from(record).to_bytes())?;
        written += 1;
    }
    Ok(Reply::from(written).rbx(reader.next).rcx(reader.lost))
}

/// Starts or stops it on CPU `of`. Returns what it was.
pub fn switch<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>, on: u64, of: u64) -> Result<Reply, Failure> {
    let trace = offered(vm, cpu, of)?;
    let before = trace.is_on();
    match on {
        0 | 1 => trace.switch(on == 1),
        _ => return Err(Errno::InvalidArgument.into()),
    }
    Ok(u64::from(before).into())
}

/// The trace of CPU `of`, if the config asks for one.
fn offered<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>, of: u64) -> Result<&'static Trace, Failure> {
    let trace = &counted(vm, cpu, of)?.trace;
    let offered = trace.is_possible();
    offered.then_some(trace).ok_or(Errno::NoService.into())
}
