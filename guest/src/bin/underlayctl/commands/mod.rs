//! The commands: one file each, and one line in [`COMMANDS`].

mod call;
mod cpus;
mod hello;
mod info;
mod list;
mod log;
mod mem;
mod ping;
mod raw;
mod shell;
mod stat;
mod trace;
mod vm;

use crate::arguments::Given;
use crate::trouble::Trouble;
use std::io::Write;

/// A command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// The ways to use it.
    pub uses: &'static [Use],
    /// Its options, beside those that all commands have.
    pub options: &'static [Choice],
    /// What else --help says of it.
    pub more: &'static str,
    /// Does it.
    pub run: fn(&Given, &mut dyn Write) -> Result<(), Trouble>,
}

/// A way to use a command.
pub struct Use {
    /// What follows its name.
    pub takes: &'static str,
    /// What it does then.
    pub does: &'static str,
}

/// An option. One that several commands have is the same in all of them.
pub struct Choice {
    /// Its name.
    pub name: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// What it takes.
    pub value: Option<&'static str>,
    /// What it means.
    pub about: &'static str,
}

/// Output for a program.
const JSON: Choice = Choice {
    name: "json",
    short: None,
    value: None,
    about: "for a program to read",
};

/// In the order of the help.
pub const COMMANDS: &[&Command] = &[
    &hello::COMMAND,
    &ping::COMMAND,
    &info::COMMAND,
    &list::COMMAND,
    &cpus::COMMAND,
    &log::COMMAND,
    &stat::COMMAND,
    &trace::COMMAND,
    &mem::COMMAND,
    &vm::COMMAND,
    &shell::COMMAND,
    &call::COMMAND,
    &raw::COMMAND,
];
