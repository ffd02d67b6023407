//! The table of emulator tests, `tests/table.toml`, which explains its keys.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde::{Deserialize, Deserializer};

use crate::machine::Machine;
use crate::paths;
use crate::stage::Damage;

/// One row.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    pub sentence: String,
    #[serde(default = "both")]
    pub machines: Vec<Machine>,
    pub guest: Option<String>,
    pub exec: Option<String>,
    pub check: Option<String>,
    #[serde(default)]
    pub status: u8,
    #[serde(default, deserialize_with = "pattern")]
    pub expect: Option<Regex>,
    #[serde(default, deserialize_with = "pattern")]
    pub expect_console: Option<Regex>,
    #[serde(default, deserialize_with = "pattern")]
    pub expect_log: Option<Regex>,
    #[serde(default, deserialize_with = "pattern")]
    pub forbid_log: Option<Regex>,
    pub ends_with: Option<String>,
    #[serde(default)]
    pub stops: bool,
    #[serde(default)]
    pub conf: BTreeMap<String, String>,
    #[serde(default = "one")]
    pub cpus: u32,
    pub memory: Option<u32>,
    pub scratch: Option<u32>,
    #[serde(default)]
    pub append: String,
    #[serde(default)]
    pub arguments: String,
    #[serde(default)]
    pub cpu: BTreeMap<Machine, String>,
    #[serde(default)]
    pub emulator: BTreeMap<Machine, Vec<String>>,
    pub first: Option<String>,
    #[serde(default)]
    pub damage: Damage,
    #[serde(default)]
    pub native: bool,
    #[serde(default)]
    pub same_as_native: bool,
    #[serde(default)]
    pub resets: bool,
    #[serde(default)]
    pub switches_off: bool,
    #[serde(default)]
    pub repeat: BTreeMap<Machine, u32>,
    #[serde(default)]
    pub repeat_long: BTreeMap<Machine, u32>,
    #[serde(default)]
    pub lasts: u64,
    #[serde(default)]
    pub long: Long,
}

/// On which machines a row is only run with `--long`.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Long {
    All(bool),
    Some(Vec<Machine>),
}

impl Default for Long {
    fn default() -> Self {
        Self::All(false)
    }
}

impl Long {
    pub fn is_on(&self, machine: Machine) -> bool {
        match self {
            Self::All(all) => *all,
            Self::Some(machines) => machines.contains(&machine),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    test: Vec<Row>,
}

/// Reads the table of this workspace.
pub fn read() -> Result<Vec<Row>> {
    let path = paths::workspace().join("tests/table.toml");
    let text = fs::read_to_string(&path)?;
    parse(&text).with_context(|| format!("in {}", paths::shown(&path)))
}

pub(super) fn parse(text: &str) -> Result<Vec<Row>> {
    let rows = toml::from_str::<Table>(text)?.test;
    for (at, row) in rows.iter().enumerate() {
        let what = [&row.guest, &row.exec, &row.check];
        let is_soak = row.check.as_deref() == Some("soak") && row.exec.is_some();
        ensure!(
            what.into_iter().flatten().count() == 1 + usize::from(is_soak),
            "test `{}` needs one of guest, exec, check",
            row.name
        );
        ensure!(
            row.resets || !row.switches_off,
            "test `{}` could not tell being switched off from a reset without `resets`",
            row.name
        );
        ensure!(
            rows[..at].iter().all(|r| r.name != row.name),
            "two tests are called `{}`",
            row.name
        );
    }
    Ok(rows)
}

impl Row {
    /// How many boots on `machine`.
    pub fn boots(&self, machine: Machine, long: bool) -> u32 {
        let counts = if long {
            &self.repeat_long
        } else {
            &self.repeat
        };
        counts.get(&machine).copied().unwrap_or(1)
    }
}

fn both() -> Vec<Machine> {
    vec![Machine::Svm, Machine::Vtx]
}

fn one() -> u32 {
    1
}

fn pattern<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Regex>, D::Error> {
    let text = String::deserialize(from)?;
    Regex::new(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_this_workspace_is_sound() {
        assert!(!read().unwrap().is_empty());
    }

    #[test]
    fn a_row_has_defaults() {
        let text = "[[test]]\nname = 'a'\nsentence = 'b'\nexec = 'c'\nrepeat = { svm = 3 }";
        let rows = parse(text).unwrap();
        assert_eq!(rows[0].machines, [Machine::Svm, Machine::Vtx]);
        assert_eq!(rows[0].boots(Machine::Svm, false), 3);
        assert_eq!(rows[0].boots(Machine::Vtx, false), 1);
        assert_eq!(rows[0].boots(Machine::Svm, true), 1);
    }

    #[test]
    fn mistakes_are_found() {
        let row = "[[test]]\nname = 'a'\nsentence = 'b'\n";
        for bad in ["", "exec = 'c'\nguest = 'd'", "exec = 'c'\nexpekt = 'd'"] {
            assert!(parse(&format!("{row}{bad}")).is_err(), "{bad}");
        }
        let twice = format!("{row}exec = 'c'\n{row}exec = 'c'\n");
        assert!(parse(&twice).is_err());
    }
}
