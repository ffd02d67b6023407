//! The command line.

use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` says.
pub const HELP: &str = "\
Boots a Linux kernel in a VM beneath Underlay, with a serial console on your
terminal. Ctrl-A X leaves it. You have to be root, and Underlay's config has to
say `pool = SIZE`.

Usage: underlay-run --kernel FILE [OPTIONS]

  --kernel FILE   the kernel, a bzImage
  --initrd FILE   its first file system
  --append TEXT   more of its command line, behind `console=ttyS0 panic=-1`
  --name NAME     what `underlayctl vm list` calls it [linux]
  --cpus N        how many vCPUs it has, 1 to 8 [1]
  --memory MIB    its memory, 64 to 3072 [128]
  --disk FILE     a disk, /dev/vda in the VM
  --net TAP       a network interface, eth0 in the VM, whose wire ends at this tap
                  device of yours; its address follows from the VM's name
  --help          this text

Its exit status is 0 when the VM switched itself off or you left it, 1 if it could
not be started, 2 for a wrong command line, 3 when it asked to be reset, 4 when it
crashed, and 128 and a signal's number when that ended it.

Examples:
  underlay-run --kernel vmlinuz --initrd initrd.img
      a VM of 128 MiB
  underlay-run --kernel vmlinuz --initrd initrd.img --cpus 2 --memory 256 \\
      --append 'quiet rdinit=/bin/sh'
      a larger one that starts a shell
  underlay-run --name other --kernel vmlinuz --disk disk.img --append root=/dev/vda
      one beside it, from a disk
  tunctl -t tap0 && ifconfig tap0 10.0.0.1 up
  underlay-run --kernel vmlinuz --initrd initrd.img --net tap0
      one that reaches you at 10.0.0.1 once it has said
      `ifconfig eth0 10.0.0.2 up`; `modprobe tun` if there is no /dev/net/tun
";

/// A VM that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// How many vCPUs it has.
    pub cpus: u8,
    /// Its memory in MiB.
    pub memory: u64,
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initrd's.
    pub initrd: Option<PathBuf>,
    /// More of the command line.
    pub append: String,
    /// The disk's file.
    pub disk: Option<PathBuf>,
    /// The tap device of its network interface.
    pub net: Option<String>,
}

impl Options {
    /// Understands `arguments`; None if help is wanted.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self {
            name: "linux".to_owned(),
            cpus: 1,
            memory: 128,
            kernel: PathBuf::new(),
            initrd: None,
            append: String::new(),
            disk: None,
            net: None,
        };
        let mut parser = lexopt::Parser::from_iter(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("name") => options.name = parser.value()?.string()?,
                Long("cpus") => options.cpus = parser.value()?.parse()?,
                Long("memory") => options.memory = parser.value()?.parse()?,
                Long("kernel") => options.kernel = parser.value()?.into(),
                Long("initrd") => options.initrd = Some(parser.value()?.into()),
                Long("append") => options.append = parser.value()?.string()?,
                Long("disk") => options.disk = Some(parser.value()?.into()),
                Long("net") => options.net = Some(parser.value()?.string()?),
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        options.check().map_err(lexopt::Error::from)?;
        Ok(Some(options))
    }

    fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(what.to_owned());
        match self {
            _ if self.kernel.as_os_str().is_empty() => wrong("--kernel is missing"),
            _ if !(1..=8).contains(&self.cpus) => wrong("--cpus is 1 to 8"),
            _ if !(64..=3072).contains(&self.memory) => wrong("--memory is 64 to 3072"),
            _ => Ok(()),
        }
    }

    /// The kernel's whole command line. The time-stamp counter is the machine's:
    /// its rate is known, and it is the only clock.
    pub fn command_line(&self, ticks_per_second: u64) -> String {
        let rate = ticks_per_second / 1000;
        let own = format!("console=ttyS0 panic=-1 tsc=reliable tsc_early_khz={rate}");
        format!("{own} {}", self.append).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, lexopt::Error> {
        let words = ["underlay-run"].into_iter().chain(line.split_whitespace());
        Options::parse(words.map(OsString::from))
    }

    #[test]
    fn options_are_what_they_say() {
        let line =
            "--kernel k --initrd=i --cpus 2 --memory 64 --name n --append a=1 --disk d --net t";
        let options = parse(line).unwrap().unwrap();
        assert_eq!(
            (options.cpus, options.memory, options.name.as_str()),
            (2, 64, "n")
        );
        assert_eq!(options.initrd, Some(PathBuf::from("i")));
        assert_eq!(options.disk, Some(PathBuf::from("d")));
        assert_eq!(options.net.as_deref(), Some("t"));
        assert!(
            options
                .command_line(50_000_000)
                .ends_with("tsc_early_khz=50000 a=1")
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in [
            "",
            "--kernel k --cpus 0",
            "--kernel k --memory 63",
            "--kernel k x",
            "--what",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(parse("--help").unwrap(), None);
    }
}
