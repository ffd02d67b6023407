//! `cargo xtask fuzz`: the fuzz targets, by name.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::paths;

/// Each target, and the folder of its crate.
const TARGETS: [(&str, &str); 6] = [
    ("config", "loader"),
    ("image", "loader"),
    ("emulator", "hypervisor"),
    ("exits", "hypervisor"),
    ("shell", "hypervisor"),
    ("walk", "hypervisor"),
];

/// Feed random bytes to what must take anything
///
/// Needs a nightly toolchain and `cargo install cargo-fuzz`. What was found
/// useful is kept in fuzz/corpus of the target's crate; an input that fails is
/// named at the end, and running again with it shows the failure.
#[derive(clap::Args)]
pub struct Args {
    /// The targets; all of them if none is given
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS.map(|(name, _)| name)))]
    names: Vec<String>,
    /// How long each runs
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    time: u32,
}

/// Runs the targets one after the other, up to the first that fails.
pub fn command(args: &Args) -> Result<()> {
    if paths::program("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is not installed: cargo install cargo-fuzz");
    }
    for (name, folder) in TARGETS {
        if args.names.is_empty() || args.names.iter().any(|wanted| wanted == name) {
            run(name, folder, args.time)?;
        }
    }
    Ok(())
}

fn run(name: &str, folder: &str, seconds: u32) -> Result<()> {
    let status = Command::new("cargo")
        .current_dir(paths::workspace().join(folder))
        .args(["+nightly", "fuzz", "run", name, "--"])
        .arg(format!("-max_total_time={seconds}"))
        // The variable names the toolchain that runs us, and would win.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "the fuzz target {name} failed");
    Ok(())
}
