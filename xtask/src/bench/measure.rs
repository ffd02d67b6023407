//! Measuring: boots the guests that say what operations cost.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::choice::Choice;
use super::cost::{self, Cost};
use super::operation::Kind;
use crate::artefacts;
use crate::machine::{GO_ON, Machine};
use crate::session::Report;
use crate::stage::Boot;
use crate::test::case::{Bench, Variant, judge};
use crate::test::table::Row;

/// Measures on one machine, by the guest and with the settings of a row of the
/// table of tests.
pub struct Measuring<'a> {
    pub bench: &'a Bench,
    pub row: &'a Row,
    pub machine: Machine,
}

/// How many boots on `machine` have their least and their median told. In Bochs
/// each is like the other.
const fn boots(machine: Machine) -> usize {
    match machine {
        Machine::Vtx => 1,
        _ => 3,
    }
}

/// What Linux says at the end of its boot, see bench/src/boot_mark.rs.
const SAY: &str = r#"echo "cost: boot $BOOT_TICKS $BOOT_TICKS ticks" # boot-mark"#;

impl Measuring<'_> {
    /// What `choice` costs; with `natively` beside the same without Underlay,
    /// where there is such a thing. A boot is always beside that.
    pub fn all(&self, choice: &Choice<'_>, natively: bool) -> Result<Vec<Cost>> {
        let mut costs = Vec::new();
        for kind in [Kind::Single, Kind::Memory, Kind::Boot] {
            let wanted: Vec<_> = choice.of(kind).collect();
            if wanted.is_empty() {
                continue;
            }
            let measured = match kind {
                Kind::Single => self.singles(natively)?,
                Kind::Memory => self.memory()?,
                Kind::Boot => vec![self.boot()?],
            };
            for row in wanted {
                let cost = measured.iter().find(|cost| cost.operation == row.name);
                let cost = cost.with_context(|| format!("{} was not measured", row.name))?;
                costs.push(cost.clone());
            }
        }
        Ok(costs)
    }

    fn singles(&self, natively: bool) -> Result<Vec<Cost>> {
        let mut costs = self.guest(self.row, "boot", "", false)?;
        if natively {
            let native = self.guest(self.row, "native", "", true)?;
            for cost in &mut costs {
                let same = native.iter().find(|other| other.is_of(cost));
                cost.native = same.map(|other| other.median);
            }
        }
        Ok(costs)
    }

    /// Where instructions are not counted: with several CPUs they cannot be.
    fn memory(&self) -> Result<Vec<Cost>> {
        let row = Row {
            cpus: 2,
            emulator: BTreeMap::new(),
            ..self.row.clone()
        };
        self.guest(&row, "memory", "only=memory", false)
    }

    fn guest(&self, row: &Row, name: &str, arguments: &str, native: bool) -> Result<Vec<Cost>> {
        let boot = Boot::Efi {
            program: artefacts::bench_guest(),
            arguments: arguments.to_owned(),
        };
        let report = self.run(row, name, native, boot)?;
        cost::read(self.machine, &String::from_utf8_lossy(&report.output))
    }

    fn boot(&self) -> Result<Cost> {
        let mut cost = self.boots("linux", false)?;
        cost.native = Some(self.boots("linux-native", true)?.median);
        Ok(cost)
    }

    fn boots(&self, name: &str, native: bool) -> Result<Cost> {
        let mut costs = Vec::new();
        for _ in 0..boots(self.machine) {
            let boot = Boot::Linux {
                kernel: None,
                starter: Some(artefacts::boot_mark()),
                initrd: None,
                append: "rdinit=/bin/boot-mark".to_owned(),
                exec: Some(SAY.to_owned()),
                at_end: None,
            };
            let report = self.run(self.row, name, native, boot)?;
            costs.extend(cost::read(
                self.machine,
                &String::from_utf8_lossy(&report.output),
            )?);
        }
        costs.sort_by_key(|cost| cost.median);
        let median = costs.get(costs.len() / 2).map(|cost| cost.median);
        let least = costs.into_iter().next().context("no boot was measured")?;
        let median = median.unwrap_or(least.median);
        Ok(Cost { median, ..least })
    }

    /// What `boot` says with the settings of `row`.
    pub fn run(&self, row: &Row, name: &str, native: bool, boot: Boot) -> Result<Report> {
        let variant = Variant {
            debugger: GO_ON,
            name,
            native,
            boot,
        };
        let report = self.bench.boot(row, self.machine, variant)?;
        judge(row, self.machine, &report)?;
        Ok(report)
    }
}
