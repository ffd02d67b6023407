//! `underlayctl vm`: the children that programs run.

use super::{Command, JSON, Use};
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
    ],
    options: &[JSON],
    more: "\
A VM has a name and a number; either names it here.

Examples:
  underlayctl vm list
  underlayctl vm destroy 3
",
    run,
};

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    match given.words().as_slice() {
        ["list"] => list(given, out),
        ["destroy", name] => destroy(given.underlay()?, name),
        _ => Err(Trouble::usage("`vm` takes `list`, or `destroy NAME`")),
    }
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
    let children = underlay.children()?;
    let is_it = |child: &&VmRecord| child.name.as_str() == name || child.number.to_string() == name;
    let child = children.iter().find(is_it);
    let child = child.ok_or_else(|| Trouble::usage(format!("there is no VM `{name}`")))?;
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
}
