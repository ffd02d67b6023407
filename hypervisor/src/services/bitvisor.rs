//! What BitVisor's clients know by name beside its debug shell: a buffer for
//! the log, and a status. Arguments and results are as they expect them, so
//! that they run as they are.

use crate::buffer::{Access, Buffer, Pages};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::text::Text;
use crate::vm::{Cpu, Vm};
use abi::Errno;
use abi::call::LOG_BUFFER_MAX;
use machine::{Memory, Vcpu, percpu};
use x86::Gpa;

/// The log's copy begins with a count that is read in one access.
const ALIGN: u64 = 4;
/// The shortest buffer that holds a count and text.
const SMALLEST: u64 = 8;

/// Has further lines of the log copied into the `bytes` at `buffer`.
pub fn log_set_buf<M: Memory>(
    caller: &Caller<M>,
    buffer: u64,
    bytes: u64,
) -> Result<Reply, Failure> {
    let wanted = (buffer != 0 && bytes != 0).then_some((Gpa(buffer), bytes));
    let fits = (SMALLEST..=LOG_BUFFER_MAX).contains(&bytes) && buffer.is_multiple_of(ALIGN);
    if wanted.is_some() && !fits {
        return Err(Errno::InvalidArgument.into());
    }
    let set = caller.memory().copy_log(wanted);
    set.map_err(|_| Errno::InvalidArgument)?;
    Ok(0.into())
}

/// Room for the longest status.
const STATUS_MAX: usize = 512;

/// Writes the status, or says how much room it takes.
pub fn get_status<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    address: u64,
    room: u64,
) -> Result<Reply, Failure> {
    let status = status(vm, cpu);
    let length = status.bytes().len() as u64;
    if length > room {
        return Ok(Reply::from(1).rcx(length));
    }
    let mut pages = Pages::default();
    let buffer = Buffer::at_gva(&mut pages, caller, address, length, Access::Write)?;
    buffer.write(0, status.bytes())?;
    Ok(Reply::from(0).rcx(length))
}

fn status<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &Cpu<V>) -> Text<STATUS_MAX> {
    let mut text = Text::default();
    let reserved = vm.memory.reserved();
    text.say(format_args!(
        "Underlay {} on {}\n",
        env!("CARGO_PKG_VERSION"),
        V::VENDOR.name()
    ));
    text.say(format_args!(
        "{} of {} KiB used\n",
        vm.memory_used / 1024,
        (reserved.end.0 - reserved.start.0) / 1024
    ));
    text.say(format_args!(
        "cpu{}: {} exits\n",
        percpu::number(),
        cpu.counted.statistics.total()
    ));
    text
}
