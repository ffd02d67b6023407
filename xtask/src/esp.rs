//! The EFI system partition: a set of files, and a FAT file system made of it
//! with mtools.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;

/// The geometry that BIOS-minded emulators expect of a disk.
pub const HEADS: u64 = 16;
pub const SECTORS: u64 = 63;
const SECTOR: u64 = 512;
const CYLINDER: u64 = HEADS * SECTORS * SECTOR;

/// FAT32 begins at 65525 clusters.
const CLUSTERS_MIN: u64 = 66_000;
/// Bytes of a cluster that keep the firmware's walk along a large file short;
/// the image is large, but sparse.
pub const FAST_CLUSTER: u64 = 4096;
/// Bytes of a cluster that keep the image small.
pub const SMALL_CLUSTER: u64 = 512;

/// Files by their path on the ESP, with `/`.
#[derive(Default)]
pub struct Esp(Vec<(String, Vec<u8>)>);

impl Esp {
    /// Adds `bytes` as `path`.
    pub fn add(&mut self, path: &str, bytes: Vec<u8>) {
        self.0.push((path.to_owned(), bytes));
    }

    /// Adds a copy of `file` as `path`.
    pub fn add_file(&mut self, path: &str, file: &Path) -> Result<()> {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        self.add(path, bytes);
        Ok(())
    }

    /// Writes the file system, with clusters of `cluster` bytes, to the file
    /// `image`, with a folder beside it for the while.
    pub fn write(&self, image: &Path, cluster: u64) -> Result<()> {
        let used: u64 = self.0.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let wanted = (used + used / 8).max(CLUSTERS_MIN * cluster) + CYLINDER;
        let cylinders = make_disk(image, wanted)?;
        let image = image.display().to_string();
        mtools(Command::new("mformat").args([
            "-i",
            &image,
            "-F",
            "-c",
            &(cluster / SECTOR).to_string(),
            "-t",
            &cylinders.to_string(),
            "-h",
            &HEADS.to_string(),
            "-s",
            &SECTORS.to_string(),
            "-v",
            "UNDERLAY",
            "::",
        ]))?;
        self.copy_into(&image)
    }

    fn copy_into(&self, image: &str) -> Result<()> {
        let stage = Path::new(image).with_extension("files");
        paths::empty_dir(&stage)?;
        for (path, bytes) in &self.0 {
            let file = stage.join(path);
            paths::create_dir(file.parent().unwrap_or(&stage))?;
            fs::write(&file, bytes)?;
        }
        let mut mcopy = Command::new("mcopy");
        mcopy.args(["-i", image, "-s", "-Q"]);
        for entry in fs::read_dir(&stage)? {
            mcopy.arg(entry?.path());
        }
        mtools(mcopy.arg("::/"))?;
        fs::remove_dir_all(&stage)?;
        Ok(())
    }
}

/// Makes an empty disk image with room for `size` bytes. Returns its cylinders.
pub fn make_disk(image: &Path, size: u64) -> Result<u64> {
    let cylinders = size.div_ceil(CYLINDER);
    File::create(image)
        .and_then(|file| file.set_len(cylinders * CYLINDER))
        .with_context(|| format!("making {}", image.display()))?;
    Ok(cylinders)
}

/// Cylinders of a disk image of `size` bytes.
pub fn cylinders(size: u64) -> u64 {
    size / CYLINDER
}

fn mtools(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.env("MTOOLS_SKIP_CHECK", "1").output();
    let output = output.with_context(|| format!("running {name}"))?;
    ensure!(
        output.status.success(),
        "{name} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
