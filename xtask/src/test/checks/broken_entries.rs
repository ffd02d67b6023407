//! Rules of VM entry, broken on purpose: the hypervisor names the rule, and
//! Bochs' own log says the same in its words.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::artefacts;
use crate::machine::{GO_ON, Machine};
use crate::session::EMULATOR_LOG;
use crate::stage::Boot;
use crate::test::case::{Bench, Variant, judge};
use crate::test::table::Row;

/// A broken rule and a part of what Bochs says of it.
type Expected = (&'static str, &'static str);

/// Boots the guest that has the rules broken, and compares the two accounts.
pub fn run(bench: &Bench, row: &Row, machine: Machine) -> Result<()> {
    let variant = Variant {
        debugger: GO_ON,
        name: "boot",
        native: false,
        boot: Boot::Efi {
            program: artefacts::test_guest("break-entry"),
            arguments: String::new(),
        },
    };
    let report = bench.boot(row, machine, variant)?;
    judge(row, machine, &report)?;
    if machine != Machine::Vtx {
        return Ok(());
    }
    let path = Bench::dir(row, machine).join("boot").join(EMULATOR_LOG);
    let log = fs::read_to_string(path).context("reading Bochs' log")?;
    if row.cpu.contains_key(&machine) {
        compare(&lines(&log, &["VMRUN: ", "VMRUN(): "]), &amd())
    } else {
        let mut refusals = lines(&log, &["VMFAIL: ", "VMENTER FAIL: "]);
        // By this one Underlay learns that it has to launch.
        refusals.retain(|line| !line.contains("non-launched"));
        compare(&refusals, &intel())
    }
}

fn intel() -> Vec<Expected> {
    let rows = x86::vtx::checks::breakages::for_real();
    rows.filter_map(|row| Some((row.rule, row.bochs?)))
        .collect()
}

fn amd() -> Vec<Expected> {
    let rows = x86::svm::checks::BREAKAGES.iter();
    rows.filter_map(|row| Some((row.rule, row.bochs?)))
        .collect()
}

/// What follows one of `marks` in a line: refusals, one a line.
fn lines<'a>(log: &'a str, marks: &[&str]) -> Vec<&'a str> {
    let refusal = |line: &'a str| marks.iter().find_map(|mark| Some(line.split_once(mark)?.1));
    log.lines().filter_map(refusal).collect()
}

/// One line for each rule, in the same order.
fn compare(lines: &[&str], expected: &[Expected]) -> Result<()> {
    for (number, (rule, words)) in expected.iter().enumerate() {
        let line = lines.get(number).copied().unwrap_or("nothing");
        ensure!(
            line.contains(words),
            "of broken rule {number}, {rule}, Bochs says `{line}` instead of `{words}`"
        );
    }
    ensure!(
        lines.len() == expected.len(),
        "Bochs refused {} entries, {} were broken",
        lines.len(),
        expected.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_compared_in_order() {
        let log = "001e[CPU0  ] VMFAIL: VMCS host state invalid CR0 0x0\n002i[XX] other\n\
                   003e[CPU0  ] VMENTER FAIL: VMCS guest invalid CR3\n";
        let lines = lines(log, &["VMFAIL: ", "VMENTER FAIL: "]);
        let good = [("a", "invalid CR0"), ("b", "invalid CR3")];
        compare(&lines, &good).unwrap();
        assert!(compare(&lines, &good[..1]).is_err());
        let error = compare(&lines, &[good[1], good[0]]).unwrap_err();
        assert!(error.to_string().contains("rule 0, b"), "{error}");
        assert!(compare(&lines[..1], &good).is_err());
    }

    #[test]
    fn many_rules_have_a_witness() {
        assert!(intel().len() >= 60);
        assert!(amd().len() >= 10);
    }
}
