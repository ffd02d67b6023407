//! `stat`: what the exits of this CPU cost, and what was odd.

use super::{Asked, Next, Out, State};
use machine::{Memory, Vcpu, percpu};

/// The next kind that happened.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let (vm, statistics) = (asked.place.vm, asked.place.cpu.statistics);
    if state.step == 0 {
        let (number, total) = (percpu::number(), statistics.total());
        out.say(format_args!("cpu{number}: {total} exits before this call"));
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
