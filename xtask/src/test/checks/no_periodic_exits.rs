//! A guest that has nothing to do does not leave: exits do not grow with time.

use anyhow::{Result, ensure};

use crate::machine::Machine;
use crate::stage::Boot;
use crate::statistics::tables;
use crate::test::case::{Bench, Variant, judge};
use crate::test::table::Row;

/// The first span lets the boot come to rest; asking makes some exits itself,
/// the same in each of the others.
const COMMAND: &str = "for span in 5 1 20; do sleep $span; underlayctl statistics; done";

/// Boots once, and asks before and after a short and a long rest.
pub fn run(bench: &Bench, row: &Row, machine: Machine) -> Result<()> {
    let variant = Variant {
        name: "boot",
        native: false,
        boot: Boot::exec(COMMAND),
    };
    let report = bench.boot(row, machine, variant)?;
    judge(row, machine, &report)?;
    let log = String::from_utf8_lossy(&report.log);
    let tables = tables(&log);
    let whole = tables.iter().filter(|table| table.is_whole()).count();
    ensure!(whole == 3, "{whole} whole tables in the log, not 3");
    for (kind, count) in tables[2].counts() {
        let earlier = [0, 1].map(|n| tables[n].counts().get(kind).copied().unwrap_or(0));
        let (short, long) = (earlier[1] - earlier[0], count - earlier[1]);
        ensure!(
            short == long,
            "{kind}: {short} exits in 1 s of rest, {long} in 20 s{}",
            tables[2].text()
        );
    }
    Ok(())
}
