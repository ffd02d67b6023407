//! `help`: a line for each command.

use super::{Asked, COMMANDS, Next, Out, State};

/// One command.
pub fn step<V, M>(_: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let mut rest = COMMANDS.iter().skip(state.step as usize);
    if let Some(command) = rest.next() {
        out.say(format_args!("{:<28} {}", command.usage, command.sentence));
    }
    Next::more(rest.next().is_some())
}
