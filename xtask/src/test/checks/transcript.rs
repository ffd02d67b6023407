//! A guest's transcript with Underlay against the one without: the same
//! digests and findings, but for the differences that `differences.rs` lists
//! with their reasons.
//!
//! A guest prints `digest BLOCK ...` for many cases at once and `finding NAME
//! ...` for one. Where digests differ the guest boots once more both ways and
//! prints every case of those blocks, so that the message names the cases.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::differences;
use crate::artefacts;
use crate::machine::{GO_ON, Machine};
use crate::stage::Boot;
use crate::test::case::{Bench, Variant, judge};
use crate::test::table::Row;

/// Random cases with `--long`.
const LONG: &str = "random=1000000";
/// Blocks that are printed in full, and differences that are shown.
const BLOCKS_SHOWN: usize = 3;
const LINES_SHOWN: usize = 12;

/// Boots `guest` both ways and compares.
pub fn run(bench: &Bench, row: &Row, machine: Machine, guest: &str) -> Result<()> {
    let pair = Pair {
        bench,
        row,
        machine,
        guest,
    };
    let (native, ours) = pair.boot("")?;
    let blocks = differing(&native, &ours, "digest");
    let mut findings = differing(&native, &ours, "finding");
    findings.retain(|name| differences::reason(guest, machine, name).is_none());
    ensure!(
        blocks.is_empty(),
        "{} blocks differ from native: {}\n{}",
        blocks.len(),
        blocks.join(" "),
        pair.cases(&blocks)?
    );
    ensure!(
        findings.is_empty(),
        "{} findings differ from native:\n{}",
        findings.len(),
        shown(&native, &ours, "finding", &findings)
    );
    let digests = entries(&native, "digest").len();
    let singles = entries(&native, "finding").len();
    ensure!(
        digests + singles > 0,
        "the guest printed nothing to compare"
    );
    Ok(())
}

struct Pair<'a> {
    bench: &'a Bench,
    row: &'a Row,
    machine: Machine,
    guest: &'a str,
}

impl Pair<'_> {
    /// What the guest says without Underlay, and with it.
    fn boot(&self, cases: &str) -> Result<(String, String)> {
        let long = if self.bench.long { LONG } else { "" };
        let boot = |name, native| -> Result<String> {
            let boot = Boot::Efi {
                program: artefacts::test_guest(self.guest),
                arguments: format!("{long} {cases}").trim().to_owned(),
            };
            let variant = Variant {
                name,
                native,
                debugger: GO_ON,
                boot,
            };
            let report = self.bench.boot(self.row, self.machine, variant)?;
            judge(self.row, self.machine, &report)?;
            Ok(String::from_utf8_lossy(&report.output).replace('\r', ""))
        };
        Ok((boot("native", true)?, boot("underlay", false)?))
    }

    /// The cases of `blocks` that differ.
    fn cases(&self, blocks: &[String]) -> Result<String> {
        let some = blocks.get(..BLOCKS_SHOWN).unwrap_or(blocks);
        let (native, ours) = self.boot(&format!("cases={}", some.join(",")))?;
        let cases = differing(&native, &ours, "case");
        Ok(shown(&native, &ours, "case", &cases))
    }
}

/// Name to the rest of the lines that begin with `kind`.
fn entries<'a>(text: &'a str, kind: &str) -> BTreeMap<&'a str, &'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
    let lines = lines.filter_map(|line| line.strip_prefix(' '));
    lines
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .collect()
}

/// Names that only one of them has or that are not the same in both.
fn differing(native: &str, ours: &str, kind: &str) -> Vec<String> {
    let (native, ours) = (entries(native, kind), entries(ours, kind));
    let missing = ours.keys().filter(|name| !native.contains_key(*name));
    let other = native
        .iter()
        .filter(|(name, text)| ours.get(*name) != Some(text));
    let names = other.map(|(name, _)| name).chain(missing);
    names.map(|name| (*name).to_owned()).collect()
}

fn shown(native: &str, ours: &str, kind: &str, names: &[String]) -> String {
    let (native, ours) = (entries(native, kind), entries(ours, kind));
    let line = |name: &String| {
        let text = |of: &BTreeMap<&str, &str>| of.get(name.as_str()).map_or("-", |t| t).to_owned();
        format!(
            "{name}\n  native  {}\n  beneath {}",
            text(&native),
            text(&ours)
        )
    };
    let lines: Vec<_> = names.iter().take(LINES_SHOWN).map(line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let native = "ok\ndigest a 1\ndigest b 2\nfinding c 1\n";
        let ours = "ok\ndigest a 1\ndigest b 3\ndigest d 1\nfinding c 2\n";
        assert_eq!(differing(native, ours, "digest"), ["b", "d"]);
        assert_eq!(differing(native, ours, "finding"), ["c"]);
        assert!(differing(native, native, "digest").is_empty());
    }

    #[test]
    fn both_sides_of_a_difference_are_shown() {
        let text = shown("case a 1 x\n", "case a 2 y\n", "case", &["a".to_owned()]);
        assert_eq!(text, "a\n  native  1 x\n  beneath 2 y");
    }
}
