//! `underlayctl vm`: the children that programs run.

mod stat;

use super::stat::{EVERY, TIMES, WATCH};
use super::trace::{self, LAST, SECONDS, Wanted};
use super::{Choice, Command, JSON, Use};
use crate::arguments::Given;
use crate::trouble::Trouble;
use abi::Errno;
use abi::record::VmRecord;
use serde_json::{Value, json};
use std::io::Write;
use std::thread;
use underlay::Underlay;

pub const COMMAND: Command = Command {
    name: "vm",
    uses: &[
        Use {
            takes: "list [--json]",
            does: "show the VMs that programs run beneath this system",
        },
        Use {
            takes: "destroy NAME",
            does: "end one of them, such as one whose program was killed",
        },
        Use {
            takes: "stat NAME [--vcpu N] [--watch] [--json]",
            does: "show what the exits of one cost since it was made",
        },
        Use {
            takes: "trace NAME [--vcpu N] [--last N]",
            does: "show the newest recorded exits of one",
        },
        Use {
            takes: "trace NAME record FILE [--seconds N | -- COMMAND...]",
            does: "write its recorded exits to a file for Perfetto",
        },
    ],
    options: &[VCPU, JSON, WATCH, EVERY, TIMES, LAST, SECONDS],
    more: "\
A VM has a name and a number; either names it here, for the machine's owner.

`stat` shows the table of `underlayctl stat` with the exits of this VM alone,
all its vCPUs together. The guest's own tables have none of them: a VM runs
within a call of its program's. Ticks are those in the hypervisor; what the
program took is not among them, and an exit that it has to answer counts once.
Counts begin at 0 with each vCPU, and nothing sets them back.

`trace` shows what `underlayctl trace` does, without all that is not this VM's,
and needs `trace = on` in underlay.conf as well. `underlayctl trace start` and
`stop` are for the exits of VMs, too. Those of a VM that has ended are found by
its number as long as nothing overwrites them.

Examples:
  underlayctl vm list
  underlayctl vm destroy 3
  underlayctl vm stat linux
  underlayctl vm stat linux --vcpu 1 --watch
  underlayctl vm trace linux --last 100
  underlayctl vm trace 3 record ten.json --seconds 10
",
    run,
};

const VCPU: Choice = Choice {
    name: "vcpu",
    short: None,
    value: Some("N"),
    about: "only this vCPU, counted from 0 [all]",
};

/// Which words options belong to.
const BELONGS: &[(&str, &[&str])] = &[
    (JSON.name, &["list", "stat"]),
    (VCPU.name, &["stat", "trace"]),
    (WATCH.name, &["stat"]),
    (EVERY.name, &["stat"]),
    (TIMES.name, &["stat"]),
    (LAST.name, &["trace"]),
    (SECONDS.name, &["trace"]),
];

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let words = given.words();
    let wrong = BELONGS.iter().find(|(option, belongs)| {
        let is_its = words.first().is_some_and(|word| belongs.contains(word));
        given.has(option) && !is_its
    });
    if let Some((option, belongs)) = wrong {
        let owners = belongs.iter().map(|word| format!("`vm {word}`"));
        let owners = owners.collect::<Vec<_>>().join(" and ");
        return Err(Trouble::usage(format!("--{option} belongs to {owners}")));
    }
    match words.as_slice() {
        ["list"] => list(given, out),
        ["destroy", name] => destroy(given.underlay()?, name),
        ["stat", name] => stat::run(given, name, out),
        ["trace", name, words @ ..] => traced(given, name, words, out),
        _ => Err(Trouble::usage(
            "`vm` takes `list`, or one of destroy, stat, trace and a NAME",
        )),
    }
}

/// Records stay when a VM has ended: its number is enough.
fn traced(given: &Given, name: &str, words: &[&str], out: &mut dyn Write) -> Result<(), Trouble> {
    let vcpu = given.number(VCPU.name)?;
    let number = match (find(&given.underlay()?.children()?, name), name.parse()) {
        (Ok(child), _) => child.number,
        (Err(_), Ok(ended)) if ended > 0 => ended,
        (Err(trouble), _) => return Err(trouble),
    };
    trace::look(given, words, Wanted::Vm(number, vcpu), out)
}

