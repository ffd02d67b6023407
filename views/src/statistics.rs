//! What the exits of CPUs, and of a VM's vCPUs, cost, as tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use abi::report::{BUCKETS, Exits, Oddity};
use serde_json::{Value, json};

/// What a CPU's exits cost, up to the moment when somebody asked; or a vCPU's.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    /// The CPU, or vCPU.
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
    fn count(&self, kind: &str) -> u64 {
        let mut rows = self.exits.iter().filter(|row| row.kind == kind);
        rows.next().map_or(0, |row| row.count)
    }

    /// How many exits of each kind.
    pub fn counts(&self) -> BTreeMap<&str, u64> {
        let counts = self.exits.iter().map(|row| (row.kind, row.count));
        counts.collect()
    }

    /// What cost most stands first. With an earlier table it says how many exits
    /// a second there were since. `head` says whose exits these are.
    fn exits(&self, head: &str, earlier: Option<Earlier<'_>>) -> String {
        let mut rows: Vec<&Exits<'_>> = self.exits.iter().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.total));
        let (first, last) = self.filled();
        let rate = |text: &str| earlier.map_or(String::new(), |_| format!("{text:>12}"));
        let mut text = format!(
            "\n{head} for each ({} a microsecond).\n\n\
             {:<18}{:>10}{}{:>15}{:>8}{:>11}{:>12}  2^{first} to 2^{last}\n",
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
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let oddities = self.oddities.iter();
        let oddities = oddities.map(|row| json!({ "name": row.name, "count": row.count }));
        json!({
            "cpu": self.cpu,
            "ticks_per_second": self.hz,
            "exits": self.exits.iter().map(row_json).collect::<Value>(),
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

/// For people: the table of each CPU, with an earlier one of its own if there is
/// any. Where there are several, one with the counts of all stands before them.
/// What was odd is of no CPU, and stands behind.
pub fn text(tables: &[(Table<'_>, Option<Earlier<'_>>)]) -> String {
    let mut text = match tables {
        [] | [_] => String::new(),
        several => counts("CPU", several.iter().map(|(table, _)| table)),
    };
    for (table, earlier) in tables {
        let head = format!(
            "CPU {}: exits, and the ticks that the guest waited",
            table.cpu
        );
        text += &table.exits(&head, *earlier);
    }
    let odd = tables.last().map(|(table, _)| table.odd());
    text + &odd.unwrap_or_default()
}

/// For people: what the exits of the VM called `name` cost, those of these vCPUs
/// together, with what it was some seconds before if that is known. Where there
/// are several vCPUs, the counts of each stand before.
pub fn vm_text(name: &str, vcpus: &[Table<'_>], earlier: Option<(&[Table<'_>], f64)>) -> String {
    let each = match vcpus {
        [] | [_] => String::new(),
        several => counts("vCPU", several.iter()),
    };
    let before = earlier.map(|(vcpus, seconds)| (together(vcpus), seconds));
    let earlier = before.as_ref();
    let earlier = earlier.map(|&(ref table, seconds)| Earlier { table, seconds });
    let head = format!("VM {name}: exits, and the ticks that it waited, but for its program,");
    each + &together(vcpus).exits(&head, earlier)
}

/// The same for programs.
pub fn vm_json(name: &str, vcpus: &[Table<'_>]) -> Value {
    let rows = vcpus.iter().map(|table| {
        let exits: Value = table.exits.iter().map(row_json).collect();
        json!({ "vcpu": table.cpu, "exits": exits })
    });
    json!({
        "vm": name,
        "ticks_per_second": together(vcpus).hz,
        "vcpus": rows.collect::<Value>(),
        "all": sum_json(vcpus),
    })
}

/// One table of all of these.
fn together<'a>(tables: &'a [Table<'a>]) -> Table<'a> {
    Table {
        cpu: 0,
        hz: tables.first().map_or(0, |table| table.hz),
        exits: sum(tables.iter()),
        oddities: Vec::new(),
    }
}

/// How many exits of each kind there were on each CPU or vCPU, and on all.
fn counts<'a>(what: &str, tables: impl Iterator<Item = &'a Table<'a>> + Clone) -> String {
    let mut text = format!("\nExits on each {what}, and on all.\n\n{:<18}", "exit");
    let heads = tables.clone().map(|table| format!("{what} {}", table.cpu));
    text.extend(heads.map(|head| format!("{head:>11}")));
    text += &format!("{:>12}\n", "all");
    let mut rows = sum(tables.clone());
    rows.sort_by_key(|row| std::cmp::Reverse(row.total));
    for row in rows {
        let counts = tables.clone().map(|table| table.count(row.kind));
        let counts: String = counts.map(|count| format!("{count:>11}")).collect();
        text += &format!("{:<18}{counts}{:>12}\n", row.kind, row.count);
    }
    text
}

/// The exits of all CPUs for programs.
pub fn sum_json(tables: &[Table<'_>]) -> Value {
    let rows = sum(tables.iter());
    json!({ "exits": rows.iter().map(row_json).collect::<Value>() })
}

/// The exits of all CPUs together, each kind.
fn sum<'a>(tables: impl Iterator<Item = &'a Table<'a>>) -> Vec<Exits<'a>> {
    let mut rows: BTreeMap<&str, Exits<'_>> = BTreeMap::new();
    for row in tables.flat_map(|table| &table.exits) {
        let sum = rows.entry(row.kind).or_insert(Exits {
            kind: row.kind,
            count: 0,
            total: 0,
            most: 0,
            buckets: [0; BUCKETS],
        });
        sum.count += row.count;
        sum.total += row.total;
        sum.most = sum.most.max(row.most);
        for (count, more) in sum.buckets.iter_mut().zip(row.buckets) {
            *count += more;
        }
    }
    rows.into_values().collect()
}

fn row_json(row: &Exits<'_>) -> Value {
    json!({
        "kind": row.kind,
        "count": row.count,
        "total": row.total,
        "most": row.most,
        "buckets": row.buckets,
    })
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
        let text = text(&[(table(), None)]);
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
        let earlier = Earlier {
            table: &earlier,
            seconds: 2.0,
        };
        let text = text(&[(later, Some(earlier))]);
        let rate = |kind| row(&text, kind)[2];
        assert_eq!(
            [rate("cpuid"), rate("rdmsr"), rate("wrmsr")],
            ["10.0", "0.0", "2.5"]
        );
    }

    #[test]
    fn several_cpus_have_their_tables_behind_one_of_all_and_what_is_odd_once() {
        let mut second = table();
        second.cpu = 1;
        second.exits = vec![exits("cpuid", 10, 500, &[(5, 10)])];
        let tables = [(table(), None), (second, None)];
        let text = text(&tables);
        assert_eq!(row(&text, "cpuid"), ["cpuid", "4", "10", "14"]);
        assert_eq!(row(&text, "rdmsr"), ["rdmsr", "1", "0", "1"]);
        let heads = ["Exits on each", "CPU 0: exits", "CPU 1: exits", "Odd, as"];
        let places = heads.map(|head| text.find(head).expect(head));
        assert!(places.is_sorted(), "{text}");
        assert_eq!(text.matches("init 2").count(), 1);
        let value = sum_json(&tables.map(|(table, _)| table));
        let all = &value["exits"][0];
        assert_eq!((&all["count"], &all["total"]), (&14.into(), &900.into()));
        assert_eq!(
            (&all["most"], &all["buckets"][5]),
            (&500.into(), &10.into())
        );
    }

    /// Two vCPUs.
    fn vcpus() -> [Table<'static>; 2] {
        let second = Table {
            cpu: 1,
            exits: vec![exits("cpuid", 10, 500, &[(5, 10)])],
            ..table()
        };
        [table(), second]
    }

    #[test]
    fn vcpus_of_a_vm_are_counted_each_and_shown_as_one() {
        let text = vm_text("linux", &vcpus(), None);
        let rows: Vec<&str> = text.lines().filter(|l| l.starts_with("cpuid")).collect();
        let words: Vec<Vec<&str>> = rows
            .iter()
            .map(|r| r.split_whitespace().collect())
            .collect();
        assert_eq!(words[0], ["cpuid", "4", "10", "14"], "of each and of all");
        assert_eq!(words[1][..3], ["cpuid", "14", "900"]);
        assert!(text.contains("vCPU 1") && text.contains("VM linux: exits"));
        assert!(!text.contains("CPU 0:") && !text.contains("odd"), "{text}");
        let value = vm_json("linux", &vcpus());
        assert_eq!(value["vcpus"][1]["exits"][0]["count"], 10);
        assert_eq!(value["all"]["exits"][0]["count"], 14);
    }

    #[test]
    fn a_vm_is_compared_with_itself_and_one_vcpu_needs_no_counts_of_each() {
        let [mut later, _] = vcpus();
        later.exits[0].count = 24;
        let text = vm_text("linux", &[later], Some((&vcpus()[..1], 2.0)));
        assert_eq!(row(&text, "cpuid")[..3], ["cpuid", "24", "10.0"]);
    }

    #[test]
    fn nothing_at_all_is_a_table_too() {
        let empty = Table {
            exits: Vec::new(),
            oddities: Vec::new(),
            ..table()
        };
        assert!(text(&[(empty, None)]).contains("Nothing odd happened."));
    }

    #[test]
    fn a_program_reads_what_a_person_does() {
        let value = table().json();
        assert_eq!(value["exits"][1]["kind"], "rdmsr");
        assert_eq!(value["exits"][0]["buckets"][6], 3);
        assert_eq!(value["oddities"][0]["count"], 2);
    }
}
