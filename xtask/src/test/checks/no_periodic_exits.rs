//! A guest that has nothing to do does not leave: exits do not grow with time.

use anyhow::{Result, ensure};

use crate::machine::{GO_ON, Machine};
use crate::stage::Boot;
use crate::statistics::tables;
use crate::test::case::{Bench, Variant, judge};
use crate::test::table::Row;

/// The first span lets the boot come to rest. Asking makes some exits itself:
/// the same each time, but for the first, before which no call had happened.
const COMMAND: &str = "for span in 5 0 1 20; do sleep $span; underlayctl stat write; done";
const ASKED: usize = 4;

/// Boots once, and asks before and after a short and a long rest.
pub fn run(bench: &Bench, row: &Row, machine: Machine) -> Result<()> {
    let variant = Variant {
        debugger: GO_ON,
        name: "boot",
        native: false,
        boot: Boot::exec(COMMAND),
    };
    let report = bench.boot(row, machine, variant)?;
    judge(row, machine, &report)?;
    let log = String::from_utf8_lossy(&report.log);
    let tables = tables(&log);
    let whole = tables.iter().filter(|table| table.is_whole()).count();
    ensure!(
        whole == ASKED,
        "{whole} whole tables in the log, not {ASKED}"
    );
    for (kind, count) in tables[3].table.counts() {
        let earlier = [1, 2].map(|n| tables[n].table.counts().get(kind).copied().unwrap_or(0));
        let (short, long) = (earlier[1] - earlier[0], count - earlier[1]);
        ensure!(
            short == long,
            "{kind}: {short} exits in 1 s of rest, {long} in 20 s{}",
            views::statistics::text(&[(tables[3].table.clone(), None)])
        );
    }
    Ok(())
}
