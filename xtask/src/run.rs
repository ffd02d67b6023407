//! `cargo xtask run`: puts together a disk, starts a machine, and is its
//! console or runs one command in it.

use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::artefacts;
use crate::conf;
use crate::esp;
use crate::given;
use crate::machine::{GO_ON, Machine, Spec};
use crate::paths;
use crate::progress::Progress;
use crate::session::{self, Ending, Plan, Report};
use crate::setup;
use crate::stage::{self, Boot, Damage, Stage};
use crate::statistics;
use crate::transcript::{self, tail};

/// Start a machine with Underlay beneath Debian's kernel.
///
/// Without --exec your terminal is the guest's console; Ctrl-A X leaves.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask run
      a shell of a Debian kernel on Underlay, on an emulated AMD CPU
  cargo xtask run --machine vtx --exec 'underlayctl hello'
      one command on an emulated Intel CPU; its output and exit status are yours
  cargo xtask run --native --exec 'cat /proc/cpuinfo'
      the same machine without Underlay
  cargo xtask run --cpus 4 --exec nproc
      with more CPUs than two
  cargo xtask run --stats --exec true
      what a boot's exits were and what they cost
  cargo xtask run --conf log_level=debug --conf presence=bit
      with other settings in underlay.conf
  cargo xtask run --machine svm -- -d int
      with more arguments for QEMU (for Bochs: lines of its configuration)")]
pub struct Args {
    /// Which machine; auto is kvm where it is usable with nested
    /// virtualisation, else svm
    #[arg(long, default_value = "auto", value_parser = parse_machine, value_name = "auto|vtx|svm|kvm")]
    machine: Choice,
    /// How many CPUs it has
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Its memory in MiB, 256 to 16384
    #[arg(long, default_value_t = DEFAULT_MEMORY, value_parser = clap::value_parser!(u32).range(256..=16384), value_name = "MIB")]
    memory: u32,
    /// The same machine without Underlay
    #[arg(long, conflicts_with = "conf")]
    native: bool,
    /// This kernel instead of Debian's (a bzImage with EFI stub)
    #[arg(long, value_name = "P")]
    kernel: Option<PathBuf>,
    /// This initramfs instead of ours; with --exec ours is put behind it
    #[arg(long, value_name = "P")]
    initrd: Option<PathBuf>,
    /// More kernel parameters
    #[arg(long, value_name = "S")]
    append: Option<String>,
    /// This EFI program as the guest instead of Linux
    #[arg(long, value_name = "P", conflicts_with_all = ["kernel", "initrd", "append", "exec"])]
    efi: Option<PathBuf>,
    /// Its command line
    #[arg(long, value_name = "S", requires = "efi")]
    efi_args: Option<String>,
    /// Set a key of underlay.conf; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = conf::parse_pair)]
    conf: Vec<(String, String)>,
    /// Run one shell command in the guest, print its output, exit with its
    /// status (124 if time runs out, 125 if the machine ends without one)
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// At the end, show which exits there were and what they cost
    #[arg(long, conflicts_with_all = ["native", "efi"])]
    stats: bool,
    /// Have the trace written out at the end.
    #[arg(skip)]
    trace: bool,
    /// The file for the hypervisor's log
    #[arg(long, value_name = "P")]
    log: Option<PathBuf>,
    /// End after so many seconds [default with --exec: by machine]
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// More arguments for the emulator
    #[arg(last = true, value_name = "EMULATOR-ARGS")]
    emulator: Vec<String>,
}

/// Memory of a machine in MiB, if nobody says otherwise.
pub const DEFAULT_MEMORY: u32 = 1024;

/// `auto` or a machine.
#[derive(Clone, Copy)]
struct Choice(Option<Machine>);

fn parse_machine(name: &str) -> Result<Choice, String> {
    if name == "auto" {
        return Ok(Choice(None));
    }
    match <Machine as clap::ValueEnum>::from_str(name, false) {
        Ok(machine) => Ok(Choice(Some(machine))),
        Err(_) => Err("the machines are auto, vtx, svm and kvm".to_owned()),
    }
}

/// Exit status when time runs out, as with timeout(1).
const TIMED_OUT: u8 = 124;
/// Exit status when the machine ends without a result.
const NO_RESULT: u8 = 125;

/// `cargo xtask run`.
pub fn command(args: &Args) -> Result<u8> {
    run(args).map(|(_, status)| status)
}

