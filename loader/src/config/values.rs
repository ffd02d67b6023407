//! What each key takes: one word of a table, a size, a path or a line of text.
//! The same tables spell values back, so that what is printed can be read.

use abi::handoff::REGION_ALIGN;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};

use super::problem::quote;
use super::{
    Compat, Config, Cpus, LogLevel, LogPort, Memory, Next, OnFailure, Presence, StartupWatch,
    TRACE_ALIGN, TRACE_ON, Wrong,
};

type Words<T> = &'static [(&'static str, T)];

const YES_NO: Words<bool> = &[("yes", true), ("no", false)];
const ON_OFF: Words<bool> = &[("on", true), ("off", false)];
const ON_FAILURE: Words<OnFailure> = &[("boot", OnFailure::Boot), ("halt", OnFailure::Halt)];
const PRESENCE: Words<Presence> = &[
    ("leaf", Presence::Leaf),
    ("bit", Presence::Bit),
    ("hidden", Presence::Hidden),
];
const CPUS: Words<Cpus> = &[("one", Cpus::One), ("all", Cpus::All)];
const STARTUP_WATCH: Words<StartupWatch> = &[
    ("auto", StartupWatch::Auto),
    ("always", StartupWatch::Always),
    ("until-up", StartupWatch::UntilUp),
];
const COMPAT: Words<Compat> = &[("none", Compat::None), ("bitvisor", Compat::BitVisor)];
const LOG: Words<LogPort> = &[
    ("com1", LogPort::Com1),
    ("com2", LogPort::Com2),
    ("debugcon", LogPort::Debugcon),
    ("none", LogPort::None),
];
const LOG_LEVEL: Words<LogLevel> = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// The most memory of a trace.
const TRACE_MAX: u64 = 64 << 20;
const TRACE: &str = "off, on or a size up to 64M such as 1M, 512K or a number of bytes";

/// `memory` asks for less than this many bytes: the region lies below 4 GiB.
const MEMORY_END: u64 = 4 << 30;
const MEMORY: &str = "auto or a size below 4G such as 8M, 4096K or a number of bytes";
const POOL: &str = "off or a size below 4G such as 256M or a number of bytes";
const NEXT: &str = "firmware or a path such as \\EFI\\debian\\grubx64.efi";
const TEXT: &str = "text that UEFI can pass on (no control characters, nothing beyond UCS-2)";

impl Config {
    /// Sets a key of [`super::KEYS`] to what its value says, if that makes
    /// sense.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), Wrong> {
        match key {
            "enabled" => word(&mut self.enabled, YES_NO, value, "yes or no"),
            "on_failure" => word(&mut self.on_failure, ON_FAILURE, value, "boot or halt"),
            "presence" => word(&mut self.presence, PRESENCE, value, "leaf, bit or hidden"),
            "log" => word(&mut self.log, LOG, value, "com1, com2, debugcon or none"),
            "log_level" => word(
                &mut self.log_level,
                LOG_LEVEL,
                value,
                "error, warn, info, debug or trace",
            ),
            "print" => word(&mut self.print, ON_OFF, value, "on or off"),
            "compat" => word(&mut self.compat, COMPAT, value, "none or bitvisor"),
            "trace" => put(&mut self.trace, trace(value), value, TRACE),
            "pool" => put(&mut self.pool, pool(value), value, POOL),
            "cpus" => word(&mut self.cpus, CPUS, value, "one or all"),
            "startup_watch" => word(
                &mut self.startup_watch,
                STARTUP_WATCH,
                value,
                "auto, always or until-up",
            ),
            "memory" => put(&mut self.memory, memory(value), value, MEMORY),
            "next" => put(&mut self.next, next(value), value, NEXT),
            "next_args" => put(&mut self.next_args, text(value), value, TEXT),
            _ => Err(Wrong::UnknownKey),
        }
    }

    /// The value of a key as the file would say it.
    pub fn get(&self, key: &str) -> Option<String> {
        Some(match key {
            "enabled" => spell(self.enabled, YES_NO),
            "on_failure" => spell(self.on_failure, ON_FAILURE),
            "presence" => spell(self.presence, PRESENCE),
            "log" => spell(self.log, LOG),
            "log_level" => spell(self.log_level, LOG_LEVEL),
            "print" => spell(self.print, ON_OFF),
            "compat" => spell(self.compat, COMPAT),
            "trace" => match self.trace {
                0 => "off".to_owned(),
                TRACE_ON => "on".to_owned(),
                bytes => bytes.to_string(),
            },
            "pool" => match self.pool {
                0 => "off".to_owned(),
                bytes => bytes.to_string(),
            },
            "cpus" => spell(self.cpus, CPUS),
            "startup_watch" => spell(self.startup_watch, STARTUP_WATCH),
            "memory" => match self.memory {
                Memory::Auto => "auto".to_owned(),
                Memory::AtLeast(bytes) => bytes.to_string(),
            },
            "next" => match &self.next {
                Next::Firmware => "firmware".to_owned(),
                Next::File(path) => path.clone(),
            },
            "next_args" => self.next_args.clone(),
            _ => return None,
        })
    }

    /// A file that says what this config says.
    pub fn render(&self) -> String {
        let line = |key| self.get(key).map(|value| format!("{key} = {value}\n"));
        super::KEYS.into_iter().filter_map(line).collect()
    }
}

