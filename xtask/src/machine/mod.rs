//! The machines that a guest can be started on, each an emulator with its
//! options.

mod bochs;
mod kvm;
mod qemu;
mod turn;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde::Deserialize;
use turn::Turn;

/// A machine with a hardware-virtualisation vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// Intel VT-x, emulated by Bochs
    Vtx,
    /// AMD-V, emulated by QEMU
    Svm,
    /// This computer's own CPU through KVM, where guests get VT-x or AMD-V
    Kvm,
}

/// What Bochs' debugger is told if nothing is to be debugged.
pub const GO_ON: &str = "c\n";

/// What a machine is made of.
pub struct Spec<'a> {
    /// How many CPUs it has.
    pub cpus: u32,
    /// Its memory, in MiB.
    pub memory: u32,
    /// The disk: a FAT file system without partitions.
    pub disk: &'a Path,
    /// A second disk.
    pub scratch: Option<&'a Path>,
    /// A folder for the emulator's own files.
    pub dir: &'a Path,
    /// The far ends of COM1, COM2 and COM3.
    pub serial: [String; 3],
    /// The emulator's CPU model, if not the usual one.
    pub cpu: Option<&'a str>,
    /// What Bochs' debugger is told: a command a line.
    pub debugger: &'a str,
    /// More arguments for the emulator: QEMU's own, or lines of Bochs'
    /// configuration.
    pub arguments: &'a [String],
}

impl Machine {
    /// KVM where guests get virtualisation from it, else AMD-V in QEMU.
    pub fn best() -> Self {
        if kvm::offers_virtualisation() {
            Self::Kvm
        } else {
            Self::Svm
        }
    }

    /// The machine itself, or an error if this computer lacks what it needs.
    pub fn usable(self) -> Result<Self> {
        ensure!(
            self != Self::Kvm || kvm::offers_virtualisation(),
            "--machine kvm: KVM is not usable here, or gives its guests no virtualisation \
             (/dev/kvm must be yours to open, and kvm_intel or kvm_amd loaded with nested=1); \
             svm and vtx are emulated and work everywhere"
        );
        Ok(self)
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vtx => "vtx",
            Self::Svm => "svm",
            Self::Kvm => "kvm",
        }
    }

    /// What it is, for a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Vtx => "Intel VT-x, emulated by Bochs",
            Self::Svm => "AMD-V, emulated by QEMU",
            Self::Kvm => "this computer's CPU through KVM",
        }
    }

    /// Seconds within which a guest boots and does something short, with room
    /// for a busy computer.
    pub const fn patience(self) -> u64 {
        match self {
            Self::Vtx => 600,
            Self::Svm => 180,
            Self::Kvm => 120,
        }
    }

    /// Whether its firmware has ACPI tables. OVMF takes them from QEMU.
    pub const fn has_tables(self) -> bool {
        !matches!(self, Self::Vtx)
    }

    /// Whether the emulator ended because the guest switched the machine off, by
    /// what it said. QEMU says nothing.
    pub fn was_switched_off(self, said: &[u8]) -> bool {
        self == Self::Vtx && bochs::was_switched_off(said)
    }

    /// What makes a reset boot again instead of ending the emulator.
    pub fn boots_again(self) -> Vec<String> {
        match self {
            Self::Vtx => Vec::new(),
            Self::Svm | Self::Kvm => ["-action", "reboot=reset"].map(str::to_owned).to_vec(),
        }
    }

    /// Parameters that Linux needs on this machine with CPU model `cpu`. QEMU's
    /// clock goes on while a busy machine keeps its CPUs waiting: Linux would
    /// find its timer dead, as it knows of the virtual machines that it knows.
    pub fn kernel_parameters(self, cpu: Option<&str>) -> Vec<String> {
        match self {
            Self::Vtx => bochs::kernel_parameters(cpu),
            Self::Svm | Self::Kvm => vec!["no_timer_check".to_owned()],
        }
    }

    /// The right to start the emulator now, where starts must not coincide.
    pub fn turn(self, dir: &Path) -> Result<Option<Turn>> {
        match self {
            Self::Vtx => Turn::take(dir).map(Some),
            Self::Svm | Self::Kvm => Ok(None),
        }
    }

    /// The command that starts the emulator.
    pub fn command(self, spec: &Spec<'_>) -> Result<Command> {
        match self {
            Self::Vtx => bochs::command(spec),
            Self::Svm => qemu::command(spec, "tcg", "EPYC,+svm,+npt,-hypervisor,tcg-cpuid=off"),
            Self::Kvm => qemu::command(spec, "kvm", "host"),
        }
    }
}
