//! `log`: how important a line of the log must be.

use super::{Asked, Next, Out, State, usage};
use crate::services::shell::line;
use ::log::LevelFilter;

/// Shows the level, or sets it.
pub fn step<V, M>(asked: &Asked<V, M>, _: &mut State, out: &mut Out) -> Next {
    let ["level", wanted, ""] = asked.arguments else {
        return usage(asked.command, out);
    };
    if !wanted.is_empty() {
        let mut levels = LevelFilter::iter();
        let number = line::number(wanted);
        let found = levels.find(|level| {
            level.as_str().eq_ignore_ascii_case(wanted) || number == Some(*level as u64)
        });
        let Some(level) = found else {
            out.say(format_args!(
                "a level is off, error, warn, info, debug or trace, or 0 to 5"
            ));
            return Next::Done;
        };
        ::log::set_max_level(level);
    }
    let level = ::log::max_level();
    out.say(format_args!("level {}: {level}", level as u64));
    Next::Done
}
