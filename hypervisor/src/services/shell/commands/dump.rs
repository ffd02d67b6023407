//! `dump`: memory, as bytes and as text.

use super::{Asked, Next, Out, State, usage};
use crate::services::shell::line;
use crate::services::shell::view::{View, Why};
use machine::{Memory, Vcpu};
use x86::{Gpa, Gva};

/// Bytes of a line.
const ROW: u64 = 16;
/// Bytes that are shown if nobody says how many.
const SOME: u64 = 64;
const MOST: u64 = 1 << 20;

/// One line of it, or what stands in the way.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let (is_physical, words) = match asked.arguments {
        ["-p", rest @ ..] => (true, rest),
        [address, bytes, ""] => (false, [address, bytes]),
        _ => return usage(asked.command, out),
    };
    if state.step == 0 {
        let Some((address, bytes)) = range(words) else {
            out.say(format_args!(
                "an address is hexadecimal, and at most {MOST} bytes are shown; "
            ));
            return usage(asked.command, out);
        };
        (state.at, state.end) = (address, address.saturating_add(bytes));
    }
    if state.at < state.end {
        state.at = row(asked, is_physical, state, out);
    }
    Next::more(state.at < state.end)
}

/// The first address, and how many bytes.
fn range([address, bytes]: [&str; 2]) -> Option<(u64, u64)> {
    let bytes = match bytes {
        "" => SOME,
        bytes => line::number(bytes).filter(|bytes| *bytes <= MOST)?,
    };
    Some((line::address(address)?, bytes))
}

/// Shows a row. Returns where the next begins.
fn row<V: Vcpu, M: Memory>(
    asked: &Asked<V, M>,
    is_physical: bool,
    state: &State,
    out: &mut Out,
) -> u64 {
    let (memory, at) = (&asked.place.vm.memory, state.at);
    let next = (at | (ROW - 1)).saturating_add(1).min(state.end);
    let mut bytes = [0; ROW as usize];
    let part = bytes.get_mut(..(next - at) as usize);
    let part = part.unwrap_or(&mut []);
    out.say(format_args!("{at:016x} "));
    let gpa = match is_physical {
        true => Ok(Gpa(at)),
        false => View::new(memory, &asked.place.cpu.vcpu)
            .translate(Gva(at))
            .map(|found| found.gpa),
    };
    match gpa.map(|gpa| memory.read(gpa, part)) {
        Ok(Ok(())) => {
            show(part, out);
            return next;
        }
        Ok(Err(_)) => out.say(format_args!(" no memory of the guest's")),
        Err(denied) => out.say(format_args!(" {}", Why(denied))),
    }
    at.saturating_add(Gpa(at).left_in_page())
}

fn show(bytes: &[u8], out: &mut Out) {
    for byte in bytes {
        out.say(format_args!(" {byte:02x}"));
    }
    let missing = 3 * (ROW as usize - bytes.len());
    out.say(format_args!("{:missing$}  ", ""));
    for byte in bytes {
        let shown = match byte {
            b' '..=b'~' => *byte,
            _ => b'.',
        };
        out.push(shown);
    }
}
