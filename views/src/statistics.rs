//! What a CPU's exits cost, as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use abi::report::{BUCKETS, Exits, Oddity};
use serde_json::{Value, json};

/// What a CPU's exits cost, up to the moment when somebody asked.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    /// The CPU.
    pub cpu: u32,
    /// Its time-stamp counter's ticks a second.
    pub hz: u64,
    /// Each kind that happened.
    pub exits: Vec<Exits<'a>>,
    /// What no ordinary system does, if it happened.
    pub oddities: Vec<Oddity<'a>>,
}

/// An earlier table, to compare with.
#[derive(Clone, Copy, Debug)]
pub struct Earlier<'a> {
    /// The table.
    pub table: &'a Table<'a>,
    /// How many seconds before.
    pub seconds: f64,
}

impl Table<'_> {
    /// How many exits of each kind.
    pub fn counts(&self) -> BTreeMap<&str, u64> {
        let counts = self.exits.iter().map(|row| (row.kind, row.count));
        counts.collect()
    }

    /// For people: what cost most stands first. With an earlier table it says
    /// how many exits a second there were since.
    pub fn text(&self, earlier: Option<Earlier<'_>>) -> String {
        let mut rows: Vec<&Exits<'_>> = self.exits.iter().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.total));
        let (first, last) = self.filled();
        let rate = |text: &str| earlier.map_or(String::new(), |_| format!("{text:>12}"));
        let mut text = format!(
            "\nCPU {}: exits, and the ticks that the guest waited for each ({} a microsecond).\n\n\
             {:<18}{:>10}{}{:>15}{:>8}{:>11}{:>12}  2^{first} to 2^{last}\n",
            self.cpu,
            self.hz / 1_000_000,
            "exit",
            "count",
            rate("a second"),
            "total",
            "share",
            "mean",
            "most",
        );
        let all: u64 = rows.iter().map(|row| row.total).sum();
        for row in rows {
            let rate = earlier.map_or(String::new(), |earlier| {
                format!("{:>12.1}", earlier.rate(row))
            });
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<18}{:>10}{rate}{:>15}{:>6.1} %{:>11}{:>12}  {}",
                row.kind,
                row.count,
                row.total,
                100.0 * row.total as f64 / all.max(1) as f64,
                row.total / row.count.max(1),
                row.most,
                sketch(&row.buckets[first..=last])
            );
        }
        text + &self.odd()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let exits = self.exits.iter().map(|row| {
            json!({
                "kind": row.kind,
                "count": row.count,
                "total": row.total,
                "most": row.most,
                "buckets": row.buckets,
            })
        });
        let oddities = self.oddities.iter();
        let oddities = oddities.map(|row| json!({ "name": row.name, "count": row.count }));
        json!({
            "cpu": self.cpu,
            "ticks_per_second": self.hz,
            "exits": exits.collect::<Value>(),
            "oddities": oddities.collect::<Value>(),
        })
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

impl Earlier<'_> {
    /// Exits a second of the kind of `row` since then. After a reset, those
    /// since the reset.
    fn rate(&self, row: &Exits<'_>) -> f64 {
        let mut same = self.table.exits.iter().filter(|old| old.kind == row.kind);
        let before = same.next().map_or(0, |old| old.count);
        let new = row.count.checked_sub(before).unwrap_or(row.count);
        new as f64 / self.seconds.max(f64::MIN_POSITIVE)
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

    fn exits(
        kind: &'static str,
        count: u64,
        total: u64,
        buckets: &[(usize, u64)],
    ) -> Exits<'static> {
        let mut row = Exits {
            kind,
            count,
            total,
            most: total,
            buckets: [0; BUCKETS],
        };
        for (bucket, count) in buckets {
            row.buckets[*bucket] = *count;
        }
        row
    }

    fn table() -> Table<'static> {
        Table {
            cpu: 0,
            hz: 2_000_000_000,
            exits: vec![
                exits("cpuid", 4, 400, &[(6, 3), (7, 1)]),
                exits("rdmsr", 1, 1200, &[(12, 1)]),
            ],
            oddities: vec![Oddity {
                name: "init",
                count: 2,
            }],
        }
    }

    fn row<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
        let row = text.lines().find(|line| line.starts_with(kind));
        row.expect(kind).split_whitespace().collect()
    }

    #[test]
    fn the_dearest_exit_stands_first_with_its_share_and_its_spread() {
        let text = table().text(None);
        assert!(text.find("rdmsr").unwrap() < text.find("cpuid").unwrap());
        assert!(text.contains("2^6 to 2^12") && text.contains("init 2"));
        assert_eq!(
            row(&text, "cpuid"),
            ["cpuid", "4", "400", "25.0", "%", "100", "400", "█▄"]
        );
    }

    #[test]
    fn rates_are_of_what_came_since_even_after_a_reset() {
        let (earlier, mut later) = (table(), table());
        later.exits[0].count = 24;
        later.exits[1] = exits("rdmsr", 0, 0, &[]);
        later.exits.push(exits("wrmsr", 5, 10, &[]));
        let text = later.text(Some(Earlier {
            table: &earlier,
            seconds: 2.0,
        }));
        let rate = |kind| row(&text, kind)[2];
        assert_eq!(
            [rate("cpuid"), rate("rdmsr"), rate("wrmsr")],
            ["10.0", "0.0", "2.5"]
        );
    }

    #[test]
    fn nothing_at_all_is_a_table_too() {
        let empty = Table {
            exits: Vec::new(),
            oddities: Vec::new(),
            ..table()
        };
        assert!(empty.text(None).contains("Nothing odd happened."));
    }

    #[test]
    fn a_program_reads_what_a_person_does() {
        let value = table().json();
        assert_eq!(value["exits"][1]["kind"], "rdmsr");
        assert_eq!(value["exits"][0]["buckets"][6], 3);
        assert_eq!(value["oddities"][0]["count"], 2);
    }
}
