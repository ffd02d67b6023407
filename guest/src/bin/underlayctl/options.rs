//! The command line.

use lexopt::prelude::*;
use std::ffi::OsString;
use underlay::Instruction;

pub const HELP: &str = "\
Talk to Underlay, the hypervisor beneath this machine.

Usage: underlayctl COMMAND [OPTIONS]

Commands:
  hello              make the hypervisor greet: in its log, and here
  ping               show the version of the call interface
  info [--json]      show how it is reached and which services it has
  shell              talk to the debug shell beneath, line by line; root alone
                     can, and Ctrl-D ends it
  statistics         make it write to its log what its exits cost
  trace on|off|write start or stop recording its exits, or make it write the
                     records to the port of its log (its config must say
                     `trace = on`)
  raw NUMBER [ARGUMENT]...
                     call a service by its number, with up to 5 numbers as
                     arguments (RBX RCX RDX RSI RDI), and show the registers

Options:
  --instruction vmcall|vmmcall
                     use this instruction, whatever CPUID says
  -h, --help         show this help
  -V, --version      show the version of this program

Numbers are decimal, or hexadecimal with 0x.

Examples:
  underlayctl hello
  underlayctl info --json
  underlayctl raw 1                          what `ping` does, in registers
  underlayctl ping --instruction vmcall      is there one that hides?

`raw` executes the instruction even where nothing answers it: without a
hypervisor it dies of an illegal instruction (status 132 in a shell). An
argument that is an address is used with this program's rights: a bad one ends
it like any bad access (status 139), a good one may be written to.

Exit status: 0 fine, 1 a call failed, 2 wrong usage, 3 Underlay is not present.
";

/// What the person asked for.
#[derive(Debug, PartialEq)]
pub struct Options {
    pub command: Command,
    /// Forced by --instruction.
    pub instruction: Option<Instruction>,
}

#[derive(Debug, PartialEq)]
pub enum Command {
    Help,
    Version,
    Hello,
    Ping,
    Info { json: bool },
    Shell,
    Statistics,
    Trace(Trace),
    Raw { number: u64, arguments: [u64; 5] },
}

/// What to do with the trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trace {
    On,
    Off,
    Write,
}

/// Understands the command line; the first element is the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, lexopt::Error> {
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut words = Vec::new();
    let mut json = false;
    let mut instruction = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(plain(Command::Help)),
            Short('V') | Long("version") => return Ok(plain(Command::Version)),
            Long("json") => json = true,
            Long("instruction") => {
                instruction = Some(parser.value()?.parse_with(parse_instruction)?);
            }
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let command = command(&words, json)?;
    Ok(Options {
        command,
        instruction,
    })
}

fn plain(command: Command) -> Options {
    Options {
        command,
        instruction: None,
    }
}

fn command(words: &[String], json: bool) -> Result<Command, lexopt::Error> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (words.as_slice(), json) {
        ([], _) => Err("a command is missing".into()),
        (["info"], _) => Ok(Command::Info { json }),
        (_, true) => Err("--json belongs to `info` alone".into()),
        (["help"], _) => Ok(Command::Help),
        (["hello"], _) => Ok(Command::Hello),
        (["ping"], _) => Ok(Command::Ping),
        (["shell"], _) => Ok(Command::Shell),
        (["statistics"], _) => Ok(Command::Statistics),
        (["trace", "on"], _) => Ok(Command::Trace(Trace::On)),
        (["trace", "off"], _) => Ok(Command::Trace(Trace::Off)),
        (["trace", "write"], _) => Ok(Command::Trace(Trace::Write)),
        (["trace", ..], _) => Err("`trace` needs one of on, off, write".into()),
        (["raw", numbers @ ..], _) => raw(numbers),
        (
            [
                "hello" | "ping" | "info" | "shell" | "statistics",
                extra,
                ..,
            ],
            _,
        ) => Err(format!("`{extra}` is too much").into()),
        ([unknown, ..], _) => Err(format!("no command is called `{unknown}`").into()),
    }
}

fn raw(numbers: &[&str]) -> Result<Command, lexopt::Error> {
    let [number, rest @ ..] = numbers else {
        return Err("`raw` needs the number of a service".into());
    };
    let mut arguments = [0; 5];
    if rest.len() > arguments.len() {
        return Err("a call has no more than 5 arguments".into());
    }
    for (argument, word) in arguments.iter_mut().zip(rest) {
        *argument = parse_number(word)?;
    }
    let number = parse_number(number)?;
    Ok(Command::Raw { number, arguments })
}

fn parse_number(word: &str) -> Result<u64, lexopt::Error> {
    let number = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    number.map_err(|_| format!("`{word}` is not a number of 64 bits").into())
}

fn parse_instruction(word: &str) -> Result<Instruction, String> {
    let known = [Instruction::Vmcall, Instruction::Vmmcall];
    let found = known.into_iter().find(|known| known.name() == word);
    found.ok_or_else(|| "it is vmcall or vmmcall".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        let words = ["underlayctl"].into_iter().chain(line.split_whitespace());
        parse(words.map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn commands_and_their_options() {
        assert_eq!(parsed("hello"), Ok(plain(Command::Hello)));
        assert_eq!(
            parsed("--json info"),
            Ok(plain(Command::Info { json: true }))
        );
        let ping = parsed("ping --instruction vmmcall").unwrap();
        assert_eq!(ping.instruction, Some(Instruction::Vmmcall));
        assert_eq!(parsed("trace off"), Ok(plain(Command::Trace(Trace::Off))));
        assert_eq!(parsed("nonsense -h"), Ok(plain(Command::Help)));
    }

    #[test]
    fn raw_takes_a_number_and_up_to_five_arguments() {
        let command = Command::Raw {
            number: 0x10,
            arguments: [1, u64::MAX, 0, 0, 0],
        };
        let line = "raw 0x10 1 0xffffffffffffffff";
        assert_eq!(parsed(line), Ok(plain(command)));
        for wrong in ["raw", "raw 1 2 3 4 5 6 7", "raw -1", "raw 0x", "raw one"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_usage_says_what_is_wrong() {
        assert_eq!(parsed("").unwrap_err(), "a command is missing");
        let error = parsed("helo").unwrap_err();
        assert_eq!(error, "no command is called `helo`");
        assert!(parsed("hello there").unwrap_err().contains("there"));
        for wrong in ["trace", "trace of", "trace on off"] {
            assert!(parsed(wrong).unwrap_err().contains("on, off, write"));
        }
        assert!(parsed("ping --json").unwrap_err().contains("info"));
        assert!(
            parsed("ping --instruction x")
                .unwrap_err()
                .contains("vmmcall")
        );
    }
}
