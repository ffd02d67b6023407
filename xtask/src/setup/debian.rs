//! Debian packages: the emulators and tools are installed, the guest's kernel
//! and busybox are only downloaded and unpacked, by package name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;

use super::Guest;
use crate::paths;

/// Packages, and a file of each that shows that it is there.
const PACKAGES: [(&str, &str); 6] = [
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("bochs", "/usr/bin/bochs-bin"),
    ("bochsbios", "/usr/share/bochs/BIOS-bochs-latest"),
    ("vgabios", "/usr/share/bochs/VGABIOS-lgpl-latest"),
    ("ovmf", "/usr/share/ovmf/OVMF.fd"),
    ("mtools", "/usr/bin/mtools"),
];

/// Depends on the newest kernel of its kind.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// The kernel's drivers for the disks that the emulators have, below
/// `kernel/drivers`, each behind those that it needs.
const DRIVERS: [&str; 5] = [
    "scsi/scsi_common.ko",
    "scsi/scsi_mod.ko",
    "scsi/sd_mod.ko",
    "ata/libata.ko",
    "ata/ata_piix.ko",
];

const BUSYBOX_PACKAGE: &str = "busybox-static";

/// Root's downloads into a folder that apt's own user cannot write would draw
/// a warning.
const AS_ROOT: [&str; 2] = ["-o", "APT::Sandbox::User=root"];

/// The packages that are not installed.
pub fn missing_packages() -> Vec<&'static str> {
    let missing = |(_, file): &(&str, &str)| !Path::new(file).exists();
    let rows = PACKAGES.into_iter().filter(missing);
    rows.map(|(package, _)| package).collect()
}

/// What a person would type to install `packages`.
pub fn install_line(packages: &[&str]) -> String {
    let root = if geteuid().is_root() { "" } else { "sudo " };
    let names = packages.join(" ");
    format!("{root}apt-get update && {root}apt-get install -y --no-install-recommends {names}")
}

/// What a person would type to download the guest's parts.
pub fn guest_line() -> String {
    let kernel = kernel_package().unwrap_or_else(|_| KERNEL_PACKAGE.to_owned());
    let dir = paths::shown(&guest_dir());
    format!(
        "apt-get download {kernel} {BUSYBOX_PACKAGE}, each unpacked with dpkg-deb -x into {dir}"
    )
}

/// Installs `packages`, with fresh package lists if the present ones do not
/// do.
pub fn install(packages: &[&str]) -> Result<()> {
    if !geteuid().is_root() {
        bail!(
            "this needs root. Run this command, then try again:\n    {}",
            install_line(packages)
        );
    }
    with_fresh_lists(|| {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "-y", "-q", "--no-install-recommends"]);
        apt.args(packages).env("DEBIAN_FRONTEND", "noninteractive");
        succeed(&mut apt)
    })
}

/// Where the guest's parts are.
pub fn guest() -> Guest {
    Guest {
        kernel: guest_dir().join("vmlinuz.efi"),
        busybox: guest_dir().join("busybox"),
        drivers: DRIVERS.map(|driver| guest_dir().join(driver)).to_vec(),
    }
}

/// Whether the guest's parts have yet to be downloaded.
pub fn guest_is_missing() -> bool {
    let guest = guest();
    let files = guest.drivers.iter().chain([&guest.kernel, &guest.busybox]);
    files.into_iter().any(|file| !file.is_file())
}

/// Downloads and unpacks the guest's parts.
pub fn fetch_guest() -> Result<()> {
    let dir = guest_dir();
    paths::empty_dir(&dir)?;
    with_fresh_lists(|| {
        let mut apt = Command::new("apt-get");
        apt.args(["download", "-q"]).args(AS_ROOT);
        apt.args([&kernel_package()?, BUSYBOX_PACKAGE]);
        succeed(apt.current_dir(&dir))
    })?;
    let unpacked = dir.join("unpacked");
    for package in files_in(&dir, ".deb")? {
        let mut dpkg = Command::new("dpkg-deb");
        succeed(dpkg.arg("-x").arg(&package).arg(&unpacked))?;
    }
    let kernels = files_in(&unpacked.join("boot"), "-amd64")?;
    let kernel = kernels
        .iter()
        .find(|k| k.to_string_lossy().contains("vmlinuz"));
    let kernel = kernel.context("the kernel's package holds no vmlinuz")?;
    fs::copy(unpacked.join("bin/busybox"), guest().busybox)?;
    fs::copy(kernel, guest().kernel)?;
    keep_drivers(&unpacked)?;
    // Hundreds of megabytes of modules that nobody loads.
    fs::remove_dir_all(unpacked)?;
    Ok(())
}

fn keep_drivers(unpacked: &Path) -> Result<()> {
    let versions = files_in(&unpacked.join("lib/modules"), "-amd64")?;
    let version = versions.first();
    let version = version.context("the kernel's package holds no modules")?;
    for (driver, kept) in DRIVERS.iter().zip(guest().drivers) {
        let folder = kept.parent().context("a driver without a folder")?;
        paths::create_dir(folder)?;
        fs::copy(version.join("kernel/drivers").join(driver), kept)?;
    }
    Ok(())
}

fn guest_dir() -> PathBuf {
    paths::underlay().join("debian")
}

fn kernel_package() -> Result<String> {
    let mut apt = Command::new("apt-cache");
    let output = apt.args(["depends", KERNEL_PACKAGE]).output();
    let text = String::from_utf8(output.context("running apt-cache")?.stdout)?;
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .with_context(|| format!("Debian's package lists do not know {KERNEL_PACKAGE}"))
}

/// Tries `work`; if it fails, tries again after `apt-get update`.
fn with_fresh_lists(work: impl Fn() -> Result<()>) -> Result<()> {
    let Err(first) = work() else {
        return Ok(());
    };
    if !geteuid().is_root() {
        bail!(
            "{first:#}\nThe package lists may be old. Run this command, then try again:\n    \
             sudo apt-get update"
        );
    }
    eprintln!("setup: fetching fresh package lists with apt-get update");
    succeed(Command::new("apt-get").args(["update", "-q"]))?;
    work()
}

/// Runs `command` quietly; its output becomes the error if it fails.
fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output: Output = command
        .output()
        .with_context(|| format!("running {name}"))?;
    ensure!(
        output.status.success(),
        "{name} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn files_in(dir: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(ending) {
            files.push(path);
        }
    }
    Ok(files)
}
