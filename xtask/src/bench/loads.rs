//! Exits in the steady state: how many of each kind there are in a second of an
//! idle Linux, and of one that works.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::measure::Measuring;
use crate::paths;
use crate::stage::Boot;
use crate::test::table::Row;

/// Something that goes on in the guest's background.
pub struct Load {
    /// Its name.
    pub name: &'static str,
    /// What it is, for a page.
    pub sentence: &'static str,
    command: &'static str,
    /// Whether nothing in it makes a CPU exit by itself, so that any exit is one
    /// that Underlay asked for.
    is_quiet: bool,
}

/// All of them. None of the quiet ones starts a program while it goes on.
pub const LOADS: [Load; 5] = [
    Load {
        name: "idle",
        sentence: "nothing",
        command: "sleep 600",
        is_quiet: true,
    },
    Load {
        name: "computing",
        sentence: "a shell's empty loop",
        command: "(while :; do :; done)",
        is_quiet: true,
    },
    Load {
        name: "system-calls",
        sentence: "`dd` byte by byte from `/dev/zero` to `/dev/null`",
        command: "dd if=/dev/zero of=/dev/null bs=1",
        is_quiet: true,
    },
    Load {
        name: "disk",
        sentence: "`dd` from a disk that nobody has read before",
        command: "dd if=/dev/scratch of=/dev/null bs=64k",
        is_quiet: true,
    },
    Load {
        name: "programs",
        sentence: "one program after the other, each of which ends at once",
        command: "(while :; do /bin/busybox true; done)",
        is_quiet: false,
    },
];

/// Exits of one kind a second.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// `vtx` or `svm`.
    pub machine: String,
    /// What went on in the guest.
    pub load: String,
    /// The kind, or [`ALL`].
    pub reason: String,
    /// How many in a second of the guest's time.
    pub per_second: f64,
}

/// In the place of a kind: all of them together.
pub const ALL: &str = "all";

/// The file that keeps what was measured when somebody saved it last.
pub fn saved_path() -> PathBuf {
    paths::workspace().join("bench/loads.json")
}

/// So large, in MiB, that no machine reads it to its end meanwhile. It is sparse.
const DISK: u32 = 4096;
/// More seconds than all loads take.
const LASTS: u64 = 60;

/// Counts on one machine.
pub fn measure(measuring: &Measuring<'_>) -> Result<Vec<Rate>> {
    let row = Row {
        scratch: Some(DISK),
        lasts: LASTS,
        ..measuring.row.clone()
    };
    let report = measuring.run(&row, "loads", false, Boot::exec(&script()))?;
    let output = String::from_utf8_lossy(&report.output);
    rates(measuring.machine.name(), &marks(&output)?)
}

/// Marks before and behind each span. To mark makes exits itself, the same each
/// time but for the first: spans of no length say how many.
fn script() -> String {
    let mut script = String::from(
        "mark() { read now rest </proc/uptime; echo \"mark $1 $now\"; underlayctl stat --json; }\n\
         sleep 3; mark first; sleep 0; mark nothing; sleep 0; mark nothing\n",
    );
    for Load { name, command, .. } in LOADS {
        // Writing to a String cannot fail.
        let _ = writeln!(
            script,
            "{command} 2>/dev/null & load=$!\n\
             sleep 1; mark {name}; sleep 3; mark {name}; kill $load"
        );
    }
    script
}

/// The exits of each kind up to a moment.
struct Mark<'a> {
    load: &'a str,
    seconds: f64,
    counts: BTreeMap<String, u64>,
}

fn marks(output: &str) -> Result<Vec<Mark<'_>>> {
    let mut marks = Vec::new();
    let mut lines = output.lines();
    while let Some(line) = lines.next() {
        let Some((load, seconds)) = line.strip_prefix("mark ").and_then(|m| m.split_once(' '))
        else {
            continue;
        };
        let table: Value = serde_json::from_str(lines.next().unwrap_or_default())
            .with_context(|| format!("the statistics behind `{line}`"))?;
        let rows = table["all"]["exits"].as_array().context("no exits")?;
        let count = |row: &Value| Some((row["kind"].as_str()?.to_owned(), row["count"].as_u64()?));
        marks.push(Mark {
            load,
            seconds: seconds.trim_end().parse()?,
            counts: rows.iter().filter_map(count).collect(),
        });
    }
    Ok(marks)
}

