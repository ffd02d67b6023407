//! What cargo's own tools have to say.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::Findings;
use super::sources::Sources;
use crate::artefacts::{self, BARE, LINUX, UEFI};
use crate::paths;

/// What would end the hypervisor.
const PANICS: [&str; 8] = [
    "unwrap_used",
    "expect_used",
    "panic",
    "todo",
    "unimplemented",
    "unreachable",
    "indexing_slicing",
    "string_slice",
];

/// `cargo fmt --check`.
pub fn format(_: &Sources) -> Findings {
    let mut cargo = artefacts::cargo();
    let found = findings(cargo.args(["fmt", "--all", "--", "--check", "-l"]))?;
    let files = found.iter().flat_map(|text| text.lines());
    let shown = files.map(|file| paths::shown(Path::new(file)));
    Ok(shown.map(|file| format!("{file}: run cargo fmt")).collect())
}

/// Clippy over everything that is compiled for this computer.
pub fn desk(_: &Sources) -> Findings {
    findings(clippy(&["--all-targets"]).args(["--", "-D", "warnings"]))
}

/// Clippy over everything for the target that it is made for.
pub fn targets(_: &Sources) -> Findings {
    let rows: [(&str, &[&str]); 3] = [
        (
            UEFI,
            &[
                "--package",
                "loader",
                "--package",
                "tests",
                "--package",
                "bench",
            ],
        ),
        (BARE, &["--package", "hypervisor", "--package", "machine"]),
        (
            LINUX,
            &[
                "--package",
                "underlay",
                "--package",
                "underlay-vm",
                "--package",
                "mixed-load",
                "--package",
                "call-load",
                "--package",
                "bench",
            ],
        ),
    ];
    let mut all = Vec::new();
    for (target, packages) in rows {
        let mut clippy = clippy(packages);
        clippy.args(["--target", target, "--", "-D", "warnings"]);
        all.extend(findings(&mut clippy)?);
    }
    Ok(all)
}

/// Clippy's lints against panics, where a panic would end the machine.
pub fn panics(_: &Sources) -> Findings {
    let mut clippy = clippy(&["--no-deps", "--lib", "--bins"]);
    clippy.args([
        "--package",
        "abi",
        "--package",
        "x86",
        "--package",
        "hypervisor",
    ]);
    clippy.args(["--target", BARE, "--"]);
    for lint in PANICS {
        clippy.args(["-D", &format!("clippy::{lint}")]);
    }
    findings(&mut clippy)
}

/// `cargo doc`.
pub fn documentation(_: &Sources) -> Findings {
    let mut cargo = artefacts::cargo();
    cargo
        .args(["doc", "--no-deps", "--quiet"])
        .args(artefacts::locked());
    findings(cargo.env("RUSTDOCFLAGS", "-D warnings"))
}

fn clippy(what: &[&str]) -> Command {
    let mut cargo = artefacts::cargo();
    cargo
        .args(["clippy", "--quiet"])
        .args(artefacts::locked())
        .args(what);
    cargo
}

fn findings(command: &mut Command) -> Findings {
    let output = command.output().context("running cargo")?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let said = [output.stdout, output.stderr].concat();
    Ok(vec![String::from_utf8_lossy(&said).into_owned()])
}
