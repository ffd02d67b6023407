//! What --help shows, made from the commands' rows.

use crate::commands::{COMMANDS, Choice, Command, Use};
use std::fmt::Write;

const HEAD: &str = "\
Talk to Underlay, the hypervisor beneath this machine.

Usage: underlayctl COMMAND [OPTIONS]

Commands:
";

const TAIL: &str = "
Options:
  --instruction vmcall|vmmcall
                     use this instruction, whatever CPUID says
  -h, --help         show this help; behind a command, more about it
  -V, --version      show the version of this program

Numbers are decimal, or hexadecimal with 0x. What is for the machine's owner
works as root.

Examples:
  underlayctl hello
  underlayctl log -f
  underlayctl stat --watch
  underlayctl mem --help
  underlayctl ping --instruction vmcall      is there one that hides?

Exit status: 0 fine, 1 a call failed, 2 wrong usage, 3 Underlay is not present.
";

/// Where explanations begin.
const COLUMN: usize = 21;

/// The help in general, or for one command.
pub fn text(command: Option<&Command>) -> String {
    match command {
        Some(command) => of(command),
        None => {
            let uses: String = COMMANDS.iter().map(|command| uses("", command)).collect();
            format!("{HEAD}{uses}{TAIL}")
        }
    }
}

fn of(command: &Command) -> String {
    let mut text = format!("Usage:\n{}", uses("underlayctl ", command));
    if !command.options.is_empty() {
        text += "\nOptions:\n";
        text.extend(command.options.iter().map(option));
    }
    if !command.more.is_empty() {
        let _ = write!(text, "\n{}", command.more);
    }
    text
}

fn uses(program: &str, command: &Command) -> String {
    let uses = command.uses.iter();
    let lines = uses.map(|Use { takes, does }| {
        let space = if takes.is_empty() { "" } else { " " };
        line(&format!("{program}{}{space}{takes}", command.name), does)
    });
    lines.collect()
}

fn option(choice: &Choice) -> String {
    let short = choice
        .short
        .map_or(String::new(), |short| format!("-{short}, "));
    let value = choice
        .value
        .map_or(String::new(), |value| format!(" {value}"));
    line(&format!("{short}--{}{value}", choice.name), choice.about)
}

/// What does not fit before the column gets a line of its own.
fn line(what: &str, about: &str) -> String {
    let width = COLUMN - 2;
    match what.len() < width {
        true => format!("  {what:<width$}{about}\n"),
        false => format!("  {what}\n  {:<width$}{about}\n", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_every_option_and_no_overlong_line_is_in_the_help() {
        let general = text(None);
        for command in COMMANDS {
            assert!(general.contains(&format!("\n  {}", command.name)));
            let own = text(Some(command));
            for choice in command.options {
                assert!(own.contains(&format!("--{}", choice.name)), "{own}");
            }
            let longest = own.lines().chain(general.lines()).map(str::len).max();
            assert!(longest <= Some(80), "{own}");
        }
    }
}
