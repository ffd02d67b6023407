//! One emulator test on one machine.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use regex::Regex;

use super::checks;
use super::table::Row;
use crate::artefacts::{self, Artefacts};
use crate::esp;
use crate::machine::{GO_ON, Machine, Spec};
use crate::paths;
use crate::run::{self, DEFAULT_MEMORY};
use crate::session::{self, Ending, Plan, Report};
use crate::setup::Guest;
use crate::stage::{Boot, Stage};
use crate::transcript::tail;

/// Seconds that a guest's second may take on a busy computer.
const PACE: u64 = 4;

/// What every test needs.
pub struct Bench {
    pub artefacts: Artefacts,
    pub guest: Guest,
    pub long: bool,
    /// What random tests begin with.
    pub seed: u64,
}

/// What came of a test.
pub enum Outcome {
    Passed,
    Failed(String),
    Interrupted,
}

/// What one boot of a row differs in from the row.
pub struct Variant<'a> {
    /// Names the folder of the boot.
    pub name: &'a str,
    /// Without Underlay.
    pub native: bool,
    /// What Bochs' debugger is told.
    pub debugger: &'a str,
    /// What boots.
    pub boot: Boot,
}

impl Bench {
    /// Runs `row` on `machine`. Files of failed tests are kept.
    pub fn run(&self, row: &Row, machine: Machine) -> Outcome {
        let dir = Self::dir(row, machine);
        let result = paths::empty_dir(&dir).and_then(|()| match (&row.check, &row.guest) {
            (Some(check), _) => checks::run(check, self, row, machine),
            (None, Some(guest)) if row.same_as_native => {
                checks::transcript::run(self, row, machine, guest)
            }
            _ => self.boots(row, machine),
        });
        match result {
            Ok(()) => {
                // A folder that stays behind does no harm.
                let _ = fs::remove_dir_all(&dir);
                Outcome::Passed
            }
            Err(error) if error.is::<Interrupted>() => Outcome::Interrupted,
            Err(error) => Outcome::Failed(format!("{error:#}\nfiles: {}", paths::shown(&dir))),
        }
    }

    /// Where the files of `row` are while it runs.
    pub fn dir(row: &Row, machine: Machine) -> PathBuf {
        let name = format!("{}-{}", row.name, machine.name());
        paths::underlay().join("test").join(name)
    }

    fn boots(&self, row: &Row, machine: Machine) -> Result<()> {
        let mut first: Option<Vec<u8>> = None;
        for number in 1..=row.boots(machine, self.long) {
            let report = self.boot(
                row,
                machine,
                Variant {
                    debugger: GO_ON,
                    name: "boot",
                    native: row.native,
                    boot: boot_of(row),
                },
            )?;
            judge(row, machine, &report)?;
            match &first {
                None => first = Some(report.output),
                Some(output) => ensure!(
                    *output == report.output,
                    "boot {number} differs from the first. Its output:\n{}",
                    String::from_utf8_lossy(&report.output)
                ),
            }
        }
        Ok(())
    }

    /// How long one boot may take. Of many boots each is a short one.
    fn patience(&self, row: &Row, machine: Machine) -> Duration {
        const LONG: u32 = 20;
        let usual = Duration::from_secs(machine.patience());
        if self.long && row.repeat_long.is_empty() {
            usual * LONG
        } else {
            usual
        }
    }

