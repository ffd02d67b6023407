//! The log: read by its owner, written by anyone within a ration.

use super::Failure;
use crate::buffer::{Access, Buffer, Pages};
use crate::caller::Caller;
use crate::reply::Reply;
use crate::vm::{Cpu, Vm};
use ::log::LevelFilter;
use abi::Errno;
use abi::call::LOG_TEXT_MAX;
use core::fmt::Arguments;
use machine::{LOG_LINE_MAX, LogLine, Memory, Vcpu};

/// Where lines come from: a line's number and the place for its text.
type Source<'a> = &'a dyn Fn(u64, &mut [u8]) -> LogLine;

/// Fills the caller's buffer with lines.
pub fn read<M: Memory>(
    caller: &Caller<M>,
    source: Source<'_>,
    [buffer, bytes, line]: [u64; 3],
) -> Result<Reply, Failure> {
    let mut pages = Pages::default();
    let buffer = Buffer::at_gva(&mut pages, caller, buffer, bytes, Access::Write)?;
    fill(&buffer, source, line)
}

/// Writes the whole lines from number `next` on that fit into the buffer. What
/// is gone is counted; a buffer in which not even the first line fits is a
/// mistake.
pub fn fill<M: Memory>(
    buffer: &Buffer<M>,
    source: Source<'_>,
    mut next: u64,
) -> Result<Reply, Failure> {
    let (mut done, mut lost) = (0, 0);
    let mut text = [0; LOG_LINE_MAX];
    loop {
        match source(next, &mut text) {
            LogLine::NotYet => break,
            // Lost lines are told before those that follow them.
            LogLine::Lost { .. } if done > 0 => break,
            LogLine::Lost { oldest } => {
                lost += oldest.saturating_sub(next);
                next = oldest;
            }
            LogLine::Whole(length) if done + length <= buffer.length() => {
                buffer.write(done, text.get(..length).unwrap_or(&[]))?;
                done += length;
                next += 1;
            }
            LogLine::Whole(_) if done == 0 => return Err(Errno::InvalidArgument.into()),
            LogLine::Whole(_) => break,
        }
    }
    Ok(Reply::from(done as u64).rbx(next).rcx(lost))
}

/// Writes a line, marked with who wrote it. What is no printable character
/// shows as a dot. Nobody's lines use up the kernel's ration.
pub fn write<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    say: &dyn Fn(Arguments<'_>),
    [address, bytes]: [u64; 2],
) -> Result<Reply, Failure> {
    let mut line = [0; LOG_TEXT_MAX];
    let bytes = bytes.min(LOG_TEXT_MAX as u64);
    let mut pages = Pages::default();
    let buffer = Buffer::at_gva(&mut pages, caller, address, bytes, Access::Read)?;
    buffer.read(0, &mut line)?;
    let text = line.get_mut(..buffer.length()).unwrap_or(&mut []);
    for byte in text
        .iter_mut()
        .filter(|byte| !(b' '..=b'~').contains(*byte))
    {
        *byte = b'.';
    }
    let (ration, writer) = match caller.kernel {
        true => (&vm.kernel_lines, "the guest's kernel"),
        false => (&vm.program_lines, "a guest's program"),
    };
    if !ration.take(1, cpu.vcpu.ticks(), vm.ticks_per_second) {
        return Err(Errno::TryAgain.into());
    }
    let text = core::str::from_utf8(text).unwrap_or("");
    say(format_args!("{writer} writes: {text}"));
    Ok(bytes.into())
}

/// Where lines go.
pub fn say(line: Arguments<'_>) {
    ::log::info!(target: "guest", "{line}");
}

/// Sets how important a line must be: 0 none, 1 errors, 2 and warnings, 3 and
/// what is worth knowing, 4 and what an engineer asks for, 5 everything.
/// Returns what it was.
pub fn level(level: u64) -> Result<Reply, Failure> {
    let found = LevelFilter::iter().find(|filter| *filter as u64 == level);
    let before = ::log::max_level() as u64;
    ::log::set_max_level(found.ok_or(Errno::InvalidArgument)?);
    Ok(before.into())
}
