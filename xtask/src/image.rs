//! `cargo xtask image`: a disk image for a real machine's USB stick.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::EFI;

use crate::artefacts;
use crate::conf;
use crate::esp::{self, Esp};
use crate::given;
use crate::paths;
use crate::setup;
use crate::stage;

/// Make a bootable disk image for a real machine's USB stick.
///
/// The machine boots from the stick, Underlay goes beneath it, and the
/// firmware goes on to its next boot entry.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask image --out underlay.img")]
pub struct Args {
    /// The image to write
    #[arg(long, value_name = "P")]
    out: PathBuf,
    /// Set a key of underlay.conf; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = conf::parse_pair)]
    conf: Vec<(String, String)>,
}

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// `cargo xtask image`.
pub fn command(args: &Args) -> Result<u8> {
    let template = stage::template()?;
    given::folder_of("--out", &args.out)?;
    conf::check(&template, &args.conf)?;
    setup::ensure()?;
    let artefacts = artefacts::build(true)?;
    let mut files = Esp::default();
    files.add_file("EFI/BOOT/BOOTX64.EFI", &artefacts.loader)?;
    files.add_file("EFI/underlay/underlay.elf", &artefacts.hypervisor)?;
    let mut text = conf::set(&template, "next", "firmware");
    for (key, value) in &args.conf {
        text = conf::set(&text, key, value);
    }
    files.add("EFI/underlay/underlay.conf", text.into_bytes());

    let partition = paths::underlay().join("esp.img");
    files.write(&partition, esp::SMALL_CLUSTER)?;
    write_disk(&args.out, &partition).with_context(|| format!("writing {}", args.out.display()))?;
    fs::remove_file(&partition)?;
    print!("{}", instructions(&args.out));
    Ok(0)
}

/// A GPT with one partition, which holds what `partition` holds.
fn write_disk(out: &Path, partition: &Path) -> Result<()> {
    let mut content = File::open(partition)?;
    let size = content.metadata()?.len().next_multiple_of(MIB);
    let whole = size + 2 * MIB;
    let mut disk = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(out)?;
    disk.set_len(whole)?;
    let last = u32::try_from(whole / SECTOR - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(last).overwrite_lba0(&mut disk)?;

    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(disk, None)?;
    let number = table.add_partition("UNDERLAY", size, EFI, 0, Some(MIB / SECTOR))?;
    let first = table.partitions().get(&number);
    let first = first.context("the new partition")?.first_lba;
    let mut disk = table.write()?;
    disk.seek(SeekFrom::Start(first * SECTOR))?;
    copy_sparsely(&mut content, &mut disk)
}

/// Copies, and leaves holes where there are zeros.
fn copy_sparsely(from: &mut File, to: &mut File) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        if buffer[..count].iter().all(|&byte| byte == 0) {
            to.seek(SeekFrom::Current(i64::try_from(count)?))?;
        } else {
            to.write_all(&buffer[..count])?;
        }
    }
}

fn instructions(out: &Path) -> String {
    let out = out.display();
    format!(
        "\
{out} is ready. To try it on a real machine:

1. Plug in a USB stick whose contents you can lose, and find its name:
       lsblk -o NAME,SIZE,MODEL,TRAN
   It is the one with TRAN `usb` and the stick's size, such as sdb. Check it
   twice: the next command overwrites that device.
2. Write the image to the whole device, not to a partition of it:
       sudo dd if={out} of=/dev/sdX bs=4M conv=fsync status=progress
3. In the machine's firmware set-up switch on virtualisation (VT-x, or SVM) and
   switch off Secure Boot: the loader is not signed.
4. Boot from the stick (often F12 or F11 when the machine starts). Underlay says
   on the screen what it does; then the firmware's next boot entry starts, your
   operating system. If Underlay cannot run there, it says why and boots on.
5. The settings are in EFI/underlay/underlay.conf on the stick, explained there.
   Without the stick the machine starts as before; nothing is installed on it.
"
    )
}
