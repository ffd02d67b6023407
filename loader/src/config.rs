//! The config file: what each key may say, and a parser that never fails. A
//! line that makes no sense becomes a [`Problem`] for the console and leaves
//! its default in place, because a typing mistake must not cost anyone a boot.

mod problem;
mod values;

use alloc::string::String;
use alloc::vec::Vec;

pub use abi::handoff::{Compat, LogLevel, LogPort, Presence, StartupWatch};
pub use problem::{Problem, Wrong};

/// The file's name, as problems cite it.
pub const FILE: &str = "underlay.conf";

/// What to do when this machine cannot run the hypervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Start the next stage without it.
    #[default]
    Boot,
    /// Stop with the reason on the screen.
    Halt,
}

/// `trace = on`: memory of a trace, in bytes.
pub const TRACE_ON: u64 = 256 << 10;
/// A trace takes whole pages.
pub const TRACE_ALIGN: u64 = 4096;

/// How much memory to reserve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// What the hypervisor needs on this machine.
    #[default]
    Auto,
    /// That, or this many bytes if they are more.
    AtLeast(u64),
}

/// Which CPUs it may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cpus {
    /// A machine with more is left alone.
    One,
    /// All that the machine has.
    #[default]
    All,
}

/// What starts afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// The firmware's next boot entry.
    #[default]
    Firmware,
    /// This file on the loader's own volume; it starts with a backslash and
    /// holds nothing that UCS-2 cannot.
    File(String),
}

/// What the config file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether to start the hypervisor at all.
    pub enabled: bool,
    /// What to do when that is not possible.
    pub on_failure: OnFailure,
    /// What a guest can see of the hypervisor.
    pub presence: Presence,
    /// Where the log goes.
    pub log: LogPort,
    /// What is logged.
    pub log_level: LogLevel,
    /// Whether the guest is offered the three ways to print.
    pub print: bool,
    /// Whose clients programs may be.
    pub compat: Compat,
    /// Memory of each CPU's trace, in bytes, a multiple of [`TRACE_ALIGN`]; 0:
    /// exits are not traced.
    pub trace: u64,
    /// Memory for children, in bytes, a multiple of the region's alignment; 0:
    /// there are none.
    pub pool: u64,
    /// Which CPUs it may have.
    pub cpus: Cpus,
    /// How long their local APICs are watched.
    pub startup_watch: StartupWatch,
    /// How much memory to reserve.
    pub memory: Memory,
    /// What starts afterwards.
    pub next: Next,
    /// Its command line, without anything that UCS-2 cannot hold.
    pub next_args: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            on_failure: OnFailure::default(),
            presence: Presence::default(),
            log: LogPort::default(),
            log_level: LogLevel::default(),
            print: false,
            compat: Compat::default(),
            trace: 0,
            pool: 0,
            cpus: Cpus::default(),
            startup_watch: StartupWatch::default(),
            memory: Memory::default(),
            next: Next::default(),
            next_args: String::new(),
        }
    }
}

/// Every key, in the order of the shipped file.
pub const KEYS: [&str; 14] = [
    "enabled",
    "on_failure",
    "presence",
    "log",
    "log_level",
    "print",
    "compat",
    "trace",
    "pool",
    "cpus",
    "startup_watch",
    "memory",
    "next",
    "next_args",
];

/// Reads a config file: what it says, and what is wrong with it.
pub fn parse(bytes: &[u8]) -> (Config, Vec<Problem>) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut reader = Reader::default();
    for (index, line) in text.split('\n').enumerate() {
        reader.line(index + 1, line.trim());
    }
    (reader.config, reader.problems)
}

#[derive(Default)]
struct Reader {
    config: Config,
    problems: Vec<Problem>,
    /// The key of each line that set, or failed to set, a key.
    seen: Vec<(&'static str, usize)>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (line.split_whitespace().next().unwrap_or(line), None),
        };
        let Some(key) = KEYS.into_iter().find(|key| *key == name) else {
            let wrong = value.map_or(Wrong::NoEquals, |_| Wrong::UnknownKey);
            return self.problem(number, name, wrong);
        };
        if let Err(wrong) = self.known_key(number, key, value) {
            self.problem(number, key, wrong);
        }
    }

    fn known_key(
        &mut self,
        number: usize,
        key: &'static str,
        value: Option<&str>,
    ) -> Result<(), Wrong> {
        let value = value.ok_or(Wrong::NoEquals)?;
        if let Some((_, first)) = self.seen.iter().find(|seen| seen.0 == key) {
            return Err(Wrong::Duplicate { first: *first });
        }
        self.seen.push((key, number));
        self.config.set(key, value)
    }

    fn problem(&mut self, line: usize, name: &str, wrong: Wrong) {
        let stands = self.config.get(name);
        self.problems.push(Problem::new(line, name, wrong, stands));
    }
}
