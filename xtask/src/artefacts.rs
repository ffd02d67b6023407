//! Builds what the machines run, each part for its own target.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::linux;
use crate::paths;
use crate::progress::Progress;
use crate::seal;
use crate::setup;

pub const UEFI: &str = "x86_64-unknown-uefi";
pub const BARE: &str = "x86_64-unknown-none";
pub const LINUX: &str = "x86_64-unknown-linux-musl";

/// What was built.
pub struct Artefacts {
    /// The UEFI program that starts the hypervisor.
    pub loader: PathBuf,
    /// The hypervisor with its checksum.
    pub hypervisor: PathBuf,
    /// The same with services that break it, once [`build_tests`] has run.
    pub breakable: PathBuf,
    /// The UEFI program that gives firmware without ACPI tables some, once it
    /// was built.
    pub firmware_tables: PathBuf,
    /// What Linux in the guest gets: tools, examples, the module.
    pub linux: Vec<linux::Entry>,
    /// Programs that only tests need, which have them in their commands.
    pub call_tests: Vec<linux::Entry>,
}

/// Builds loader, what Linux in the guest gets and, unless nobody will start
/// it, hypervisor.
pub fn build(with_hypervisor: bool) -> Result<Artefacts> {
    let _progress = Progress::start("building Underlay");
    cargo_build(UEFI, &["--package", "loader", "--bin", "underlay"])?;
    let packages = [
        "underlay",
        "underlay-vm",
        "underlay-run",
        "mixed-load",
        "call-load",
        "bench",
    ];
    let packages = packages.iter().flat_map(|name| ["--package", name]);
    let tools: Vec<&str> = packages.chain(["--bins", "--examples"]).collect();
    cargo_build(LINUX, &tools)?;
    let mut programs = linux::rust_examples(&built(LINUX, "examples"))?;
    programs.extend(["underlayctl", "mixed-load"].map(in_bin));
    programs.push(("bin", built(LINUX, "examples/child-prints")));
    let hypervisor = paths::underlay().join("underlay.elf");
    if with_hypervisor {
        cargo_build(BARE, &HYPERVISOR)?;
        seal::file(&unsealed(), &hypervisor)?;
    }
    Ok(Artefacts {
        loader: built(UEFI, "underlay.efi"),
        hypervisor,
        breakable: breakable(),
        firmware_tables: test_guest(FIRMWARE_TABLES),
        linux: linux::build(&setup::guest().headers, &programs)?,
        call_tests: linux::programs(&ONLY_FOR_TESTS.map(in_bin))?,
    })
}

const ONLY_FOR_TESTS: [&str; 6] = [
    "call-load",
    "call-attack",
    "next-kernel",
    "boot-mark",
    "child-test",
    "underlay-run",
];

/// A program and its folder in the guest.
fn in_bin(name: &str) -> (&'static str, PathBuf) {
    ("bin", built(LINUX, name))
}

const HYPERVISOR: [&str; 4] = ["--package", "hypervisor", "--bin", "hypervisor"];

const FIRMWARE_TABLES: &str = "firmware-tables";

/// Builds the program that gives firmware without ACPI tables some. Not
/// together with the loader: what is built at once shares features of crates.
pub fn build_firmware_tables() -> Result<()> {
    cargo_build(UEFI, &["--package", "tests", "--bin", FIRMWARE_TABLES])
}

fn breakable() -> PathBuf {
    paths::underlay().join("breakable.elf")
}

/// Builds every UEFI test guest, and the hypervisor that can be broken. That
/// one has a target folder of its own: in the common one each build would
/// undo the other.
pub fn build_tests() -> Result<()> {
    let _progress = Progress::start("building the test guests");
    cargo_build(UEFI, &["--package", "tests", "--bins"])?;
    let folder = paths::underlay().join("breakable");
    let place = ["--features", "breakable", "--target-dir"].map(str::to_owned);
    let mut arguments = HYPERVISOR.map(str::to_owned).to_vec();
    arguments.extend(place);
    arguments.push(folder.display().to_string());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    cargo_build(BARE, &arguments)?;
    seal::file(&folder.join(BARE).join("release/hypervisor"), &breakable())
}

/// The hypervisor as it was linked, with what debuggers know of it.
pub fn unsealed() -> PathBuf {
    built(BARE, "hypervisor")
}

/// Builds the UEFI programs that time exits and calls, and the boot.
pub fn build_bench() -> Result<()> {
    cargo_build(UEFI, &["--package", "bench", "--bins"])
}

/// The UEFI program that times exits and calls.
pub fn bench_guest() -> PathBuf {
    built(UEFI, "costs.efi")
}

/// The UEFI program that marks where the boot of Linux begins.
pub fn boot_mark() -> PathBuf {
    built(UEFI, "boot-mark.efi")
}

/// The UEFI test guest `name`.
pub fn test_guest(name: &str) -> PathBuf {
    built(UEFI, &format!("{name}.efi"))
}

/// Whether cargo shall refuse to change Cargo.lock.
pub fn locked() -> &'static [&'static str] {
    if env::var_os("CI").is_some() {
        &["--locked"]
    } else {
        &[]
    }
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(paths::workspace());
    command
}

fn cargo_build(target: &str, what: &[&str]) -> Result<()> {
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--release", "--target", target]);
    cargo.args(what).args(locked());
    let status = cargo.status().context("running cargo")?;
    ensure!(status.success(), "cargo build {} failed", what.join(" "));
    Ok(())
}

fn built(target: &str, file: &str) -> PathBuf {
    let dir: &Path = &paths::target();
    dir.join(target).join("release").join(file)
}
