//! What lies on the disk of a machine: loader, hypervisor, their config, and
//! what boots next.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::artefacts::Artefacts;
use crate::conf;
use crate::esp::Esp;
use crate::initramfs;
use crate::linux::Entry;
use crate::machine::Machine;
use crate::paths;
use crate::setup::Guest;

/// Where the kernel is on the disk.
const KERNEL: &str = r"\vmlinuz.efi";
/// Where its starter is.
const STARTER: &str = r"\starter.efi";
/// What boots Linux in a VM of the guest's, what that takes, and the folder of the
/// VM's drivers.
const BOOTS_CHILD: &str = "child-linux";
const FOR_CHILDREN: [&str; 3] = ["underlay-run", "vmlinuz.efi", "tun.ko"];
const CHILD_DRIVERS: &str = "lib/child";

/// What boots behind the loader.
pub enum Boot {
    /// Debian's kernel or another, with our initramfs or another.
    Linux {
        /// Instead of Debian's.
        kernel: Option<PathBuf>,
        /// An EFI program that starts the kernel, instead of the loader.
        starter: Option<PathBuf>,
        /// Instead of ours, or before it if there is a command.
        initrd: Option<PathBuf>,
        /// More kernel parameters.
        append: String,
        /// Runs instead of a shell.
        exec: Option<String>,
        /// Runs before the machine is switched off.
        at_end: Option<String>,
    },
    /// An EFI program.
    Efi {
        /// Its file.
        program: PathBuf,
        /// Its command line.
        arguments: String,
    },
}

impl Boot {
    /// Debian's kernel that runs `command`.
    pub fn exec(command: &str) -> Self {
        Self::Linux {
            kernel: None,
            starter: None,
            initrd: None,
            append: String::new(),
            exec: Some(command.to_owned()),
            at_end: None,
        }
    }
}

/// What is done to the hypervisor's file, for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// Nothing.
    #[default]
    None,
    /// One byte in its middle is changed.
    FlippedByte,
    /// It is not there.
    Missing,
    /// It is the build that has services which break it.
    Breakable,
}

/// Everything that decides what is on the disk.
pub struct Stage {
    /// The machine that it is for.
    pub machine: Machine,
    /// `enabled = no`.
    pub native: bool,
    /// More settings.
    pub conf: Vec<(String, String)>,
    /// What the firmware starts, if not the loader.
    pub first: Option<PathBuf>,
    /// Harm done to the hypervisor's file.
    pub damage: Damage,
    /// The machine's CPU model, if not the usual one.
    pub cpu: Option<String>,
    /// Whether Linux gets drivers for its disks.
    pub drives_disks: bool,
    /// What boots next.
    pub boot: Boot,
}

impl Stage {
    /// The disk's files.
    pub fn esp(&self, artefacts: &Artefacts, guest: &Guest) -> Result<Esp> {
        let mut esp = Esp::default();
        let (next, arguments) = match &self.boot {
            Boot::Linux { .. } => self.add_linux(&mut esp, artefacts, guest)?,
            Boot::Efi { program, arguments } => {
                esp.add_file("guest.efi", program)?;
                (r"\guest.efi", arguments.clone())
            }
        };
        esp.add_file("EFI/BOOT/BOOTX64.EFI", self.first(artefacts))?;
        esp.add_file("EFI/underlay/underlay.efi", &artefacts.loader)?;
        if let Some(bytes) = self.hypervisor(artefacts)? {
            esp.add("EFI/underlay/underlay.elf", bytes);
        }
        let mut text = template()?;
        let mut settings = vec![("next".to_owned(), next.to_owned())];
        settings.push(("next_args".to_owned(), arguments));
        if self.native {
            settings.push(("enabled".to_owned(), "no".to_owned()));
        }
        for (key, value) in settings.iter().chain(&self.conf) {
            text = conf::set(&text, key, value);
        }
        esp.add("EFI/underlay/underlay.conf", text.into_bytes());
        Ok(esp)
    }

    /// Whether the firmware is given ACPI tables before the loader starts, with
    /// Underlay and without. Linux wants them; test guests know what is there.
    pub fn gives_tables(&self) -> bool {
        let is_linux = matches!(self.boot, Boot::Linux { .. });
        is_linux && !self.machine.has_tables() && self.first.is_none()
    }

    /// Whether the guest's power-off ends the emulator.
    pub fn powers_off(&self) -> bool {
        self.machine.has_tables() || self.gives_tables()
    }

    fn first<'a>(&'a self, artefacts: &'a Artefacts) -> &'a Path {
        match &self.first {
            Some(first) => first,
            None if self.gives_tables() => &artefacts.firmware_tables,
            None => &artefacts.loader,
        }
    }

