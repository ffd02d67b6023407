//! The switch of the trace, and its way out: straight to the log's port. The
//! log's ration does not hold there, because the machine's owner asked for a
//! trace in the config; and its ring would lose everything else to it.

use super::Failure;
use crate::reply::Reply;
use crate::vm::{Cpu, Vm};
use abi::{Errno, report};
use core::fmt::Arguments;
use machine::{Vcpu, percpu, write_to_log_port};

/// Records written in one call. A serial port takes a tenth of a second for
/// them, in which the guest gets no interrupts.
const BATCH: usize = 16;

/// Does what `command` says, see [`abi::call::TRACE`].
pub fn serve<V: Vcpu, M>(vm: &Vm<M>, cpu: &mut Cpu<V>, command: u64) -> Result<Reply, Failure> {
    if !cpu.trace.is_possible() {
        return Err(Failure::Refused(Errno::NotPermitted));
    }
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
