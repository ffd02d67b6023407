//! A trace in a screenful: which exits, and which of their payloads, took the
//! time.

use std::collections::BTreeMap;
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

/// The table of each CPU, and what is missing.
pub fn text(trace: &Trace<'_>) -> String {
    let cpus = trace.cpus.iter();
    cpus.map(|(number, cpu)| of_cpu(*number, cpu)).collect()
}

fn of_cpu(number: u32, cpu: &Cpu<'_>) -> String {
    let mut rows: BTreeMap<(&str, &str, u64), Row> = BTreeMap::new();
    for record in &cpu.records {
        let key = (record.kind, record.outcome, record.payload[0]);
        rows.entry(key).or_default().add(record);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.total));
    let mut text = format!(
        "\nCPU {number}: {} exits recorded, {} overwritten before that, {} damaged on the way.\n\n\
         {:<18}{:<9}{:>18}{:>9}{:>13}{:>10}{:>10}\n",
        cpu.records.len(),
        cpu.overwritten,
        cpu.damaged,
        "exit",
        "outcome",
        "payload",
        "count",
        "total us",
        "mean us",
        "most us",
    );
    for ((kind, outcome, payload), row) in rows.iter().take(ROWS) {
        let us = |ticks: u64| ticks as f64 * 1e6 / cpu.hz.max(1) as f64;
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
}