/// The VM with this name, or else with this number.
fn find(children: &[VmRecord], name: &str) -> Result<VmRecord, Trouble> {
    let named = |child: &&VmRecord| child.name.as_str() == name;
    let numbered = |child: &&VmRecord| child.number.to_string() == name;
    let mut found = children.iter().filter(named);
    let found = found.next().or_else(|| children.iter().find(numbered));
    found
        .copied()
        .ok_or_else(|| Trouble::usage(format!("there is no VM `{name}`")))
}

fn list(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let children = given.underlay()?.children()?;
    match given.has("json") {
        true => writeln!(out, "{:#}", json(&children))?,
        false => out.write_all(text(&children).as_bytes())?,
    }
    Ok(())
}

fn text(children: &[VmRecord]) -> String {
    let head = format!(
        "{:>6}  {:<32}  {:>5}  {:>8}  state\n",
        "number", "name", "vcpus", "MiB"
    );
    let rows = children.iter().map(|child| {
        format!(
            "{:>6}  {:<32}  {:>5}  {:>8}  {}\n",
            child.number,
            child.name.as_str(),
            child.vcpus,
            child.memory >> 20,
            state(child)
        )
    });
    [head].into_iter().chain(rows).collect()
}

fn state(child: &VmRecord) -> &'static str {
    match child.running {
        0 => "waits",
        _ => "runs",
    }
}

fn json(children: &[VmRecord]) -> Value {
    let rows = children.iter().map(|child| {
        json!({
            "number": child.number,
            "name": child.name.as_str(),
            "vcpus": child.vcpus,
            "memory": child.memory,
            "state": state(child),
        })
    });
    rows.collect()
}

/// One that runs at this moment ends at its next exit.
fn destroy(underlay: Underlay, name: &str) -> Result<(), Trouble> {
    let child = find(&underlay.children()?, name)?;
    loop {
        match underlay.vm_destroy(child.number) {
            Err(error) if error.is(Errno::Busy) => thread::yield_now(),
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::given;
    use abi::record::Text;

    const CHILD: VmRecord = VmRecord {
        number: 7,
        memory: 64 << 20,
        vcpus: 2,
        running: 1,
        name: Text::NONE,
    };

    fn children() -> [VmRecord; 2] {
        let named = |name| VmRecord {
            name: Text::new(name),
            ..CHILD
        };
        [
            named("one"),
            VmRecord {
                running: 0,
                ..named("other")
            },
        ]
    }

    #[test]
    fn each_is_a_line() {
        let text = text(&children());
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["7", "one", "2", "64", "runs"]);
        assert_eq!(lines[2], ["7", "other", "2", "64", "waits"]);
    }

    #[test]
    fn a_program_reads_the_same() {
        let value = json(&children());
        assert_eq!(value[0]["memory"], 64 << 20);
        assert_eq!(value[1]["state"], "waits");
    }

    #[test]
    fn a_name_comes_before_a_number() {
        let [one, other] = children();
        let numbered = |number, name| VmRecord {
            number,
            name: Text::new(name),
            ..CHILD
        };
        let all = [one, other, numbered(8, "9"), numbered(9, "8")];
        let number = |name| find(&all, name).map(|child| child.number).ok();
        assert_eq!(number("one"), Some(7));
        assert_eq!([number("8"), number("9")], [Some(9), Some(8)]);
        assert_eq!([number("7"), number("two")], [Some(7), None]);
    }

    #[test]
    fn wrong_words_are_known_before_anything_is_called() {
        for line in [
            "vm",
            "vm stat",
            "vm stat one two",
            "vm trace",
            "vm list --last 3",
            "vm destroy one --json",
            "vm stat one --seconds 3",
            "vm stat one --vcpu first",
            "vm stat one --watch --json",
            "vm trace one --watch",
            "vm trace one --vcpu first",
        ] {
            let (_, given) = given(line).unwrap();
            let trouble = run(&given, &mut Vec::new());
            assert!(matches!(trouble, Err(Trouble::Usage(..))), "{line}");
        }
    }
}