impl Args {
    /// Makes it a run that writes a trace to the log at its end.
    pub fn trace(&mut self) -> Result<()> {
        ensure!(
            !self.native && self.efi.is_none(),
            "only Linux on Underlay can be traced: --native and --efi cannot"
        );
        let is_set = self.conf.iter().any(|(key, _)| key == "trace");
        if !is_set {
            self.conf.push(("trace".to_owned(), "on".to_owned()));
        }
        self.trace = true;
        Ok(())
    }

    /// What the guest does before the machine is switched off.
    fn at_end(&self) -> Option<String> {
        let commands = [
            (self.stats, "underlayctl stat write"),
            (self.trace, "underlayctl trace write"),
        ];
        let wanted = commands.iter().filter(|(wanted, _)| *wanted);
        let wanted: Vec<&str> = wanted.map(|(_, command)| *command).collect();
        (!wanted.is_empty()).then(|| wanted.join("; "))
    }
}

/// Runs a machine to its end: what it said, and the exit status for that.
pub fn run(args: &Args) -> Result<(Report, u8)> {
    check(args)?;
    let guest = setup::ensure()?;
    let machine = args
        .machine
        .0
        .map_or_else(|| Ok(Machine::best()), Machine::usable)?;
    let artefacts = artefacts::build(!args.native)?;
    let place = Place::make(machine, args.log.as_deref())?;
    let stage = Stage {
        machine,
        native: args.native,
        conf: args.conf.clone(),
        first: None,
        damage: Damage::None,
        cpu: None,
        drives_disks: false,
        boot: boot(args)?,
    };
    if stage.gives_tables() {
        artefacts::build_firmware_tables()?;
    }
    let disk = place.dir.join("disk.img");
    stage
        .esp(&artefacts, &guest)?
        .write(&disk, esp::FAST_CLUSTER)?;

    let wants_result = args.exec.is_some();
    let interactive = !wants_result;
    let progress = announce(args, machine, &place);
    let mut out = stdout();
    let report = session::run(Plan {
        machine,
        spec: Spec {
            cpus: args.cpus,
            memory: args.memory,
            disk: &disk,
            scratch: None,
            dir: &place.dir,
            serial: Default::default(),
            cpu: None,
            debugger: GO_ON,
            arguments: &args.emulator,
        },
        interactive,
        wants_result,
        powers_off: stage.powers_off(),
        at_end: args.at_end().is_some(),
        output: wants_result.then_some(&mut out as &mut dyn Write),
        ends_with: None,
        timeout: timeout(args, machine),
        console: place.console.clone(),
        log: place.log.clone(),
    });
    drop(progress);
    fs::remove_file(&disk)?;
    let report = report?;
    if wants_result && !args.native {
        note_refusal(&report);
    }
    let status = finish(&report, &place, machine, wants_result);
    if args.stats {
        say(&statistics::show(&report.log));
    }
    Ok((report, status))
}

/// What can be wrong with `args` beyond what clap finds.
fn check(args: &Args) -> Result<()> {
    conf::check(&stage::template()?, &args.conf)?;
    if let Some(kernel) = &args.kernel {
        given::efi_program("--kernel", kernel)?;
    }
    if let Some(initrd) = &args.initrd {
        given::file("--initrd", initrd)?;
    }
    if let Some(program) = &args.efi {
        given::efi_program("--efi", program)?;
    }
    args.log
        .as_deref()
        .map_or(Ok(()), |log| given::folder_of("--log", log))
}

fn boot(args: &Args) -> Result<Boot> {
    if let Some(program) = &args.efi {
        return Ok(Boot::Efi {
            program: program.clone(),
            arguments: args.efi_args.clone().unwrap_or_default(),
        });
    }
    Ok(Boot::Linux {
        kernel: args.kernel.clone(),
        starter: None,
        initrd: args.initrd.clone(),
        append: args.append.clone().unwrap_or_default(),
        exec: args.exec.clone(),
        at_end: args.at_end(),
    })
}

fn timeout(args: &Args, machine: Machine) -> Option<Duration> {
    let default = args.exec.is_some().then(|| machine.patience());
    args.timeout.or(default).map(Duration::from_secs)
}

