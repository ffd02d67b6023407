//! A trace as a list: the exits of all CPUs in the order of their times.

use std::fmt::Write;

use abi::report::Record;

use super::Trace;

/// The newest `count` exits, the oldest of them first, a child's with its number
/// and vCPU behind. Times count from the oldest; the time-stamp counters of all
/// CPUs are taken for one.
pub fn text(trace: &Trace<'_>, count: usize) -> String {
    let all = trace.cpus.values();
    let mut rows: Vec<(&Record<'_>, u64)> = all
        .flat_map(|cpu| cpu.records.iter().map(|record| (record, cpu.hz)))
        .collect();
    rows.sort_by_key(|(record, _)| (record.begin, record.cpu, record.number));
    let newest = rows.split_off(rows.len().saturating_sub(count));
    let Some(&(oldest, _)) = newest.first() else {
        return "No exits are recorded.\n".to_owned();
    };
    let mut text = format!(
        "{:>14} {:>4} {:>9}  {:<18}{:<9}{:>10}  payload, rip, VM\n",
        "us", "CPU", "number", "exit", "outcome", "took us"
    );
    for (record, hz) in newest {
        let us = |ticks: u64| ticks as f64 * 1e6 / hz.max(1) as f64;
        let [first, second] = record.payload;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>14.3} {:>4} {:>9}  {:<18}{:<9}{:>10.3}  {first:#x} {second:#x}, {:#x}{}",
            us(record.begin - oldest.begin),
            record.cpu,
            record.number,
            record.kind,
            record.outcome,
            us(record.end.saturating_sub(record.begin)),
            record.rip,
            record.whose()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Cpu;
    use super::*;

    fn record(cpu: u32, number: u64, begin: u64) -> Record<'static> {
        Record {
            cpu,
            number,
            begin,
            end: begin + 4,
            kind: "cpuid",
            outcome: "done",
            rip: 0x1000,
            payload: [7, 0],
            child: 0,
            vcpu: 0,
        }
    }

    /// At 2 MHz a tick is half a microsecond.
    #[test]
    fn exits_of_all_cpus_stand_in_the_order_of_their_times() {
        let cpu = |records| Cpu {
            hz: 2_000_000,
            records,
            ..Cpu::default()
        };
        let first = vec![record(0, 5, 100), record(0, 6, 300), record(0, 7, 302)];
        let second = vec![record(1, 9, 200), record(1, 10, 301)];
        let trace = Trace {
            cpus: [(0, cpu(first)), (1, cpu(second))].into_iter().collect(),
        };
        let rows = |count| -> Vec<Vec<String>> {
            let text = text(&trace, count);
            let rows = text.lines().skip(1).map(|line| {
                let words = line.split_whitespace().take(6);
                words.map(str::to_owned).collect()
            });
            rows.collect()
        };
        let order: Vec<_> = rows(10).iter().map(|row| row[2].clone()).collect();
        assert_eq!(order, ["5", "9", "6", "10", "7"]);
        let newest = rows(4);
        assert_eq!(newest[0], ["0.000", "1", "9", "cpuid", "done", "2.000"]);
        assert_eq!(newest[3], ["51.000", "0", "7", "cpuid", "done", "2.000"]);
        assert_eq!(text(&Trace::default(), 4), "No exits are recorded.\n");
    }

    #[test]
    fn a_childs_exit_says_whose_it_is() {
        let of_child = Record {
            child: 3,
            vcpu: 1,
            ..record(0, 1, 100)
        };
        let cpu = Cpu {
            hz: 2_000_000,
            records: vec![record(0, 0, 99), of_child],
            ..Cpu::default()
        };
        let text = text(
            &Trace {
                cpus: [(0, cpu)].into(),
            },
            2,
        );
        let ends: Vec<bool> = text.lines().map(|l| l.ends_with("VM 3 vCPU 1")).collect();
        assert_eq!(ends, [false, false, true], "{text}");
    }
}
