//! Bochs: its configuration is a file, its debugger must be told to go on.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Spec;
use crate::esp;
use crate::session::EMULATOR_LOG;

/// Has VMX with EPT, VPID and unrestricted guest.
const CPU: &str = "corei7_skylake_x";
/// Emulated instructions per second of the guest's time; the time-stamp
/// counter runs at this rate.
const INSTRUCTIONS_PER_SECOND: u64 = 50_000_000;
/// Guests always start at this time (seconds since 1970), so that two runs do
/// the same.
const CLOCK: u64 = 1_767_225_600;

/// Idle by HLT: with several CPUs and MWAIT the boot crawls. No tests of the
/// kernel's ciphers: they take two thirds of its boot. CPUID announces another
/// rate of the time-stamp counter than Bochs has.
pub fn kernel_parameters(cpu: Option<&str>) -> Vec<String> {
    let mut parameters = ["idle=halt", "cryptomgr.notests=1"]
        .map(str::to_owned)
        .to_vec();
    if cpu.unwrap_or(CPU).contains("skylake") {
        let khz = INSTRUCTIONS_PER_SECOND / 1000;
        parameters.push(format!("tsc_early_khz={khz}"));
    }
    parameters
}

/// Bochs ends with a panic when its guest switches it off.
pub fn was_switched_off(said: &[u8]) -> bool {
    String::from_utf8_lossy(said).contains("ACPI control: soft power off")
}

/// Bochs with its configuration written to `spec.dir`.
pub fn command(spec: &Spec<'_>) -> Result<Command> {
    let configuration = spec.dir.join("bochsrc");
    let debugger = spec.dir.join("debugger");
    fs::write(&configuration, text(spec)?).context("writing Bochs' configuration")?;
    fs::write(&debugger, spec.debugger)?;
    let mut bochs = Command::new("bochs-bin");
    bochs.arg("-q").arg("-f").arg(configuration);
    bochs.arg("-rc").arg(debugger);
    Ok(bochs)
}

fn text(spec: &Spec<'_>) -> Result<String> {
    let log = spec.dir.join(EMULATOR_LOG);
    let mut lines = vec![
        format!(
            "cpu: model={}, count={}, ips={INSTRUCTIONS_PER_SECOND}, \
             reset_on_triple_fault=0, ignore_bad_msrs=1",
            spec.cpu.unwrap_or(CPU),
            spec.cpus
        ),
        format!("memory: guest={0}, host={0}", spec.memory),
        "romimage: file=/usr/share/ovmf/OVMF.fd".to_owned(),
        "vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest".to_owned(),
        "pci: enabled=1, chipset=i440fx".to_owned(),
        // The only display that needs neither a screen nor a terminal: it waits
        // for a VNC viewer that may never come.
        "display_library: rfb, options=\"timeout=0\"".to_owned(),
        "sound: driver=dummy".to_owned(),
        "boot: disk".to_owned(),
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14".to_owned(),
        disk("ata0-master", spec.disk)?,
        format!("clock: sync=none, time0={CLOCK}"),
        "port_e9_hack: enabled=1".to_owned(),
        format!("log: \"{}\"", log.display()),
        "panic: action=fatal".to_owned(),
        "error: action=report".to_owned(),
        "info: action=report".to_owned(),
        "debug: action=ignore".to_owned(),
        "magic_break: enabled=0".to_owned(),
    ];
    for (index, line) in spec.serial.iter().enumerate() {
        let number = index + 1;
        lines.push(format!("com{number}: enabled=1, mode=term, dev={line}"));
    }
    if let Some(scratch) = spec.scratch {
        lines.push(disk("ata0-slave", scratch)?);
    }
    lines.extend(spec.arguments.iter().cloned());
    Ok(lines.join("\n") + "\n")
}

fn disk(place: &str, file: &Path) -> Result<String> {
    let path = file.display().to_string();
    ensure!(!path.contains([',', '"']), "Bochs cannot open `{path}`");
    Ok(format!(
        "{place}: type=disk, path=\"{path}\", mode=flat, \
         cylinders={}, heads={}, spt={}",
        esp::cylinders(fs::metadata(file)?.len()),
        esp::HEADS,
        esp::SECTORS
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_off_is_told_from_other_panics() {
        let off = b"02475989796p[ACPI  ] >>PANIC<< ACPI control: soft power off\n";
        assert!(was_switched_off(off));
        let other = b"00000000000p[HD    ] >>PANIC<< ata0-0: could not open hard drive image\n";
        assert!(!was_switched_off(other));
    }
}
