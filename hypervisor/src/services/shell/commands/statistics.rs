//! `stat`: what the exits of a CPU cost, and what was odd.

use super::{Asked, Next, Out, State, usage};
use machine::{Memory, Vcpu};

/// The next kind that happened.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let vm = asked.place.vm;
    let [_, extra, _] = asked.arguments;
    if !extra.is_empty() {
        return usage(asked.command, out);
    }
    let (number, statistics) = match asked.cpu(0) {
        Ok((number, counted)) => (number, &counted.statistics),
        Err(wrong) => return wrong.tell(asked.command, out),
    };
    if state.step == 0 {
        let total = statistics.total();
        let what = match number == u64::from(asked.place.cpu.number) {
            true => "before this call",
            false => "so far",
        };
        out.say(format_args!("cpu{number}: {total} exits {what}"));
        return Next::More;
    }
    let at = state.at as usize;
    let mut exits = statistics.kinds().enumerate().skip(at);
    let kinds = statistics.all().len();
    if let Some((number, row)) = exits.find_map(|(number, row)| Some((number, row?))) {
        let mean = row.total / row.count.max(1);
        let (kind, count, most) = (row.kind, row.count, row.most);
        out.say(format_args!(
            "{kind:<20} {count:>10} of {mean} ticks, the longest {most}"
        ));
        state.at = number as u64 + 1;
        return Next::More;
    }
    let at = at.max(kinds);
    let mut odd = vm.oddities.kinds().enumerate().skip(at - kinds);
    let Some((number, row)) = odd.find_map(|(number, row)| Some((number, row?))) else {
        return Next::Done;
    };
    out.say(format_args!("odd: {:<15} {:>10}", row.name, row.count));
    state.at = (kinds + number) as u64 + 1;
    Next::More
}
