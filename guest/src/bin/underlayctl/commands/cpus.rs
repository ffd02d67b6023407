//! `underlayctl cpus`: which CPUs there are.

use super::{Command, JSON, Use};
use crate::arguments::Given;
use crate::trouble::Trouble;
use abi::record::CpuRecord;
use serde_json::{Value, json};
use std::io::Write;

pub const COMMAND: Command = Command {
    name: "cpus",
    uses: &[Use {
        takes: "[--json]",
        does: "show which CPUs there are and what each does (owner)",
    }],
    options: &[JSON],
    more: "\
Underlay numbers CPUs from 0, which is the one that it was started on. An
operating system may number them in another way; it knows each by the number of
its local APIC (in Linux `apicid` in /proc/cpuinfo).
",
    run,
};

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    given.no_words()?;
    let cpus = given.underlay()?.cpus()?;
    match given.has("json") {
        true => {
            let all: Value = cpus.iter().map(json).collect();
            writeln!(out, "{}", json!({ "cpus": all }))?;
        }
        false => out.write_all(text(&cpus).as_bytes())?,
    }
    Ok(())
}

fn text(cpus: &[CpuRecord]) -> String {
    let head = format!(
        "{:>4}{:>6}  {:<26}{:<14}{:>12}\n",
        "CPU", "APIC", "what it does", "trace", "exits"
    );
    let rows = cpus.iter().map(|cpu| {
        format!(
            "{:>4}{:>6}  {:<26}{:<14}{:>12}\n",
            cpu.number,
            cpu.apic,
            state(cpu),
            trace(cpu),
            cpu.exits
        )
    });
    head + &rows.collect::<String>()
}

fn json(cpu: &CpuRecord) -> Value {
    json!({
        "cpu": cpu.number,
        "apic": cpu.apic,
        "state": state(cpu),
        "trace": trace(cpu),
        "exits": cpu.exits,
    })
}

fn state(cpu: &CpuRecord) -> &'static str {
    match cpu.state {
        0 => "runs",
        1 => "waits for a start-up IPI",
        2 => "got a start-up signal",
        _ => "unknown",
    }
}

fn trace(cpu: &CpuRecord) -> &'static str {
    match cpu.trace {
        0 => "none",
        1 => "off",
        2 => "on",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_a_program_reads() {
        let cpu = CpuRecord {
            number: 1,
            apic: 4,
            state: 1,
            trace: 2,
            exits: 77,
        };
        let text = text(&[cpu]);
        let row = text.lines().nth(1).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            words,
            ["1", "4", "waits", "for", "a", "start-up", "IPI", "on", "77"]
        );
        let value = json(&cpu);
        assert_eq!(value["state"], "waits for a start-up IPI");
        assert_eq!((&value["apic"], &value["exits"]), (&4.into(), &77.into()));
    }
}
