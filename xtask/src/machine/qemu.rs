//! QEMU: UEFI from two flash chips, the disk on AHCI's place, nothing else.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Spec;

const CODE: &str = "/usr/share/OVMF/OVMF_CODE.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS.fd";
const CODE_4M: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES_4M: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// QEMU with accelerator `accelerator` and CPU `cpu`, unless `spec` has its
/// own.
pub fn command(spec: &Spec<'_>, accelerator: &str, cpu: &str) -> Result<Command> {
    // Debian 13 has only the larger firmware.
    let old = fs::exists(CODE)?;
    let (code, template) = if old {
        (CODE, VARIABLES)
    } else {
        (CODE_4M, VARIABLES_4M)
    };
    let variables = spec.dir.join("variables.fd");
    fs::copy(template, &variables).context("copying the firmware's variables")?;

    let mut qemu = Command::new("qemu-system-x86_64");
    // Of several accelerators it takes the first that works.
    if !spec.arguments.iter().any(|argument| argument == "-accel") {
        qemu.args(["-accel", accelerator]);
    }
    qemu.args(["-cpu", spec.cpu.unwrap_or(cpu)]);
    qemu.args(["-smp", &spec.cpus.to_string()]);
    qemu.args(["-m", &spec.memory.to_string()]);
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu.args(["-display", "none", "-vga", "none", "-net", "none"]);
    qemu.arg("-drive");
    qemu.arg(format!(
        "if=pflash,unit=0,format=raw,readonly=on,file={code}"
    ));
    qemu.arg("-drive");
    qemu.arg(format!(
        "if=pflash,unit=1,format=raw,file={}",
        comma_safe(&variables.display().to_string())
    ));
    for (index, disk) in [Some(spec.disk), spec.scratch].iter().flatten().enumerate() {
        qemu.arg("-drive");
        qemu.arg(format!(
            "if=ide,index={index},media=disk,format=raw,file={}",
            comma_safe(&disk.display().to_string())
        ));
    }
    for (number, line) in spec.serial.iter().enumerate() {
        qemu.arg("-chardev");
        qemu.arg(format!("serial,id=com{number},path={line}"));
        qemu.args(["-serial", &format!("chardev:com{number}")]);
    }
    qemu.args(spec.arguments);
    Ok(qemu)
}

/// In QEMU's options a comma is doubled.
fn comma_safe(text: &str) -> String {
    text.replace(',', ",,")
}