fn announce(args: &Args, machine: Machine, place: &Place) -> Option<Progress> {
    let beneath = if args.native {
        "without Underlay"
    } else {
        "with Underlay"
    };
    let what = format!(
        "booting {} ({}) {beneath}",
        machine.name(),
        machine.sentence()
    );
    if args.exec.is_some() {
        return Some(Progress::start(what));
    }
    let _ = writeln!(
        stderr(),
        "{what}\nthe hypervisor's log: {}\nCtrl-A X leaves\n",
        paths::shown(&place.log)
    );
    None
}

/// A boot that went on without Underlay looks like any other.
fn note_refusal(report: &Report) {
    if let Some(why) = transcript::refusal(&report.console) {
        say(&format!("note: this boot was without Underlay: {why}"));
    }
}

/// A line on standard error; without a reader it is lost.
fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

fn finish(report: &Report, place: &Place, machine: Machine, wants_result: bool) -> u8 {
    let status = match report.ending {
        Ending::Result(status) => return status,
        Ending::Halted | Ending::SwitchedOff | Ending::Left | Ending::Said if !wants_result => {
            let log = paths::shown(&place.log);
            say(&format!("\r\nThe hypervisor's log is {log}."));
            return 0;
        }
        Ending::Signal(number) => return 128_u8.wrapping_add(u8::try_from(number).unwrap_or(0)),
        Ending::TimedOut(_) => TIMED_OUT,
        _ => NO_RESULT,
    };
    say(&explain(report, machine));
    say(&read_on(report, place));
    status
}

/// A kernel's panic with its call trace has room.
const TAIL: usize = 25;

/// Where to read on: last the file that tells the cause, with its end.
fn read_on(report: &Report, place: &Place) -> String {
    let console = format!("the console's transcript {}", paths::shown(&place.console));
    let log = format!("the hypervisor's log {}", paths::shown(&place.log));
    let (first, second, said) = match report.ending {
        Ending::Stopped => (console, log, &report.log),
        _ => (log, console, &report.console),
    };
    format!("Read {first} and {second}{}", tail(said, TAIL))
}

/// What went wrong, in a sentence or two.
pub fn explain(report: &Report, machine: Machine) -> String {
    match &report.ending {
        Ending::TimedOut(after) => format!(
            "The guest did not finish within {} seconds (--timeout gives it more).",
            after.as_secs()
        ),
        Ending::GuestPanicked => "The guest's kernel (or its firmware) panicked.".to_owned(),
        Ending::Stopped => "The hypervisor stopped the machine; its log says why.".to_owned(),
        Ending::Died(status) => format!(
            "The emulator of {} ended before the guest reported a result ({status}): \
             the guest reset the machine, or the emulator failed. What the emulator said is in {}{}",
            machine.name(),
            paths::shown(&report.emulator_file),
            tail(&report.emulator, 5)
        ),
        Ending::Said => "The console said what ends the run.".to_owned(),
        Ending::Result(status) => format!("The guest reported status {status}."),
        Ending::Halted => "The guest halted without a result.".to_owned(),
        Ending::SwitchedOff => "The guest powered the machine off without a result.".to_owned(),
        Ending::Left => "You left.".to_owned(),
        Ending::Signal(number) => format!("Signal {number} ended the run."),
    }
}

/// Where a run's files are.
struct Place {
    dir: PathBuf,
    console: PathBuf,
    log: PathBuf,
}

impl Place {
    /// A folder of our own, under the machine's name the newest one. Folders
    /// of runs that have ended are removed first.
    fn make(machine: Machine, log: Option<&Path>) -> Result<Self> {
        let runs = paths::underlay().join("run");
        paths::create_dir(&runs)?;
        let prefix = format!("{}-", machine.name());
        for entry in fs::read_dir(&runs)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(pid) = name.strip_prefix(&prefix)
                && !Path::new("/proc").join(pid).exists()
            {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let name = format!("{prefix}{}", process::id());
        paths::empty_dir(&runs.join(&name))?;
        let newest = runs.join(machine.name());
        // There may be none yet.
        let _ = fs::remove_file(&newest);
        // Another run may have made it in between, which is as new.
        let _ = std::os::unix::fs::symlink(&name, &newest);
        let log = match log {
            Some(path) => std::path::absolute(path).context("the log's path")?,
            None => newest.join("log.txt"),
        };
        Ok(Self {
            dir: runs.join(&name),
            console: newest.join("console.txt"),
            log,
        })
    }
}