fn put<T>(
    field: &mut T,
    parsed: Option<T>,
    value: &str,
    expected: &'static str,
) -> Result<(), Wrong> {
    let value = || quote(value);
    *field = parsed.ok_or_else(|| Wrong::BadValue {
        value: value(),
        expected,
    })?;
    Ok(())
}

fn word<T: Copy>(
    field: &mut T,
    words: Words<T>,
    value: &str,
    expected: &'static str,
) -> Result<(), Wrong> {
    let found = words.iter().find(|row| row.0.eq_ignore_ascii_case(value));
    put(field, found.map(|row| row.1), value, expected)
}

fn spell<T: Copy + PartialEq>(value: T, words: Words<T>) -> String {
    let found = words.iter().find(|row| row.1 == value);
    found.map_or_else(String::new, |row| row.0.to_owned())
}

fn memory(value: &str) -> Option<Memory> {
    if value.eq_ignore_ascii_case("auto") {
        return Some(Memory::Auto);
    }
    let bytes = size(value)?;
    (bytes < MEMORY_END).then_some(Memory::AtLeast(bytes))
}

fn trace(value: &str) -> Option<u64> {
    match value {
        _ if value.eq_ignore_ascii_case("off") => Some(0),
        _ if value.eq_ignore_ascii_case("on") => Some(TRACE_ON),
        _ => {
            let bytes = size(value)?.checked_next_multiple_of(TRACE_ALIGN)?;
            (bytes <= TRACE_MAX).then_some(bytes)
        }
    }
}

fn pool(value: &str) -> Option<u64> {
    if value.eq_ignore_ascii_case("off") {
        return Some(0);
    }
    let bytes = size(value)?.checked_next_multiple_of(REGION_ALIGN)?;
    (bytes < MEMORY_END).then_some(bytes)
}

/// A number of bytes, with or without a unit.
fn size(value: &str) -> Option<u64> {
    let (digits, unit) = match value.chars().last()?.to_ascii_uppercase() {
        'K' => (value.get(..value.len() - 1)?, 1 << 10),
        'M' => (value.get(..value.len() - 1)?, 1 << 20),
        'G' => (value.get(..value.len() - 1)?, 1 << 30),
        _ => (value, 1),
    };
    let number: u64 = digits.trim_end().parse().ok()?;
    number.checked_mul(unit)
}

fn next(value: &str) -> Option<Next> {
    if value.eq_ignore_ascii_case("firmware") {
        return Some(Next::Firmware);
    }
    // People write paths either way; UEFI has only the backslash.
    let path = text(value)?.replace('/', "\\");
    let names_a_file = path.starts_with('\\') && !path.ends_with('\\');
    names_a_file.then_some(Next::File(path))
}

fn text(value: &str) -> Option<String> {
    let fits = |c: char| c.len_utf16() == 1 && (c == '\t' || !c.is_control());
    value.chars().all(fits).then(|| value.to_owned())
}
