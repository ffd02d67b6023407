//! `underlayctl stat`: what exits cost.

use super::{Choice, Command, JSON, Use};
use crate::arguments::Given;
use crate::cpus::{self, CPU};
use crate::screen::Screen;
use crate::trouble::Trouble;
use abi::record::{CpuRecord, ExitsRecord, OddityRecord};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};
use underlay::Underlay;
use views::Table;
use views::statistics::{self, Earlier};

pub const COMMAND: Command = Command {
    name: "stat",
    uses: &[
        Use {
            takes: "[--cpu N] [--watch] [--json]",
            does: "show what exits cost on each CPU (owner)",
        },
        Use {
            takes: "reset [--cpu N]",
            does: "count from 0 again (owner)",
        },
        Use {
            takes: "write [--cpu N]",
            does: "make it write the same to its log (owner)",
        },
    ],
    options: &[CPU, WATCH, EVERY, TIMES, JSON],
    more: "\
An exit is one way from the guest to the hypervisor and back. The table has a
row for each kind: how many there were, the ticks of the time-stamp counter that
the guest waited for them, their share of all of these, the mean, the most, and
how they are spread: a bar for each power of two. Where there are several CPUs
each has its table, and before them stands one with their counts and the sum.

Examples:
  underlayctl stat
  underlayctl stat --cpu 1
  underlayctl stat --watch --every 0.5
  underlayctl stat --json
",
    run,
};

pub(super) const WATCH: Choice = Choice {
    name: "watch",
    short: None,
    value: None,
    about: "show it again and again; q or Ctrl-C ends it",
};

pub(super) const EVERY: Choice = Choice {
    name: "every",
    short: None,
    value: Some("SECONDS"),
    about: "how often --watch shows it [1]",
};

pub(super) const TIMES: Choice = Choice {
    name: "times",
    short: None,
    value: Some("N"),
    about: "how many times [until it is ended]",
};

/// What one CPU tells.
struct Told {
    cpu: u32,
    hz: u64,
    exits: Vec<ExitsRecord>,
    oddities: Vec<OddityRecord>,
}

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let words = given.words();
    match words.as_slice() {
        [] if given.has("watch") => watch(given, out),
        [] => show(given, out),
        ["reset"] => reset(given, out),
        ["write"] => write(given),
        _ => Err(Trouble::usage(
            "`stat` takes nothing, or `reset`, or `write`",
        )),
    }
}

fn show(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let (underlay, cpus) = cpus::chosen(given)?;
    let told = ask(underlay, &cpus)?;
    match given.has("json") {
        true => writeln!(out, "{}", json(&told))?,
        false => out.write_all(text(&told, None).as_bytes())?,
    }
    Ok(())
}

fn json(told: &[Told]) -> Value {
    let tables: Vec<Table<'_>> = told.iter().map(Told::table).collect();
    let cpus: Value = tables.iter().map(Table::json).collect();
    json!({ "cpus": cpus, "all": statistics::sum_json(&tables) })
}

fn watch(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let pace = Pace::of(given)?;
    let (underlay, cpus) = cpus::chosen(given)?;
    let ask = || ask(underlay, &cpus);
    pace.watch(out, ask, |told, earlier| {
        text(
            told,
            earlier.map(|(told, seconds)| (told.as_slice(), seconds)),
        )
    })
}

/// How often `--watch` shows something.
pub(super) struct Pace {
    span: Duration,
    times: u64,
}

impl Pace {
    /// As the person wants it.
    pub(super) fn of(given: &Given) -> Result<Self, Trouble> {
        if given.has("json") {
            return Err(Trouble::usage("--watch is for people, --json for programs"));
        }
        Ok(Self {
            span: given.seconds(EVERY.name)?.unwrap_or(Duration::from_secs(1)),
            times: given.number(TIMES.name)?.unwrap_or(u64::MAX),
        })
    }

    /// Asks and shows again and again, with what the last answer was, and how many
    /// seconds before.
    pub(super) fn watch<T>(
        &self,
        out: &mut dyn Write,
        ask: impl Fn() -> Result<T, Trouble>,
        text: impl Fn(&T, Option<(&T, f64)>) -> String,
    ) -> Result<(), Trouble> {
        // What is refused is known before the screen changes.
        let (mut told, mut at) = (ask()?, Instant::now());
        let mut screen = Screen::open(out, [0, 1])?;
        screen.show(&text(&told, None))?;
        for _ in 1..self.times {
            if !screen.wait(self.span) {
                break;
            }
            let earlier = std::mem::replace(&mut told, ask()?);
            let seconds = at.elapsed().as_secs_f64();
            at = Instant::now();
            screen.show(&text(&told, Some((&earlier, seconds))))?;
        }
        Ok(())
    }
}

