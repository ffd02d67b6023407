//! The debug shell: lines in, text out, in parts of bounded length. Nothing
//! here waits for anybody: a command is a series of steps, each of which makes
//! a line of text, and a session remembers which step comes next. BitVisor's
//! clients reach the same shell a byte at a time.

mod commands;
mod line;
mod session;
mod sessions;
mod view;

pub use sessions::Sessions;

use crate::buffer::{Access, Buffer, Pages};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::vm::{Cpu, Vm};
use abi::Errno;
use abi::call::{SHELL_LINE_MAX, SHELL_TEXT_MAX};
use commands::Place;
use machine::{Memory, Vcpu};
use session::Session;

/// Steps of one call, of which each makes a line, or none.
const STEPS: usize = 256;

/// `dbgsh`: nothing was typed, and nothing was taken.
const NOTHING: i32 = -1;
/// `dbgsh`: the newline behind the end of a session.
const END: u64 = 0x100 | b'\n' as u64;

/// Begins a session. Returns its handle.
pub fn open<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>) -> u64 {
    let [low, high] = vm.token.0;
    vm.shell.open(low ^ high ^ cpu.vcpu.ticks())
}

/// Runs a line in the session `handle`, and writes its text as far as there is
/// room. Both are an address and a length.
pub fn line<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    handle: u64,
    [line, text]: [[u64; 2]; 2],
) -> Result<Reply, Failure> {
    let [address, bytes] = line;
    if bytes > SHELL_LINE_MAX as u64 {
        return Err(Errno::InvalidArgument.into());
    }
    let (mut line_pages, mut text_pages) = (Pages::default(), Pages::default());
    let line = Buffer::at_gva(&mut line_pages, caller, address, bytes, Access::Read)?;
    let [address, room] = text;
    let room = room.min(SHELL_TEXT_MAX as u64);
    let text = Buffer::at_gva(&mut text_pages, caller, address, room, Access::Write)?;
    let mut typed = [0; SHELL_LINE_MAX];
    line.read(0, &mut typed)?;
    let typed = typed.get(..line.length()).unwrap_or(&[]);
    let place = Place { vm, cpu };
    let run = |session: &mut Session| {
        if !typed.is_empty() {
            session.begin(typed);
        }
        let done = fill(session, &place, &text)?;
        let more = session.has_more();
        let ended = session.has_ended() && !more;
        if ended {
            session.close();
        }
        Ok(Reply::from(done as u64).rbx(more.into()).rcx(ended.into()))
    };
    let reply = vm.shell.with(handle, run);
    reply.unwrap_or(Err(Errno::InvalidArgument.into()))
}

/// Writes what `session` has to say, as far as there is room and one call goes.
fn fill<V: Vcpu, M: Memory>(
    session: &mut Session,
    place: &Place<V, M>,
    text: &Buffer<M>,
) -> Result<usize, Failure> {
    let mut done = 0;
    for _ in 0..STEPS {
        session.refill(place);
        let left = session.left();
        let size = left.len().min(text.length() - done);
        text.write(done, left.get(..size).unwrap_or(&[]))?;
        session.give(size);
        done += size;
        if done == text.length() || !session.has_more() {
            break;
        }
    }
    Ok(done)
}

/// Ends the session `handle`.
pub fn close<M>(vm: &Vm<M>, handle: u64) -> Result<Reply, Failure> {
    let closed = vm.shell.with(handle, Session::close);
    closed.ok_or(Errno::InvalidArgument)?;
    Ok(0.into())
}

/// The shell a byte at a time: takes one, or none, and returns the next one to
/// show. There is one such session for all.
pub fn byte<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &Cpu<V>, argument: u64) -> u64 {
    let place = Place { vm, cpu };
    vm.shell.with_typed(|session| {
        match argument as i32 {
            NOTHING => {}
            byte => session.answer(byte as u8),
        }
        for _ in 0..STEPS {
            let was_idle = !session.has_more();
            session.refill(&place);
            if was_idle || !session.left().is_empty() {
                break;
            }
        }
        match session.left().first() {
            Some(byte) => u64::from(*byte),
            None if session.has_ended() => END,
            None => 0,
        }
    })
}
