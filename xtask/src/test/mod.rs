//! `cargo xtask test`: unit tests on the desk, then the table of emulator
//! tests, on as many machines at a time as there are cores.

pub mod case;
mod checks;
pub mod table;
mod unit;

use std::fs::File;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::artefacts;
use crate::machine::Machine;
use crate::paths;
use crate::setup;
use case::{Bench, Outcome};
use table::Row;

/// Run the unit tests, then the emulator tests of tests/table.toml.
///
/// Prints one line for each emulator test, and at the end once more what
/// failed, and `N passed, N failed`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test
  cargo xtask test hello hidden     these emulator tests only, no unit tests
  cargo xtask test --machine svm
  cargo xtask test --list           what there is")]
pub struct Args {
    /// Only the emulator tests with these names
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only on this machine
    #[arg(long)]
    machine: Option<Machine>,
    /// Also those that take very long, and more repetitions
    #[arg(long)]
    long: bool,
    /// What random tests begin with; a failure says which it was
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the emulator tests and do nothing
    #[arg(long)]
    list: bool,
}

/// Passed and failed tests.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    /// What to say at the end of those that failed.
    failures: Vec<String>,
}

/// Waits until no other run in this checkout uses the same folders. The lock
/// ends with the process, however that ends.
pub fn alone() -> Result<File> {
    paths::create_dir(&paths::underlay())?;
    let lock = File::create(paths::underlay().join("test.lock"))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting for another test or bench in this checkout to end ...");
        lock.lock().context("waiting for the other run")?;
    }
    Ok(lock)
}

/// `cargo xtask test`.
pub fn command(args: &Args) -> Result<u8> {
    let rows = table::read()?;
    if args.list {
        list(&rows);
        return Ok(0);
    }
    let jobs = jobs(&rows, args)?;
    let _alone = alone()?;
    let guest = setup::ensure()?;
    let mut tally = if args.names.is_empty() {
        unit::run()?
    } else {
        Tally::default()
    };
    let artefacts = artefacts::build(true)?;
    artefacts::build_tests()?;
    artefacts::build_bench()?;
    let bench = Bench {
        artefacts,
        guest,
        long: args.long,
        seed: args.seed.unwrap_or_else(|| fastrand::u32(..).into()),
    };
    let emulated = run_all(&bench, &jobs)?;
    tally.passed += emulated.passed;
    tally.failed += emulated.failed;
    tally.failures.extend(emulated.failures);
    for failure in &tally.failures {
        println!("FAILED: {failure}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(u8::from(tally.failed > 0))
}

fn list(rows: &[Row]) {
    for row in rows {
        println!("{} ({})\n    {}", row.name, machines(row), row.sentence);
    }
}

/// Every test on every one of its machines, the slowest machine first: the
/// quick ones then fill the gaps.
fn jobs<'a>(rows: &'a [Row], args: &Args) -> Result<Vec<(&'a Row, Machine)>> {
    for name in &args.names {
        let known = rows.iter().any(|row| row.name == *name);
        ensure!(known, "no test is called `{name}`; --list shows them");
    }
    let named = |row: &&Row| args.names.is_empty() || args.names.contains(&row.name);
    let is_any_long = args.long || !args.names.is_empty();
    let mut jobs = Vec::new();
    for machine in [Machine::Vtx, Machine::Svm] {
        if args.machine.is_none_or(|m| m == machine) {
            let rows = rows.iter().filter(named);
            let rows = rows.filter(|row| row.machines.contains(&machine));
            let rows = rows.filter(|row| is_any_long || !row.long.is_on(machine));
            jobs.extend(rows.map(|row| (row, machine)));
        }
    }
    for name in &args.names {
        let row = rows.iter().find(|row| row.name == *name);
        let runs = jobs.iter().any(|(row, _)| row.name == *name);
        let machines = row.map_or_else(String::new, machines);
        ensure!(runs, "test `{name}` runs on {machines} only");
    }
    ensure!(
        !jobs.is_empty(),
        "the emulator tests run on vtx and svm only"
    );
    Ok(jobs)
}

/// On which machines `row` runs.
fn machines(row: &Row) -> String {
    let named = |machine: &Machine| {
        let long = row.long.is_on(*machine);
        format!(
            "{}{}",
            machine.name(),
            if long { " with --long" } else { "" }
        )
    };
    let names: Vec<_> = row.machines.iter().map(named).collect();
    names.join(", ")
}

fn run_all(bench: &Bench, jobs: &[(&Row, Machine)]) -> Result<Tally> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let queue = Mutex::new(jobs.iter());
    let tally = Mutex::new(Tally::default());
    let interrupted = AtomicBool::new(false);
    let work = || {
        while let Some((row, machine)) = queue.lock().ok().and_then(|mut q| q.next())
            && !interrupted.load(Ordering::Relaxed)
        {
            let start = Instant::now();
            let outcome = bench.run(row, *machine);
            let stop = matches!(outcome, Outcome::Interrupted);
            interrupted.fetch_or(stop, Ordering::Relaxed);
            if let Ok(mut tally) = tally.lock() {
                tally.count(row, *machine, &outcome, start.elapsed());
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    if interrupted.into_inner() {
        bail!("interrupted");
    }
    Ok(tally.into_inner().unwrap_or_default())
}

impl Tally {
    fn count(&mut self, row: &Row, machine: Machine, outcome: &Outcome, took: Duration) {
        let (word, why) = match outcome {
            Outcome::Passed => ("ok  ", None),
            Outcome::Failed(why) => ("FAIL", Some(why)),
            Outcome::Interrupted => return,
        };
        println!(
            "{word} {} {}: {} ({:.1} s)",
            machine.name(),
            row.name,
            row.sentence,
            took.as_secs_f64()
        );
        match why {
            None => self.passed += 1,
            Some(why) => {
                self.failed += 1;
                let why = why.replace('\n', "\n     ");
                println!("     {why}");
                let name = &row.name;
                let failure = format!("{} {name}\n     {why}", machine.name());
                self.failures.push(failure);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn refusal(words: &[&str]) -> Option<String> {
        let words = [&["test"], words].concat();
        let args = <Cli as clap::Parser>::parse_from(words).args;
        let rows =
            table::parse("[[test]]\nname = 'a'\nsentence = 'b'\nexec = 'c'\nmachines = ['vtx']");
        let refusal = jobs(&rows.unwrap(), &args).err();
        refusal.map(|error| error.to_string())
    }

    #[test]
    fn a_test_that_would_not_run_is_an_error() {
        assert_eq!(refusal(&["a"]), None);
        assert_eq!(refusal(&["a", "--machine", "vtx"]), None);
        let other = refusal(&["a", "--machine", "svm"]);
        assert_eq!(other.as_deref(), Some("test `a` runs on vtx only"));
        assert!(refusal(&["--machine", "kvm"]).is_some());
        assert!(refusal(&["none"]).is_some());
    }
}