    fn add_linux(
        &self,
        esp: &mut Esp,
        artefacts: &Artefacts,
        guest: &Guest,
    ) -> Result<(&'static str, String)> {
        let Boot::Linux {
            kernel,
            starter,
            initrd,
            append,
            exec,
            at_end,
        } = &self.boot
        else {
            return Ok((KERNEL, String::new()));
        };
        esp.add_file("vmlinuz.efi", kernel.as_deref().unwrap_or(&guest.kernel))?;
        if let Some(starter) = starter {
            esp.add_file("starter.efi", starter)?;
        }
        let mut files: Vec<&Entry> = artefacts.linux.iter().collect();
        let own = for_children(guest);
        let on_demand = artefacts.call_tests.iter().chain(&own);
        files.extend(on_demand.filter(|file| self.is_wanted(file, exec.as_deref())));
        let ours = initramfs::build(&initramfs::Contents {
            busybox: &guest.busybox,
            files: &files,
            drivers: if self.drives_disks {
                &guest.drivers
            } else {
                &[]
            },
            exec: exec.as_deref(),
            at_end: at_end.as_deref(),
        })?;
        let archive = match initrd {
            None => ours,
            Some(path) => {
                let theirs =
                    fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                if exec.is_some() {
                    initramfs::concatenate(theirs, &ours)
                } else {
                    theirs
                }
            }
        };
        esp.add("initrd.img", archive);
        let ours_is_init = initrd.is_none() || exec.is_some();
        let next = starter.as_ref().map_or(KERNEL, |_| STARTER);
        Ok((next, self.kernel_line(ours_is_init, append)))
    }

    /// Whether `command` names `file`, or VMs of the guest's need it, which the
    /// command boots or a person may: all files would make every boot longer.
    fn is_wanted(&self, file: &Entry, command: Option<&str>) -> bool {
        let (folder, name) = file.name.rsplit_once('/').unwrap_or_default();
        let is_for_children = folder == CHILD_DRIVERS || FOR_CHILDREN.contains(&name);
        match command {
            Some(command) => {
                command.contains(name) || is_for_children && command.contains(BOOTS_CHILD)
            }
            None => is_for_children && self.conf.iter().any(|(key, _)| key == "pool"),
        }
    }

    fn kernel_line(&self, ours_is_init: bool, append: &str) -> String {
        let mut words = vec![r"initrd=\initrd.img".to_owned()];
        if ours_is_init {
            words.push("rdinit=/init".to_owned());
        }
        words.push("console=ttyS0,115200".to_owned());
        words.push("panic=-1".to_owned());
        words.extend(self.machine.kernel_parameters(self.cpu.as_deref()));
        if !append.is_empty() {
            words.push(append.to_owned());
        }
        words.join(" ")
    }

    fn hypervisor(&self, artefacts: &Artefacts) -> Result<Option<Vec<u8>>> {
        if self.native || self.damage == Damage::Missing {
            return Ok(None);
        }
        let file = match self.damage {
            Damage::Breakable => &artefacts.breakable,
            _ => &artefacts.hypervisor,
        };
        let mut bytes = fs::read(file).context("reading the hypervisor")?;
        if self.damage == Damage::FlippedByte {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }
        Ok(Some(bytes))
    }
}

/// The kernel and drivers for a VM of the guest's, and the guest's for its network.
fn for_children(guest: &Guest) -> Vec<Entry> {
    let entry = |folder: &str, file: &PathBuf| Entry {
        name: format!(
            "{folder}/{}",
            file.file_name().unwrap_or_default().display()
        ),
        file: file.clone(),
    };
    let drivers = guest.child_drivers.iter();
    let mut entries: Vec<_> = drivers.map(|file| entry(CHILD_DRIVERS, file)).collect();
    entries.push(entry("root", &guest.kernel));
    entries.push(entry("lib/modules", &guest.tap_driver));
    entries
}

/// The config file as it ships.
pub fn template() -> Result<String> {
    let path = paths::workspace().join("loader/underlay.conf");
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gives_tables(machine: Machine, first: Option<&str>, boot: Boot) -> bool {
        let stage = Stage {
            machine,
            native: true,
            conf: Vec::new(),
            first: first.map(PathBuf::from),
            damage: Damage::None,
            cpu: None,
            drives_disks: false,
            boot,
        };
        stage.gives_tables()
    }

    #[test]
    fn linux_gets_tables_where_the_firmware_has_none() {
        let linux = || Boot::exec("true");
        assert!(gives_tables(Machine::Vtx, None, linux()));
        assert!(!gives_tables(Machine::Svm, None, linux()));
        assert!(!gives_tables(Machine::Kvm, None, linux()));
        assert!(!gives_tables(Machine::Vtx, Some("a.efi"), linux()));
        let guest = Boot::Efi {
            program: PathBuf::from("a.efi"),
            arguments: String::new(),
        };
        assert!(!gives_tables(Machine::Vtx, None, guest));
    }
}