fn reset(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let (underlay, cpus) = cpus::chosen(given)?;
    let mut exits = 0;
    for cpu in cpus {
        exits += underlay.statistics_reset(cpu.number)?;
    }
    writeln!(out, "{exits} exits had been counted")?;
    Ok(())
}

fn write(given: &Given) -> Result<(), Trouble> {
    let (underlay, cpus) = cpus::chosen(given)?;
    for cpu in cpus {
        underlay.statistics(cpu.number)?;
    }
    Ok(())
}

fn ask(underlay: Underlay, cpus: &[CpuRecord]) -> Result<Vec<Told>, Trouble> {
    let hz = underlay.info()?.ticks_per_second;
    let oddities = underlay.oddities()?;
    let told = cpus.iter().map(|cpu| {
        Ok(Told {
            cpu: cpu.number,
            hz,
            exits: underlay.exits(cpu.number)?,
            oddities: oddities.clone(),
        })
    });
    told.collect()
}

impl Told {
    fn table(&self) -> Table<'_> {
        let oddities = self.oddities.iter().filter(|row| row.count > 0);
        Table {
            oddities: oddities.map(Into::into).collect(),
            ..table(self.cpu, self.hz, &self.exits)
        }
    }
}

/// Without what did not happen.
pub(super) fn table(cpu: u32, hz: u64, exits: &[ExitsRecord]) -> Table<'_> {
    let exits = exits.iter().filter(|row| row.count > 0);
    Table {
        cpu,
        hz,
        exits: exits.map(Into::into).collect(),
        oddities: Vec::new(),
    }
}

/// Each CPU is compared with itself.
fn text(told: &[Told], earlier: Option<(&[Told], f64)>) -> String {
    let (before, seconds) = earlier.unwrap_or((&[], 0.0));
    let before: Vec<Table<'_>> = before.iter().map(Told::table).collect();
    let tables = told.iter().map(|told| {
        let table = before.iter().find(|table| table.cpu == told.cpu);
        let earlier = table.map(|table| Earlier { table, seconds });
        (told.table(), earlier)
    });
    statistics::text(&tables.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::given;
    use abi::record::Text;

    fn told(cpu: u32, count: u64) -> Told {
        let row = |kind, count| ExitsRecord {
            kind: Text::new(kind),
            count,
            total: 100 * count,
            most: 100,
            buckets: [0; 32],
        };
        Told {
            cpu,
            hz: 1_000_000,
            exits: vec![row("cpuid", count), row("rdmsr", 0)],
            oddities: Vec::new(),
        }
    }

    #[test]
    fn each_cpu_is_compared_with_itself() {
        let (earlier, later) = ([told(1, 5), told(0, 10)], [told(0, 20), told(1, 6)]);
        let text = text(&later, Some((&earlier, 2.0)));
        let rows = text.lines().filter(|line| line.starts_with("cpuid"));
        let rows: Vec<&str> = rows.collect();
        let counts: Vec<&str> = rows[0].split_whitespace().collect();
        assert_eq!(counts, ["cpuid", "20", "6", "26"], "of each and of all");
        assert!(
            rows[1].contains(" 5.0 ") && rows[2].contains(" 0.5 "),
            "{text}"
        );
        let value = json(&later);
        assert_eq!(value["cpus"][1]["exits"][0]["count"], 6);
        assert_eq!(value["all"]["exits"][0]["count"], 26);
        assert!(
            !text.contains("rdmsr"),
            "what did not happen is no row: {text}"
        );
    }

    #[test]
    fn wrong_words_are_known_before_anything_is_called() {
        for line in [
            "stat on",
            "stat --cpu one",
            "stat --watch --json",
            "stat --watch --every soon",
        ] {
            let (_, given) = given(line).unwrap();
            let trouble = run(&given, &mut Vec::new());
            assert!(matches!(trouble, Err(Trouble::Usage(..))), "{line}");
        }
    }
}
