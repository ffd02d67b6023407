//! Tables of statistics in the hypervisor's log, for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use abi::report::{BUCKETS, Exits, Oddity, Statistics};

/// What a CPU's exits cost, up to the moment when somebody asked.
#[derive(Debug)]
pub struct Table<'a> {
    head: Statistics,
    exits: Vec<Exits<'a>>,
    oddities: Vec<Oddity<'a>>,
}

/// Every table in `log`, whole or not, in the order of their times.
pub fn tables(log: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    for line in log.lines() {
        if let Some(head) = Statistics::parse(line) {
            tables.push(Table {
                head,
                exits: Vec::new(),
                oddities: Vec::new(),
            });
        } else if let Some(table) = tables.last_mut() {
            table.exits.extend(Exits::parse(line));
            table.oddities.extend(Oddity::parse(line));
        }
    }
    tables
}

/// The last table of `log` as text, or why there is none.
pub fn show(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    match tables(&log).last() {
        Some(table) if table.is_whole() => table.text(),
        Some(_) => "The statistics are not whole: the log lost some of their lines.\n".to_owned(),
        None => "There are no statistics in the log: Underlay did not run, its log_level is \
                 above info, or the guest ended on its own.\n"
            .to_owned(),
    }
}

impl Table<'_> {
    /// Whether every line has arrived.
    pub fn is_whole(&self) -> bool {
        self.head.lines == (self.exits.len() + self.oddities.len()) as u64
    }

    /// How many exits of each kind.
    pub fn counts(&self) -> BTreeMap<&str, u64> {
        let counts = self.exits.iter().map(|row| (row.kind, row.count));
        counts.collect()
    }

    /// For people: what cost most stands first.
    pub fn text(&self) -> String {
        let mut rows: Vec<&Exits<'_>> = self.exits.iter().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.total));
        let (first, last) = self.filled();
        let mut text = format!(
            "\nCPU {}: exits, and the ticks that the guest waited for each ({} a microsecond).\n\n\
             {:<18}{:>10}{:>15}{:>11}{:>12}  2^{first} to 2^{last}\n",
            self.head.cpu,
            self.head.hz / 1_000_000,
            "exit",
            "count",
            "total",
            "mean",
            "most",
        );
        for row in rows {
            let mean = row.total / row.count.max(1);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<18}{:>10}{:>15}{mean:>11}{:>12}  {}",
                row.kind,
                row.count,
                row.total,
                row.most,
                sketch(&row.buckets[first..=last])
            );
        }
        text + &self.odd()
    }

    fn odd(&self) -> String {
        if self.oddities.is_empty() {
            return "\nNothing odd happened.\n".to_owned();
        }
        let rows = self.oddities.iter();
        let rows = rows.map(|row| format!("{} {}", row.name, row.count));
        let rows: Vec<String> = rows.collect();
        format!("\nOdd, as the log says: {}.\n", rows.join(", "))
    }

    /// The first and the last bucket in which anything is.
    fn filled(&self) -> (usize, usize) {
        let filled = |bucket: &usize| self.exits.iter().any(|row| row.buckets[*bucket] > 0);
        let first = (0..BUCKETS).find(filled).unwrap_or(0);
        (first, (0..BUCKETS).rfind(filled).unwrap_or(first))
    }
}

/// A bar for each bucket. The height is by the logarithm: one slow exit among
/// thousands is what one looks for.
fn sketch(buckets: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = buckets.iter().max().copied().unwrap_or(0);
    let steps = u64::from(most.max(1).ilog2() + 1);
    let bar = |&count: &u64| match count {
        0 => ' ',
        _ => {
            let step = u64::from(count.ilog2() + 1);
            let height = (step * BARS.len() as u64).div_ceil(steps) - 1;
            BARS[usize::try_from(height).unwrap_or(0)]
        }
    };
    let bars: String = buckets.iter().map(bar).collect();
    bars.trim_end().to_owned()
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
    fn the_last_table_is_shown_with_the_dearest_exit_first() {
        let text = show(LOG.as_bytes());
        let place = |words: &str| {
            text.find(words)
                .unwrap_or_else(|| panic!("{words}: {text}"))
        };
        assert!(place("rdmsr") < place("cpuid"));
        assert!(text.contains("2^6 to 2^12"));
        assert!(text.contains("init 2"));
        let cpuid = text.lines().find(|line| line.starts_with("cpuid")).unwrap();
        let words: Vec<&str> = cpuid.split_whitespace().collect();
        assert_eq!(words, ["cpuid", "4", "400", "100", "150", "█▄"]);
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
