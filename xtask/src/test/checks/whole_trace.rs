//! A trace from the first exit to the file for a viewer.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use views::trace::json;

use crate::machine::{GO_ON, Machine};
use crate::stage::Boot;
use crate::test::case::{Bench, Variant, judge};
use crate::test::table::Row;
use crate::trace::log;

const COMMAND: &str = "underlayctl hello && underlayctl trace write";

/// A boot and a call make at least this many exits.
const EXITS: u64 = 500;

/// Boots once and looks at what arrives.
pub fn run(bench: &Bench, row: &Row, machine: Machine) -> Result<()> {
    let variant = Variant {
        debugger: GO_ON,
        name: "boot",
        native: false,
        boot: Boot::exec(COMMAND),
    };
    let report = bench.boot(row, machine, variant)?;
    judge(row, machine, &report)?;
    let said = String::from_utf8_lossy(&report.log);
    let trace = log::read(&said);
    let cpu = trace.cpus.get(&0).context("no trace of CPU 0")?;
    ensure!(cpu.damaged == 0, "{} records were damaged", cpu.damaged);
    let first = cpu.records.first().context("no records")?;
    ensure!(
        first.number == cpu.overwritten,
        "{} records were overwritten, but the first is number {}",
        cpu.overwritten,
        first.number
    );
    let exits = cpu.overwritten + cpu.records.len() as u64;
    ensure!(exits >= EXITS, "only {exits} exits in a whole boot");
    let hello = |record: &&_| is_hello(record);
    ensure!(
        cpu.records.iter().filter(hello).count() == 1,
        "the one call of `hello` is not in the trace once"
    );
    let mut file = Vec::new();
    json::write(&trace, &mut file)?;
    in_order(&file)
}

fn is_hello(record: &abi::report::Record<'_>) -> bool {
    record.kind == "hypercall"
        && record.payload[0] == abi::call::HELLO
        && record.outcome == "done"
        && record.end > record.begin
}

/// One CPU answers one exit after the other.
fn in_order(file: &[u8]) -> Result<()> {
    let file: Value = serde_json::from_slice(file)?;
    let events = file["traceEvents"].as_array().context("no events")?;
    let exits = events.iter().filter(|event| event["ph"] == "X");
    let number = |event: &Value, key: &str| event[key].as_f64().context("no number");
    let mut free = 0.0;
    for exit in exits {
        let (begin, takes) = (number(exit, "ts")?, number(exit, "dur")?);
        // Both are rounded down to a nanosecond.
        ensure!(begin + 0.001 >= free, "two exits at once: {exit}");
        free = begin + takes;
    }
    Ok(())
}
