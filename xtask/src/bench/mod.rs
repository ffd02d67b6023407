//! `cargo xtask bench`: what exits and calls cost, on both machines, beside the
//! same without Underlay, and beside what they cost before.

mod cost;
mod path;
mod table;
mod wanted;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::artefacts;
use crate::given;
use crate::machine::{GO_ON, Machine};
use crate::paths;
use crate::progress::Progress;
use crate::setup;
use crate::stage::Boot;
use crate::test::case::{Bench, Variant, judge};
use crate::test::table::{self as tests, Row};
use cost::Cost;

/// Time exits and calls in emulated instructions, and compare with the baseline.
///
/// A program in the guest reads the time-stamp counter around each single
/// operation, which both emulators count by instructions. What got more than
/// 2 % worse than bench/baseline.json is named, and the exit status is then 1.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench
  cargo xtask bench --machine vtx --json costs.json
  cargo xtask bench --path cpuid    each instruction of one operation
  cargo xtask bench --save          what was measured becomes the baseline")]
pub struct Args {
    /// Only on this machine
    #[arg(long)]
    machine: Option<Machine>,
    /// Write what was measured to this file as well, as JSON
    #[arg(long, value_name = "P")]
    json: Option<PathBuf>,
    /// Show each instruction of one operation on VT-x, with its function
    #[arg(long, value_name = "OPERATION", conflicts_with_all = ["machine", "json", "save"])]
    path: Option<String>,
    /// Make what was measured the baseline
    #[arg(long, conflicts_with = "machine")]
    save: bool,
}

/// The row of tests/table.toml that is the short version.
const ROW: &str = "costs";

/// `cargo xtask bench`.
pub fn command(args: &Args) -> Result<u8> {
    if let Some(path) = &args.json {
        given::folder_of("--json", path)?;
    }
    let machines = machines(args.machine)?;
    let rows = tests::read()?;
    let row = rows.iter().find(|row| row.name == ROW);
    let row = row.with_context(|| format!("no test is called `{ROW}`"))?;
    let guest = setup::ensure()?;
    let artefacts = artefacts::build(true)?;
    artefacts::build_bench()?;
    let bench = Bench {
        artefacts,
        guest,
        long: false,
        seed: 0,
    };
    if let Some(operation) = &args.path {
        print!("{}", path::listing(&bench, row, operation)?);
        return Ok(0);
    }
    let mut costs = Vec::new();
    for machine in machines {
        costs.extend(both(&bench, row, machine)?);
    }
    let baseline = baseline()?;
    print!("{}", table::text(&costs, &baseline));
    for path in args.json.iter().chain(args.save.then(baseline_path).iter()) {
        write(path, &costs)?;
    }
    let worse = table::worse(&costs, &baseline);
    print!("{worse}");
    Ok(u8::from(!worse.is_empty() && !args.save))
}

fn machines(only: Option<Machine>) -> Result<Vec<Machine>> {
    match only {
        Some(Machine::Kvm) => bail!("only the emulators count instructions: vtx and svm"),
        Some(machine) => Ok(vec![machine]),
        None => Ok(vec![Machine::Vtx, Machine::Svm]),
    }
}

/// What `row`'s guest measures on `machine`, with Underlay and without.
fn both(bench: &Bench, row: &Row, machine: Machine) -> Result<Vec<Cost>> {
    let _progress = Progress::start(format!("measuring on {}", machine.name()));
    let natively = measure(bench, row, machine, true)?;
    let mut costs = measure(bench, row, machine, false)?;
    for cost in &mut costs {
        let same = natively.iter().find(|other| other.is_of(cost));
        cost.native = same.map(|other| other.median);
    }
    Ok(costs)
}

/// The guest with these arguments.
fn boot_of(arguments: &str) -> Boot {
    Boot::Efi {
        program: artefacts::bench_guest(),
        arguments: arguments.to_owned(),
    }
}

/// What `row`'s guest measures on `machine`.
pub fn measure(bench: &Bench, row: &Row, machine: Machine, native: bool) -> Result<Vec<Cost>> {
    let variant = Variant {
        debugger: GO_ON,
        name: if native { "native" } else { "boot" },
        native,
        boot: boot_of(""),
    };
    let report = bench.boot(row, machine, variant)?;
    judge(row, machine, &report)?;
    let costs = cost::read(machine, &String::from_utf8_lossy(&report.output));
    ensure!(!costs.is_empty(), "the guest measured nothing");
    Ok(costs)
}

/// An error if a wanted value that the baseline has reached is lost.
pub fn check(bench: &Bench, row: &Row, machine: Machine) -> Result<()> {
    let costs = measure(bench, row, machine, false)?;
    let lost = wanted::lost(&costs, &baseline()?);
    ensure!(lost.is_empty(), "{}", lost.join("\n"));
    Ok(())
}

fn baseline_path() -> PathBuf {
    paths::workspace().join("bench/baseline.json")
}

/// What was measured when somebody saved it last; nothing at first.
fn baseline() -> Result<Vec<Cost>> {
    let path = baseline_path();
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path)?;
    serde_json::from_str(&text).with_context(|| format!("in {}", paths::shown(&path)))
}

fn write(path: &Path, costs: &[Cost]) -> Result<()> {
    let rows: Vec<String> = costs
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<_, _>>()?;
    let text = format!("[\n{}\n]\n", rows.join(",\n"));
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
