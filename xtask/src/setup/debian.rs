//! Debian packages: the emulators and tools are installed, the guest's kernel
//! and busybox are only downloaded and unpacked, by package name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use super::Guest;
use crate::command::succeed;
use crate::paths;

/// Packages, and a file of each that shows that it is there.
const PACKAGES: [(&str, &str); 11] = [
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("bochs", "/usr/bin/bochs-bin"),
    ("bochsbios", "/usr/share/bochs/BIOS-bochs-latest"),
    ("vgabios", "/usr/share/bochs/VGABIOS-lgpl-latest"),
    ("ovmf", "/usr/share/ovmf/OVMF.fd"),
    ("mtools", "/usr/bin/mtools"),
    // The kernel's headers name this compiler.
    ("gcc-12", "/usr/bin/gcc-12"),
    ("gcc", "/usr/bin/gcc"),
    ("libc6-dev", "/usr/lib/x86_64-linux-gnu/libc.a"),
    ("make", "/usr/bin/make"),
    // For the programs that come with the headers.
    ("libelf1", "/usr/lib/x86_64-linux-gnu/libelf.so.1"),
];

/// Depends on the newest kernel of its kind.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// The kernel's drivers for the disks that the emulators have, below `kernel`, each
/// behind those that it needs.
const DRIVERS: [&str; 5] = [
    "drivers/scsi/scsi_common.ko",
    "drivers/scsi/scsi_mod.ko",
    "drivers/scsi/sd_mod.ko",
    "drivers/ata/libata.ko",
    "drivers/ata/ata_piix.ko",
];

/// Those for the disk and the network of a VM of the guest's, each behind those that
/// it needs; its init names them, too.
const CHILD_DRIVERS: [&str; 7] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_mmio.ko",
    "drivers/block/virtio_blk.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
];

/// The guest's own end of that network.
const TAP_DRIVER: &str = "drivers/net/tun.ko";

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
    let packages = guest_packages().map_or_else(|_| KERNEL_PACKAGE.to_owned(), |p| p.join(" "));
    let dir = paths::shown(&guest_dir());
    format!("apt-get download {packages}, each unpacked with dpkg-deb -x into {dir}")
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
        headers: guest_dir().join("headers"),
        drivers: DRIVERS.map(|driver| guest_dir().join(driver)).to_vec(),
        child_drivers: CHILD_DRIVERS
            .map(|driver| guest_dir().join(driver))
            .to_vec(),
        tap_driver: guest_dir().join(TAP_DRIVER),
    }
}

/// Whether the guest's parts have yet to be downloaded.
pub fn guest_is_missing() -> bool {
    let guest = guest();
    let drivers = guest.drivers.iter().chain(&guest.child_drivers);
    let files = drivers.chain([&guest.tap_driver, &guest.kernel, &guest.busybox]);
    let mut missing = files.into_iter().filter(|file| !file.is_file());
    missing.next().is_some() || !guest.headers.is_dir()
}

/// Downloads and unpacks the guest's parts.
pub fn fetch_guest() -> Result<()> {
    let dir = guest_dir();
    paths::empty_dir(&dir)?;
    with_fresh_lists(|| {
        let mut apt = Command::new("apt-get");
        apt.args(["download", "-q"]).args(AS_ROOT);
        apt.args(guest_packages()?);
        succeed(apt.current_dir(&dir))
    })?;
    let unpacked = dir.join("unpacked");
    for package in paths::files(&dir, ".deb")? {
        let mut dpkg = Command::new("dpkg-deb");
        succeed(dpkg.arg("-x").arg(&package).arg(&unpacked))?;
    }
    let kernels = paths::files(&unpacked.join("boot"), "-amd64")?;
    let kernel = kernels
        .iter()
        .find(|k| k.to_string_lossy().contains("vmlinuz"));
    let kernel = kernel.context("the kernel's package holds no vmlinuz")?;
    fs::copy(unpacked.join("bin/busybox"), guest().busybox)?;
    fs::copy(kernel, guest().kernel)?;
    keep_headers(&unpacked.join("usr"))?;
    keep_drivers(&unpacked)?;
    // Hundreds of megabytes of modules that nobody loads.
    fs::remove_dir_all(unpacked)?;
    Ok(())
}

/// Keeps the kernel's headers of the folder `usr`, under names without its
/// version. The links in them lead from folder to folder, and stay right.
fn keep_headers(usr: &Path) -> Result<()> {
    let names = [("-common", "common"), ("-cloud-amd64", "configured")];
    for (ending, name) in names {
        let found = paths::files(&usr.join("src"), ending)?;
        let found = found.first();
        let found = found.with_context(|| format!("no package holds the headers {name}"))?;
        fs::rename(found, usr.join("src").join(name))?;
    }
    Ok(fs::rename(usr, guest().headers)?)
}

fn keep_drivers(unpacked: &Path) -> Result<()> {
    let versions = paths::files(&unpacked.join("lib/modules"), "-amd64")?;
    let version = versions.first();
    let version = version.context("the kernel's package holds no modules")?;
    let all = DRIVERS.iter().chain(&CHILD_DRIVERS).chain([&TAP_DRIVER]);
    for driver in all {
        let kept = guest_dir().join(driver);
        let folder = kept.parent().context("a driver without a folder")?;
        paths::create_dir(folder)?;
        fs::copy(version.join("kernel").join(driver), kept)?;
    }
    Ok(())
}

fn guest_dir() -> PathBuf {
    paths::underlay().join("debian")
}

/// The packages of the guest's parts: all of the same kernel.
fn guest_packages() -> Result<Vec<String>> {
    let kernel = dependencies(KERNEL_PACKAGE)?;
    let kernel = kernel
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("Debian's package lists do not know {KERNEL_PACKAGE}"))?;
    let headers = kernel.replace("-image-", "-headers-");
    // What else they depend on is compilers, which are installed.
    let parts = |name: &String| {
        ["linux-headers-", "linux-kbuild-"]
            .iter()
            .any(|p| name.starts_with(p))
    };
    let more = dependencies(&headers)?.into_iter().filter(parts);
    let mut packages = vec![BUSYBOX_PACKAGE.to_owned(), kernel, headers.clone()];
    packages.extend(more);
    Ok(packages)
}

fn dependencies(package: &str) -> Result<Vec<String>> {
    let mut apt = Command::new("apt-cache");
    let output = apt.args(["depends", package]).output();
    let text = String::from_utf8(output.context("running apt-cache")?.stdout)?;
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(names.map(str::to_owned).collect())
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
