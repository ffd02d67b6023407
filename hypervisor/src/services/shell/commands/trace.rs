//! `trace`: the newest exits of a CPU.

use super::{Asked, Next, Out, State, usage};
use crate::services::shell::line;
use crate::trace::ring::Reader;
use machine::{Memory, Vcpu};

/// Records that are shown if nobody says how many.
const COUNT: u64 = 16;

/// One of them.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let (number, trace) = match asked.cpu(1) {
        Ok((number, counted)) => (number, &counted.trace),
        Err(wrong) => return wrong.tell(asked.command, out),
    };
    if state.step == 0 {
        let count = match asked.arguments {
            ["", ..] => Some(COUNT),
            [count, _, ""] => line::number(count),
            _ => None,
        };
        let Some(count) = count else {
            return usage(asked.command, out);
        };
        if !trace.is_possible() {
            out.say(format_args!(
                "no exits are traced: underlay.conf does not say `trace = on`"
            ));
            return Next::Done;
        }
        let all = Reader::default();
        state.end = trace.next();
        state.at = state.end - count.min(trace.left(&all));
        if state.at == state.end {
            out.say(format_args!("no exits to show"));
            return Next::Done;
        }
    }
    let mut reader = Reader {
        next: state.at,
        lost: 0,
    };
    let record = trace.read(&mut reader, number as u32);
    let Some(record) = record.filter(|record| record.number < state.end) else {
        return Next::Done;
    };
    let [first, second] = record.payload;
    out.say(format_args!(
        "{:>8} {:<18} {:<8} {first:#x} {second:#x} rip {:#x} in {} ticks{}",
        record.number,
        record.kind,
        record.outcome,
        record.rip,
        record.end.wrapping_sub(record.begin),
        record.whose()
    ));
    state.at = reader.next;
    Next::more(state.at < state.end)
}