    /// Boots once to the end.
    pub fn boot(&self, row: &Row, machine: Machine, variant: Variant<'_>) -> Result<Report> {
        let dir = Self::dir(row, machine).join(variant.name);
        paths::empty_dir(&dir)?;
        let disk = dir.join("disk.img");
        let cpu = row.cpu.get(&machine).map(String::as_str);
        let stage = Stage {
            machine,
            native: variant.native,
            conf: row.conf.clone().into_iter().collect(),
            first: row.first.as_deref().map(artefacts::test_guest),
            damage: row.damage,
            cpu: cpu.map(str::to_owned),
            drives_disks: row.scratch.is_some(),
            boot: variant.boot,
        };
        stage
            .esp(&self.artefacts, &self.guest)?
            .write(&disk, esp::FAST_CLUSTER)?;
        let scratch = dir.join("scratch.img");
        if let Some(mebibytes) = row.scratch {
            esp::make_disk(&scratch, u64::from(mebibytes) << 20)?;
        }
        let mut arguments = row.emulator.get(&machine).cloned().unwrap_or_default();
        if row.resets {
            arguments.extend(machine.boots_again());
        }
        let report = session::run(Plan {
            machine,
            spec: Spec {
                cpus: row.cpus,
                memory: row.memory.unwrap_or(DEFAULT_MEMORY),
                disk: &disk,
                scratch: row.scratch.map(|_| scratch.as_path()),
                dir: &dir,
                serial: Default::default(),
                cpu,
                debugger: variant.debugger,
                arguments: &arguments,
            },
            interactive: false,
            wants_result: !row.switches_off,
            powers_off: stage.powers_off(),
            at_end: false,
            output: None,
            ends_with: row.ends_with.clone(),
            timeout: Some(self.patience(row, machine) + Duration::from_secs(PACE * row.lasts)),
            console: dir.join("console.txt"),
            log: dir.join("log.txt"),
        })?;
        fs::remove_file(&disk)?;
        if row.scratch.is_some() {
            fs::remove_file(&scratch)?;
        }
        fs::write(dir.join("output.txt"), &report.output)?;
        if let Ending::Signal(_) = report.ending {
            bail!(Interrupted);
        }
        Ok(report)
    }
}

/// The person, or the operating system, wants an end.
#[derive(Debug)]
struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// What a row without a check boots.
pub fn boot_of(row: &Row) -> Boot {
    match &row.guest {
        Some(name) => Boot::Efi {
            program: artefacts::test_guest(name),
            arguments: row.arguments.clone(),
        },
        None => Boot::Linux {
            kernel: None,
            starter: None,
            initrd: None,
            append: row.append.clone(),
            exec: Some(row.exec.clone().unwrap_or_else(|| "true".to_owned())),
            at_end: None,
        },
    }
}

/// An error unless `report` is what `row` wants.
pub fn judge(row: &Row, machine: Machine, report: &Report) -> Result<()> {
    let as_wanted = match (&report.ending, &row.ends_with) {
        (Ending::Said, Some(_)) => true,
        (Ending::SwitchedOff, None) => row.switches_off,
        (Ending::Stopped, None) => row.stops,
        (Ending::Result(status), None) => !row.stops && *status == row.status,
        _ => false,
    };
    if !as_wanted {
        bail!("{}{}", run::explain(report, machine), tails(report));
    }
    must_match("output", row.expect.as_ref(), &report.output, report)?;
    must_match(
        "console",
        row.expect_console.as_ref(),
        &report.console,
        report,
    )?;
    must_match("log", row.expect_log.as_ref(), &report.log, report)?;
    if let Some(pattern) = &row.forbid_log {
        let log = String::from_utf8_lossy(&report.log);
        ensure!(
            !pattern.is_match(&log),
            "the log matches `{pattern}`{}",
            tails(report)
        );
    }
    Ok(())
}

fn must_match(name: &str, pattern: Option<&Regex>, bytes: &[u8], report: &Report) -> Result<()> {
    let Some(pattern) = pattern else {
        return Ok(());
    };
    // The console ends its lines with both characters.
    let text = String::from_utf8_lossy(bytes).replace('\r', "");
    ensure!(
        pattern.is_match(&text),
        "the {name} does not match `{pattern}`{}",
        tails(report)
    );
    Ok(())
}

fn tails(report: &Report) -> String {
    format!(
        "\nThe output{}\nThe console{}\nThe hypervisor's log{}",
        tail(&report.output, 15),
        tail(&report.console, 12),
        tail(&report.log, 15)
    )
}
