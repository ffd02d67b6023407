//! The guest's first file system: busybox, our programs, and an init that
//! runs a command or gives a shell. A second archive behind it carries the
//! command; Linux unpacks both.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cpio::newc::{Builder, trailer};

use crate::linux::Entry;

const INIT: &str = include_str!("guest/init.sh");
const PROFILE: &str = include_str!("guest/profile.sh");

/// Programs of the guest's own shell, which boot Linux in a VM of the guest's.
const SCRIPTS: [(&str, &str); 2] = [
    ("child-initrd", include_str!("guest/child-initrd.sh")),
    ("child-linux", include_str!("guest/child-linux.sh")),
];

/// Who there is: root, and one who is not.
const USERS: &str = "\
root:x:0:0::/root:/bin/sh
somebody:x:1000:1000::/tmp:/bin/sh
";

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// All of them, each behind the one that it is in.
const FOLDERS: [&str; 11] = [
    "bin",
    "dev",
    "etc",
    "lib",
    "lib/child",
    "lib/modules",
    "proc",
    "root",
    "root/examples",
    "run",
    "sys",
];

/// What goes into the archive.
pub struct Contents<'a> {
    /// Debian's static busybox.
    pub busybox: &'a Path,
    /// What is ours.
    pub files: &'a [&'a Entry],
    /// Drivers that init loads, in this order.
    pub drivers: &'a [PathBuf],
    /// What to run instead of a shell.
    pub exec: Option<&'a str>,
    /// What to run before the machine is switched off.
    pub at_end: Option<&'a str>,
}

/// The archive's bytes.
pub fn build(contents: &Contents<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in FOLDERS {
        archive.entry(dir, DIRECTORY | 0o755, b"")?;
    }
    archive.entry("tmp", DIRECTORY | 0o1777, b"")?;
    // The kernel opens it for init before anything is mounted.
    archive.console()?;
    archive.entry("bin/busybox", FILE | 0o755, &read(contents.busybox)?)?;
    for applet in applets(contents.busybox)? {
        archive.entry(&format!("bin/{applet}"), LINK | 0o777, b"busybox")?;
    }
    for Entry { name, file } in contents.files {
        archive.entry(name, FILE | 0o755, &read(file)?)?;
    }
    for (number, driver) in contents.drivers.iter().enumerate() {
        let name = format!("lib/driver-{number}.ko");
        archive.entry(&name, FILE | 0o644, &read(driver)?)?;
    }
    archive.entry("etc/passwd", FILE | 0o644, USERS.as_bytes())?;
    archive.entry("etc/profile", FILE | 0o644, PROFILE.as_bytes())?;
    archive.entry("init", FILE | 0o755, INIT.as_bytes())?;
    for (name, script) in SCRIPTS {
        archive.entry(&format!("bin/{name}"), FILE | 0o755, script.as_bytes())?;
    }
    let scripts = [("exec", contents.exec), ("at-end", contents.at_end)];
    for (name, command) in scripts {
        if let Some(command) = command {
            archive.entry(name, FILE | 0o644, format!("{command}\n").as_bytes())?;
        }
    }
    Ok(trailer(archive.bytes)?)
}

/// Two archives, one behind the other, at the alignment that Linux expects.
pub fn concatenate(mut first: Vec<u8>, second: &[u8]) -> Vec<u8> {
    first.resize(first.len().next_multiple_of(4), 0);
    first.extend_from_slice(second);
    first
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        let builder = self.builder(name).mode(mode);
        self.write(builder, data)
    }

    fn console(&mut self) -> io::Result<()> {
        let builder = self.builder("dev/console").mode(CHARACTER_DEVICE | 0o600);
        self.write(builder.rdev_major(5).rdev_minor(1), b"")
    }

    fn builder(&mut self, name: &str) -> Builder {
        self.inode += 1;
        Builder::new(name).ino(self.inode).nlink(1)
    }

    fn write(&mut self, builder: Builder, data: &[u8]) -> io::Result<()> {
        let size = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut entry = builder.write(&mut self.bytes, size);
        io::Write::write_all(&mut entry, data)?;
        entry.finish().map(|_| ())
    }
}

fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output = Command::new(busybox).arg("--list").output();
    let output = output.with_context(|| format!("running {}", busybox.display()))?;
    ensure!(output.status.success(), "busybox --list failed");
    let names = String::from_utf8(output.stdout)?;
    let names = names.lines().map(str::to_owned);
    Ok(names.filter(|n| n != "busybox").collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_can_be_read_back() {
        let mut archive = Archive::default();
        archive.entry("bin", DIRECTORY | 0o755, b"").unwrap();
        archive.console().unwrap();
        archive.entry("exec", FILE | 0o644, b"exit 3\n").unwrap();
        let bytes = trailer(archive.bytes).unwrap();
        let mut rest = bytes.as_slice();
        let mut names = Vec::new();
        loop {
            let reader = cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish().unwrap();
        }
        assert_eq!(names, ["bin", "dev/console", "exec"]);
    }

    #[test]
    fn the_second_archive_is_aligned() {
        let both = concatenate(vec![1; 5], &[2; 3]);
        assert_eq!(both, [1, 1, 1, 1, 1, 0, 0, 0, 2, 2, 2]);
    }
}
