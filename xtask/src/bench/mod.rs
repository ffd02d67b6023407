//! `cargo xtask bench`: what exits, calls and a boot cost, on both machines,
//! beside the same without Underlay, and beside what they cost before.

mod choice;
pub mod cost;
pub mod loads;
mod measure;
pub mod operation;
mod path;
mod table;
mod wanted;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::artefacts;
use crate::generate;
use crate::given;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::setup;
use crate::test::table::{self as tests, Row};
use crate::test::{self, case::Bench};
use choice::Choice;
use cost::Cost;
use loads::Rate;
use measure::Measuring;

/// Time exits, calls and a boot in emulated instructions, and compare with the
/// baseline.
///
/// A program in the guest reads the time-stamp counter around each single
/// operation, which both emulators count by instructions; `boot` is the time of
/// Linux from its start to its first process, with Underlay and without. What got
/// more than 2 % worse than bench/baseline.json, and what is wanted and was
/// reached and is so no more, is named, and the exit status is then 1.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench                 everything, a few minutes
  cargo xtask bench --short         without the boots of Linux
  cargo xtask bench cpuid ping --machine vtx --json costs.json
  cargo xtask bench --path cpuid    each instruction of one operation
  cargo xtask bench --loads         exits a second in an idle Linux, and others
  cargo xtask bench --save          what was measured becomes the baseline,
                                    table and plot in bench/ show it")]
pub struct Args {
    /// Only these operations
    #[arg(value_name = "OPERATION")]
    operations: Vec<String>,
    /// Everything but the boots of Linux, which take most of the time
    #[arg(long, conflicts_with = "operations")]
    short: bool,
    /// Only on this machine
    #[arg(long)]
    machine: Option<Machine>,
    /// Write what was measured to this file as well, as JSON
    #[arg(long, value_name = "P")]
    json: Option<PathBuf>,
    /// Show each instruction of one operation on VT-x, with its function
    #[arg(long, value_name = "OPERATION",
          conflicts_with_all = ["operations", "short", "machine", "json", "save"])]
    path: Option<String>,
    /// Count exits a second, by reason, in an idle Linux and under loads, instead
    #[arg(long, conflicts_with_all = ["operations", "short", "path"])]
    loads: bool,
    /// Make what was measured the baseline
    #[arg(long, conflicts_with_all = ["operations", "short", "machine"])]
    save: bool,
}

/// The row of tests/table.toml that is the short version.
const ROW: &str = "costs";

/// `cargo xtask bench`.
pub fn command(args: &Args) -> Result<u8> {
    if let Some(path) = &args.json {
        given::folder_of("--json", path)?;
    }
    args.path.as_deref().map_or(Ok(()), choice::has_path)?;
    let choice = Choice::new(&args.operations, !args.short)?;
    let machines = machines(args.machine)?;
    let rows = tests::read()?;
    let row = rows.iter().find(|row| row.name == ROW);
    let row = row.with_context(|| format!("no test is called `{ROW}`"))?;
    let _alone = test::alone()?;
    let bench = build()?;
    if let Some(operation) = &args.path {
        print!("{}", path::listing(&bench, row, operation)?);
        return Ok(0);
    }
    if args.loads {
        return loaded(args, &on_each(&bench, row, &machines, loads::measure)?);
    }
    let all = |measuring: &Measuring<'_>| measuring.all(&choice, true);
    conclude(args, &on_each(&bench, row, &machines, all)?)
}

/// What `measure` finds on each of `machines`.
fn on_each<T>(
    bench: &Bench,
    row: &Row,
    machines: &[Machine],
    measure: impl Fn(&Measuring<'_>) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    for &machine in machines {
        let _progress = Progress::start(format!("measuring on {}", machine.name()));
        found.extend(measure(&Measuring {
            bench,
            row,
            machine,
        })?);
    }
    Ok(found)
}

/// What a run needs.
fn build() -> Result<Bench> {
    let guest = setup::ensure()?;
    let artefacts = artefacts::build(true)?;
    artefacts::build_firmware_tables()?;
    artefacts::build_bench()?;
    Ok(Bench {
        artefacts,
        guest,
        long: false,
        seed: 0,
    })
}

/// Shows `costs` beside the baseline, keeps them, and says what they mean.
fn conclude(args: &Args, costs: &[Cost]) -> Result<u8> {
    let baseline = cost::baseline()?;
    print!("{}", table::text(costs, &baseline));
    keep(args, &cost::baseline_path(), costs)?;
    let mut findings = wanted::worse(costs, &baseline);
    findings.extend(wanted::lost(costs, &baseline));
    Ok(status(args, &findings))
}

/// Shows `rates`, keeps them, and says what of them is not wanted.
fn loaded(args: &Args, rates: &[Rate]) -> Result<u8> {
    print!("{}", loads::text(rates));
    keep(args, &loads::saved_path(), rates)?;
    Ok(status(args, &loads::asked_for(rates)))
}

/// Writes `rows` to where they are wanted, and with `--save` to `saved` as well.
fn keep<T: Serialize>(args: &Args, saved: &Path, rows: &[T]) -> Result<()> {
    if let Some(path) = &args.json {
        cost::save(path, rows)?;
    }
    if args.save {
        cost::save(saved, rows)?;
        generate::costs()?;
    }
    Ok(())
}

/// Says what was found, and the exit status for it.
fn status(args: &Args, findings: &[String]) -> u8 {
    for finding in findings {
        println!("{finding}");
    }
    u8::from(!findings.is_empty() && !args.save)
}

fn machines(only: Option<Machine>) -> Result<Vec<Machine>> {
    match only {
        Some(Machine::Kvm) => bail!("only the emulators count instructions: vtx and svm"),
        Some(machine) => Ok(vec![machine]),
        None => Ok(vec![Machine::Vtx, Machine::Svm]),
    }
}

/// An error if a wanted value that the baseline has reached is lost. The boot is
/// only looked at where there is time for it.
pub fn check(bench: &Bench, row: &Row, machine: Machine) -> Result<()> {
    let measuring = Measuring {
        bench,
        row,
        machine,
    };
    let costs = measuring.all(&Choice::new(&[], bench.long)?, false)?;
    let lost = wanted::lost(&costs, &cost::baseline()?);
    ensure!(lost.is_empty(), "{}", lost.join("\n"));
    Ok(())
}
