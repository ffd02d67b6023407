//! A trace in a screenful: which exits, and which of their payloads, took the
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use abi::report::Record;

use super::{Cpu, Trace};

/// Rows of the table.
const ROWS: usize = 20;

#[derive(Default)]
struct Row {
    count: u64,
    total: u64,
    most: u64,
}

/// The table of each CPU with the guest's exits, and what is missing; then that of
/// each child.
pub fn text(trace: &Trace<'_>) -> String {
    let cpus = trace.cpus.iter();
    let cpus: String = cpus.map(|(number, cpu)| of_cpu(*number, cpu)).collect();
    cpus + &children(trace)
}

/// The same of a trace in which the guest's own exits were left out.
pub fn children_text(trace: &Trace<'_>) -> String {
    let lost: u64 = trace.cpus.values().map(|cpu| cpu.overwritten).sum();
    let tables = children(trace);
    format!("{tables}\n{lost} exits of whomever were overwritten before that.\n")
}

fn children(trace: &Trace<'_>) -> String {
    let all = || trace.cpus.values();
    let records = || all().flat_map(|cpu| &cpu.records);
    let hz = all().map(|cpu| cpu.hz).max().unwrap_or(0);
    let numbers: BTreeSet<u32> = records().map(|record| record.child).collect();
    let tables = numbers.into_iter().filter(|number| *number != 0);
    let tables = tables.map(|number| {
        let own: Vec<_> = records().filter(|record| record.child == number).collect();
        let head = format!("\nVM {number}: {} exits recorded.\n\n", own.len());
        head + &table(&own, hz)
    });
    tables.collect()
}

fn of_cpu(number: u32, cpu: &Cpu<'_>) -> String {
    let own = cpu.records.iter().filter(|record| record.child == 0);
    let own: Vec<_> = own.collect();
    let head = format!(
        "\nCPU {number}: {} exits recorded, {} overwritten before that, {} damaged on the way.\n\n",
        own.len(),
        cpu.overwritten,
        cpu.damaged,
    );
    head + &table(&own, cpu.hz)
}

fn table(records: &[&Record<'_>], hz: u64) -> String {
    let mut rows: BTreeMap<(&str, &str, u64), Row> = BTreeMap::new();
    for record in records {
        let key = (record.kind, record.outcome, record.payload[0]);
        rows.entry(key).or_default().add(record);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.total));
    let mut text = format!(
        "{:<18}{:<9}{:>18}{:>9}{:>13}{:>10}{:>10}\n",
        "exit", "outcome", "payload", "count", "total us", "mean us", "most us",
    );
    for ((kind, outcome, payload), row) in rows.iter().take(ROWS) {
        let us = |ticks: u64| ticks as f64 * 1e6 / hz.max(1) as f64;
        let mean = us(row.total) / row.count as f64;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{kind:<18}{outcome:<9}{payload:>#18x}{:>9}{:>13.1}{mean:>10.1}{:>10.1}",
            row.count,
            us(row.total),
            us(row.most),
        );
    }
    if let Some(others) = rows.len().checked_sub(ROWS + 1) {
        let _ = writeln!(text, "and {} more", others + 1);
    }
    text
}

impl Row {
    fn add(&mut self, record: &Record<'_>) {
        let ticks = record.end.saturating_sub(record.begin);
        self.count += 1;
        self.total += ticks;
        self.most = self.most.max(ticks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: &'static str, payload: u64, [begin, end]: [u64; 2]) -> Record<'static> {
        Record {
            cpu: 0,
            number: begin,
            begin,
            end,
            kind,
            outcome: "done",
            rip: begin,
            payload: [payload, 0],
            child: 0,
            vcpu: 0,
        }
    }

    #[test]
    fn equal_exits_are_one_row_and_what_took_most_stands_first() {
        let cpu = Cpu {
            hz: 1_000_000,
            records: vec![
                record("cpuid", 1, [0, 2]),
                record("cpuid", 1, [10, 12]),
                record("rdmsr", 0x10, [20, 40]),
            ],
            ..Cpu::default()
        };
        let text = text(&Trace {
            cpus: [(0, cpu)].into_iter().collect(),
        });
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip(4)
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[0],
            ["rdmsr", "done", "0x10", "1", "20.0", "20.0", "20.0"]
        );
        assert_eq!(rows[1], ["cpuid", "done", "0x1", "2", "4.0", "2.0", "2.0"]);
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn a_childs_exits_have_a_table_of_their_own() {
        let of_child = |begin| Record {
            child: 4,
            ..record("cpuid", 1, [begin, begin + 2])
        };
        let cpu = |records| Cpu {
            hz: 1_000_000,
            records,
            overwritten: 3,
            ..Cpu::default()
        };
        let first = cpu(vec![record("cpuid", 1, [0, 1]), of_child(2)]);
        let trace = Trace {
            cpus: [(0, first), (1, cpu(vec![of_child(4)]))].into(),
        };
        let counts = |text: &str| -> Vec<String> {
            let rows = text.lines().filter(|line| line.starts_with("cpuid"));
            rows.map(|row| row.split_whitespace().nth(3).unwrap().to_owned())
                .collect()
        };
        let all = text(&trace);
        assert_eq!(counts(&all), ["1", "2"]);
        assert!(
            all.contains("CPU 0: 1 exits") && all.contains("VM 4: 2 exits"),
            "{all}"
        );
        let own = children_text(&trace);
        assert_eq!(counts(&own), ["2"]);
        assert!(
            own.ends_with("6 exits of whomever were overwritten before that.\n"),
            "{own}"
        );
    }
}
