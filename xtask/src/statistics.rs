//! Tables of statistics in the hypervisor's log, for people.

use std::collections::BTreeMap;

use abi::report::{Exits, Oddity, Statistics};
use views::Table;

/// A table, and how many lines the hypervisor wrote of it.
#[derive(Debug)]
pub struct Logged<'a> {
    pub table: Table<'a>,
    lines: u64,
}

/// Every table in `log`, whole or not, in the order of their times.
pub fn tables(log: &str) -> Vec<Logged<'_>> {
    let mut tables: Vec<Logged<'_>> = Vec::new();
    for line in log.lines() {
        if let Some(head) = Statistics::parse(line) {
            tables.push(Logged::new(head));
        } else if let Some(Logged { table, .. }) = tables.last_mut() {
            table.exits.extend(Exits::parse(line));
            table.oddities.extend(Oddity::parse(line));
        }
    }
    tables
}

/// The last table of each CPU in `log` as text, or why there is none.
pub fn show(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let tables = tables(&log).into_iter();
    let last: BTreeMap<u32, Logged<'_>> = tables.map(|one| (one.table.cpu, one)).collect();
    if last.is_empty() {
        return "There are no statistics in the log: Underlay did not run, its log_level is \
                 above info, or the guest ended on its own.\n"
            .to_owned();
    }
    if !last.values().all(Logged::is_whole) {
        return "The statistics are not whole: the log lost some of their lines.\n".to_owned();
    }
    let tables = last.into_values().map(|logged| (logged.table, None));
    views::statistics::text(&tables.collect::<Vec<_>>())
}

impl Logged<'_> {
    fn new(head: Statistics) -> Self {
        Self {
            lines: head.lines,
            table: Table {
                cpu: head.cpu,
                hz: head.hz,
                exits: Vec::new(),
                oddities: Vec::new(),
            },
        }
    }

    /// Whether every line has arrived.
    pub fn is_whole(&self) -> bool {
        self.lines == (self.table.exits.len() + self.table.oddities.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[1.0 cpu0 INFO  statistics] statistics: 0 2000000000 2 .\r
[1.0 cpu0 INFO  statistics] exits: cpuid 1 100 100 6:1 .\r
noise\r
[2.0 cpu0 INFO  statistics] statistics: 0 2000000000 3 .\r
[2.0 cpu0 INFO  statistics] exits: cpuid 4 400 150 6:3 7:1 .\r
[2.0 cpu0 INFO  statistics] exits: rdmsr 1 5000 5000 12:1 .\r
[2.0 cpu0 INFO  statistics] oddity: init 2 .\r
";

    #[test]
    fn the_last_table_is_shown() {
        let text = show(LOG.as_bytes());
        assert!(text.contains("2^6 to 2^12"), "{text}");
        assert!(text.contains("init 2"), "{text}");
    }

    #[test]
    fn every_cpu_is_shown() {
        let second = "\
[3.0 cpu0 INFO  statistics] statistics: 1 2000000000 2 .\r
[3.0 cpu0 INFO  statistics] exits: hlt 9 400 150 6:3 7:1 .\r
[3.0 cpu0 INFO  statistics] oddity: init 3 .\r
";
        let text = show(format!("{LOG}{second}").as_bytes());
        for part in ["cpuid", "hlt", "CPU 0: exits", "CPU 1: exits", "init 3"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let cut = second.lines().next().unwrap_or("");
        assert!(show(format!("{LOG}{cut}").as_bytes()).contains("not whole"));
    }

    #[test]
    fn a_table_with_a_lost_line_is_not_shown_as_if_it_were_whole() {
        let tables = tables(LOG);
        assert_eq!([tables[0].is_whole(), tables[1].is_whole()], [false, true]);
        let first = LOG.lines().take(2).collect::<Vec<_>>().join("\n");
        assert!(show(first.as_bytes()).contains("not whole"));
        assert!(show(b"").contains("no statistics"));
    }
}
