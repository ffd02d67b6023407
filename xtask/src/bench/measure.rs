//! Measuring: boots the guests that say what operations cost.

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

/// How an emulator counts instructions.
struct Counting {
    /// What makes it count.
    arguments: &'static [&'static str],
    /// Ticks of the time-stamp counter that an instruction takes.
    ticks: u64,
    /// How often Linux boots.
    boots: usize,
}

/// In Bochs a tick is an instruction, and each boot is like the other.
const BOCHS: Counting = Counting {
    arguments: &[],
    ticks: 1,
    boots: 1,
};

/// With one tick for an instruction it would take ten times as long, as firmware
/// waits by the clock. Without sleep the clock goes on at once where the guest
/// waits; what the disk takes is this computer's time all the same, so that no
/// boot is quite like the other.
const QEMU: Counting = Counting {
    arguments: &["-icount", "shift=6,sleep=off"],
    ticks: 1 << 6,
    boots: 3,
};

/// What Linux says at the end of its boot, see bench/src/boot_mark.rs.
const SAY: &str = r#"echo "cost: boot $BOOT_TICKS $BOOT_TICKS ticks" # boot-mark"#;

/// The kernel as Debian has it does test its ciphers, which takes most of its boot;
/// where others boot on Bochs it does not.
const APPEND: &str = "cryptomgr.notests=0 rdinit=/bin/boot-mark";

/// `row` with memory for children, which only singles have: it would count as
/// Underlay's.
pub fn with_children(mut row: Row) -> Row {
    row.conf.insert("pool".to_owned(), "2M".to_owned());
    row
}

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
        let row = with_children(self.counting());
        let mut costs = self.guest(&row, "boot", "", false)?;
        if natively {
            let native = self.guest(&row, "native", "", true)?;
            for cost in &mut costs {
                let same = native.iter().find(|other| other.is_of(cost));
                cost.native = same.map(|other| other.median);
            }
        }
        Ok(costs)
    }

    /// Without counting, which is for one CPU.
    fn memory(&self) -> Result<Vec<Cost>> {
        let row = Row {
            cpus: 2,
            ..self.row.clone()
        };
        self.guest(&row, "memory", "only=memory", false)
    }

    /// The row with an emulator that counts instructions.
    fn counting(&self) -> Row {
        let mut row = self.row.clone();
        let arguments = row.emulator.entry(self.machine).or_default();
        let more = self.emulator().arguments.iter();
        arguments.extend(more.copied().map(str::to_owned));
        row
    }

    const fn emulator(&self) -> Counting {
        match self.machine {
            Machine::Vtx => BOCHS,
            Machine::Svm | Machine::Kvm => QEMU,
        }
    }

    fn guest(&self, row: &Row, name: &str, arguments: &str, native: bool) -> Result<Vec<Cost>> {
        let boot = Boot::Efi {
            program: artefacts::bench_guest(),
            arguments: arguments.to_owned(),
        };
        self.said(&self.run(row, name, native, boot)?)
    }

    /// What the guest says, in instructions.
    fn said(&self, report: &Report) -> Result<Vec<Cost>> {
        let mut costs = cost::read(self.machine, &String::from_utf8_lossy(&report.output))?;
        let Counting { ticks, .. } = self.emulator();
        for cost in costs.iter_mut().filter(|cost| cost.unit == "ticks") {
            cost.min /= ticks;
            cost.median /= ticks;
        }
        Ok(costs)
    }

    fn boot(&self) -> Result<Cost> {
        let mut cost = self.boots("linux", false)?;
        cost.native = Some(self.boots("linux-native", true)?.min);
        Ok(cost)
    }

    fn boots(&self, name: &str, native: bool) -> Result<Cost> {
        let mut costs = Vec::new();
        let row = self.counting();
        for _ in 0..self.emulator().boots {
            let boot = Boot::Linux {
                kernel: None,
                starter: Some(artefacts::boot_mark()),
                initrd: None,
                append: APPEND.to_owned(),
                exec: Some(SAY.to_owned()),
                at_end: None,
            };
            let report = self.run(&row, name, native, boot)?;
            costs.extend(self.said(&report)?);
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
