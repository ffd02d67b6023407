//! Builds what the machines run, each part for its own target.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::progress::Progress;

pub const UEFI: &str = "x86_64-unknown-uefi";
pub const BARE: &str = "x86_64-unknown-none";
pub const LINUX: &str = "x86_64-unknown-linux-musl";

/// Opens the footer behind the hypervisor's ELF file.
const FOOTER_MAGIC: [u8; 8] = *b"ULAYCRC1";

/// What was built.
pub struct Artefacts {
    /// The UEFI program that starts the hypervisor.
    pub loader: PathBuf,
    /// The hypervisor with its checksum.
    pub hypervisor: PathBuf,
    /// The same with services that break it, once [`build_tests`] has run.
    pub breakable: PathBuf,
    /// The guest's command-line tool.
    pub underlayctl: PathBuf,
}

/// Builds loader, guest tool and, unless nobody will start it, hypervisor.
pub fn build(with_hypervisor: bool) -> Result<Artefacts> {
    let _progress = Progress::start("building Underlay");
    cargo_build(UEFI, &["--package", "loader", "--bin", "underlay"])?;
    cargo_build(LINUX, &["--package", "underlay", "--bin", "underlayctl"])?;
    let hypervisor = paths::underlay().join("underlay.elf");
    if with_hypervisor {
        cargo_build(BARE, &HYPERVISOR)?;
        seal(&built(BARE, "hypervisor"), &hypervisor)?;
    }
    Ok(Artefacts {
        loader: built(UEFI, "underlay.efi"),
        hypervisor,
        breakable: breakable(),
        underlayctl: built(LINUX, "underlayctl"),
    })
}

const HYPERVISOR: [&str; 4] = ["--package", "hypervisor", "--bin", "hypervisor"];

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
    seal(&folder.join(BARE).join("release/hypervisor"), &breakable())
}

/// Writes the ELF file at `elf` with its footer to `file`.
fn seal(elf: &Path, file: &Path) -> Result<()> {
    let bytes = fs::read(elf).with_context(|| format!("reading {}", elf.display()))?;
    paths::create_dir(&paths::underlay())?;
    fs::write(file, with_footer(bytes)?)?;
    Ok(())
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

/// `elf` and behind it the magic, its length and its CRC-32.
fn with_footer(mut elf: Vec<u8>) -> Result<Vec<u8>> {
    let length = u32::try_from(elf.len()).context("the hypervisor's ELF file is too large")?;
    let crc = crc32fast::hash(&elf);
    elf.extend(FOOTER_MAGIC);
    elf.extend(length.to_le_bytes());
    elf.extend(crc.to_le_bytes());
    Ok(elf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footer_is_sixteen_bytes_with_the_known_checksum() {
        // CRC-32's published check value is that of these nine digits.
        let file = with_footer(b"123456789".to_vec()).unwrap();
        assert_eq!(&file[9..17], b"ULAYCRC1");
        assert_eq!(file[17..21], [9, 0, 0, 0]);
        assert_eq!(file[21..], 0xCBF4_3926_u32.to_le_bytes());
        assert_eq!(file.len(), 9 + 16);
    }
}
