//! Rust targets and components, by rustup.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::paths;

const TARGETS: [&str; 3] = [
    "x86_64-unknown-uefi",
    "x86_64-unknown-none",
    "x86_64-unknown-linux-musl",
];

/// Components by the program that each brings.
const COMPONENTS: [(&str, &str); 2] = [("cargo-clippy", "clippy"), ("rustfmt", "rustfmt")];

/// The targets whose libraries are not installed.
pub fn missing_targets() -> Result<Vec<&'static str>> {
    let libraries = sysroot()?.join("lib/rustlib");
    let missing = |target: &&str| !libraries.join(target).join("lib").is_dir();
    Ok(TARGETS.into_iter().filter(missing).collect())
}

/// The components whose programs the toolchain lacks.
pub fn missing_components() -> Vec<&'static str> {
    let Ok(sysroot) = sysroot() else {
        return Vec::new();
    };
    let missing = |(program, _): &(&str, &str)| !sysroot.join("bin").join(program).is_file();
    let rows = COMPONENTS.into_iter().filter(missing);
    rows.map(|(_, component)| component).collect()
}

/// `rustup target add` or `rustup component add`.
pub fn add(kind: &str, names: &[&str]) -> Result<()> {
    if paths::program("rustup").is_none() {
        bail!(
            "rustup is not installed, and the Rust {kind}s {} are missing: \
             install them with whatever installed Rust",
            names.join(" ")
        );
    }
    let status = Command::new("rustup")
        .args([kind, "add"])
        .args(names)
        .status();
    ensure!(status?.success(), "rustup {kind} add failed");
    Ok(())
}

fn sysroot() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let output = output.context("running rustc")?;
    ensure!(output.status.success(), "rustc --print sysroot failed");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