fn rates(machine: &str, marks: &[Mark<'_>]) -> Result<Vec<Rate>> {
    let span = |load: &str| {
        let mut both = marks.iter().filter(|mark| mark.load == load);
        let both = both.next().zip(both.next());
        both.with_context(|| format!("`{load}` was not marked twice"))
    };
    let (before, after) = span("nothing")?;
    let by_marking = after.since(before);
    let mut rates = Vec::new();
    for load in LOADS {
        let (before, after) = span(load.name)?;
        let seconds = after.seconds - before.seconds;
        ensure!(seconds > 0.0, "no time went by under `{}`", load.name);
        let mut counts = after.since(before);
        for (kind, count) in &mut counts {
            *count = count.saturating_sub(by_marking.get(kind).copied().unwrap_or(0));
        }
        let all = (ALL.to_owned(), counts.values().sum::<u64>());
        for (reason, count) in counts.into_iter().filter(|(_, n)| *n > 0).chain([all]) {
            rates.push(Rate {
                machine: machine.to_owned(),
                load: load.name.to_owned(),
                reason,
                per_second: (10.0 * count as f64 / seconds).round() / 10.0,
            });
        }
    }
    Ok(rates)
}

impl Mark<'_> {
    fn since(&self, earlier: &Self) -> BTreeMap<String, u64> {
        let before = |kind| earlier.counts.get(kind).copied().unwrap_or(0);
        let counts = self.counts.iter();
        let counts = counts.map(|(kind, count)| (kind.clone(), count - before(kind)));
        counts.collect()
    }
}

/// The number for one field of a table.
pub fn per_second(rates: &[Rate], machine: &str, load: &str, reason: &str) -> f64 {
    let mut rates = rates.iter();
    let same = |rate: &&Rate| [&rate.machine, &rate.load, &rate.reason] == [machine, load, reason];
    rates.find(same).map_or(0.0, |rate| rate.per_second)
}

/// Every kind that `rates` have on `machine`, and all of them last.
pub fn reasons<'a>(rates: &'a [Rate], machine: &str) -> Vec<&'a str> {
    let here = rates.iter().filter(|rate| rate.machine == machine);
    let mut reasons: Vec<&str> = here.map(|rate| rate.reason.as_str()).collect();
    reasons.sort_by_key(|reason| (*reason == ALL, *reason));
    reasons.dedup();
    reasons
}

/// A table for each machine.
pub fn text(rates: &[Rate]) -> String {
    let mut text = String::new();
    let mut machines: Vec<&str> = rates.iter().map(|rate| rate.machine.as_str()).collect();
    machines.dedup();
    for machine in machines {
        let heads: String = LOADS
            .iter()
            .map(|load| format!("{:>14}", load.name))
            .collect();
        let _ = writeln!(text, "{:<18}{heads}  exits a second on {machine}", "reason");
        for reason in reasons(rates, machine) {
            let fields = LOADS.iter();
            let fields = fields.map(|load| per_second(rates, machine, load.name, reason));
            let fields: String = fields.map(|field| format!("{field:>14.1}")).collect();
            let _ = writeln!(text, "{reason:<18}{fields}");
        }
    }
    text
}

/// A sentence for each load with exits that only Underlay can have asked for.
pub fn asked_for(rates: &[Rate]) -> Vec<String> {
    let quiet = |name: &str| LOADS.iter().any(|load| load.is_quiet && load.name == name);
    let asked = rates
        .iter()
        .filter(|rate| rate.reason != ALL && rate.per_second > 0.0 && quiet(&rate.load));
    let sentence = |rate: &Rate| {
        let Rate {
            machine,
            load,
            reason,
            per_second,
        } = rate;
        format!("asked for: {per_second:.1} exits a second by {reason} on {machine}, {load}")
    };
    asked.map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(load: &str, seconds: u32, cpuid: u64, rdmsr: u64) -> String {
        let row = |kind, count| format!(r#"{{"kind":"{kind}","count":{count}}}"#);
        let rows = [row("cpuid", cpuid), row("rdmsr", rdmsr)].join(",");
        format!("mark {load} {seconds}.50\r\n{{\"all\":{{\"exits\":[{rows}]}}}}\r\n")
    }

    #[test]
    fn what_marking_costs_is_not_the_load_s() {
        let mut output = mark("nothing", 1, 10, 0) + "noise\n" + &mark("nothing", 1, 20, 0);
        for (number, load) in LOADS.iter().enumerate() {
            let at = 10 * u32::try_from(number).unwrap();
            output += &mark(load.name, at, 100, 7);
            output += &mark(load.name, at + 4, 110 + 2 * number as u64, 7);
        }
        let rates = rates("vtx", &marks(&output).unwrap()).unwrap();
        assert_eq!(per_second(&rates, "vtx", "idle", "cpuid"), 0.0);
        assert_eq!(per_second(&rates, "vtx", "computing", "cpuid"), 0.5);
        assert_eq!(per_second(&rates, "vtx", "programs", ALL), 2.0);
        assert_eq!(reasons(&rates, "vtx"), ["cpuid", ALL]);
        assert!(text(&rates).contains("cpuid                        0.0           0.5"));
        let asked = asked_for(&rates);
        assert_eq!(asked.len(), 3, "programs do by themselves: {asked:?}");
        assert!(asked[0].contains("0.5 exits a second by cpuid on vtx, computing"));
    }

    #[test]
    fn what_was_not_marked_is_said() {
        let output = mark("nothing", 1, 10, 0) + &mark("nothing", 1, 20, 0);
        assert!(rates("vtx", &marks(&output).unwrap()).is_err());
        assert!(marks("mark idle 1.0\n{").is_err());
    }
}
