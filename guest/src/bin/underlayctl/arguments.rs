//! The command line. Which words and options a command takes stands in its own
//! row; here they are only told apart.

use crate::commands::{COMMANDS, Choice, Command};
use crate::trouble::Trouble;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::time::Duration;
use underlay::{Instruction, NotPresent, Underlay};

/// What the person asked for.
pub enum Request {
    /// Help, in general or for a command.
    Help(Option<&'static Command>),
    /// The program's version.
    Version,
    /// A command.
    Run(&'static Command, Given),
}

/// What a command was given.
#[derive(Debug, Default)]
pub struct Given {
    words: Vec<String>,
    options: Vec<(&'static str, String)>,
    /// Forced by --instruction.
    pub instruction: Option<Instruction>,
}

/// Understands the command line; the first element is the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, Trouble> {
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut given = Given::default();
    let mut help = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => help = true,
            Short('V') | Long("version") => return Ok(Request::Version),
            Long("instruction") => {
                given.instruction = Some(parser.value()?.parse_with(instruction)?);
            }
            Value(word) => given.words.push(word.string()?),
            other => {
                let choice = choice(&other).ok_or_else(|| other.unexpected())?;
                let value = match choice.value {
                    Some(_) => parser.value()?.string()?,
                    None => String::new(),
                };
                given.options.push((choice.name, value));
            }
        }
    }
    given.request(help)
}

/// The option of any command that is meant: it may stand before its command.
fn choice(argument: &lexopt::Arg<'_>) -> Option<&'static Choice> {
    let mut choices = COMMANDS.iter().flat_map(|command| command.options);
    match argument {
        Short(letter) => choices.find(|choice| choice.short == Some(*letter)),
        Long(name) => choices.find(|choice| choice.name == *name),
        Value(_) => None,
    }
}

fn instruction(word: &str) -> Result<Instruction, String> {
    let known = [Instruction::Vmcall, Instruction::Vmmcall];
    let found = known.into_iter().find(|known| known.name() == word);
    found.ok_or_else(|| "it is vmcall or vmmcall".to_string())
}

impl Given {
    fn request(mut self, help: bool) -> Result<Request, Trouble> {
        let asks = help || self.words.first().is_some_and(|word| word == "help");
        if asks {
            let mut words = self.words.iter().filter(|word| *word != "help");
            let command = words.next().map(|word| command(word)).transpose()?;
            return Ok(Request::Help(command));
        }
        if self.words.is_empty() {
            return Err(Trouble::usage("a command is missing"));
        }
        let command = command(&self.words.remove(0))?;
        let own = |name: &str| command.options.iter().any(|choice| choice.name == name);
        match self.options.iter().find(|(name, _)| !own(name)) {
            None => Ok(Request::Run(command, self)),
            Some((name, _)) => {
                let what = format!("`{}` has no option --{name}", command.name);
                Err(Trouble::usage(what).of(command.name))
            }
        }
    }

    /// The words behind the command.
    pub fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// Whether the option was given.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The option's value, if it was given.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut options = self.options.iter().rev();
        options.find_map(|(known, value)| (*known == name).then_some(value.as_str()))
    }

    /// The option's value as a number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Trouble> {
        self.value(name).map(number).transpose()
    }

    /// The option's value as seconds.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, Trouble> {
        let seconds = |word: &str| {
            let seconds = word.parse().ok();
            let span = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            span.ok_or_else(|| Trouble::usage(format!("`{word}` is no number of seconds")))
        };
        self.value(name).map(seconds).transpose()
    }

    /// Nothing may follow the command.
    pub fn no_words(&self) -> Result<(), Trouble> {
        match self.words.first() {
            None => Ok(()),
            Some(extra) => Err(Trouble::usage(format!("`{extra}` is too much"))),
        }
    }

    /// The Underlay beneath; as its owner, if this program may act for it.
    pub fn underlay(&self) -> Result<Underlay, NotPresent> {
        let underlay = match self.instruction {
            Some(instruction) => Underlay::probe(instruction),
            None => Underlay::find(),
        }?;
        Ok(underlay.as_owner().unwrap_or(underlay))
    }
}

/// The command with this name.
fn command(name: &str) -> Result<&'static Command, Trouble> {
    let found = COMMANDS.iter().find(|command| command.name == name);
    let found = found.copied();
    found.ok_or_else(|| Trouble::usage(format!("no command is called `{name}`")))
}

/// A number of 64 bits, decimal or hexadecimal with 0x.
pub fn number(word: &str) -> Result<u64, Trouble> {
    let (digits, radix) = match word.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (word, 10),
    };
    let number = u64::from_str_radix(digits, radix).ok();
    // Only a digit begins a number: Rust would take a plus sign.
    let number = number.filter(|_| !digits.starts_with('+'));
    number.ok_or_else(|| Trouble::usage(format!("`{word}` is not a number of 64 bits")))
}

/// A number of bytes, which may end with K, M or G.
pub fn size(word: &str) -> Result<u64, Trouble> {
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let unit = units.into_iter().find(|(unit, _)| word.ends_with(*unit));
    let (digits, shift) = unit.map_or((word, 0), |(unit, shift)| {
        (word.trim_end_matches(unit), shift)
    });
    let number = number(digits).map_err(|_| {
        Trouble::usage(format!(
            "`{word}` is no length: a number, which K, M or G may follow"
        ))
    })?;
    let bytes = number.checked_mul(1 << shift);
    bytes.ok_or_else(|| Trouble::usage(format!("`{word}` is more than 64 bits can count")))
}

/// Bytes in hexadecimal digits, two each.
pub fn hex(word: &str) -> Result<Vec<u8>, Trouble> {
    let digits = word.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let &[high, low] = pair else { return None };
        let digit = |digit| char::from(digit).to_digit(16);
        u8::try_from(digit(high)? << 4 | digit(low)?).ok()
    };
    let bytes: Option<Vec<u8>> = digits.map(byte).collect();
    bytes.ok_or_else(|| {
        Trouble::usage(format!(
            "`{word}` is not bytes in hexadecimal, two digits each"
        ))
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What `line` gives to its command, or what is wrong with it.
    pub fn given(line: &str) -> Result<(&'static str, Given), String> {
        let words = ["underlayctl"].into_iter().chain(line.split_whitespace());
        match parse(words.map(OsString::from)) {
            Ok(Request::Run(command, given)) => Ok((command.name, given)),
            Ok(_) => Err("help".to_owned()),
            Err(trouble) => Err(format!("{trouble:?}")),
        }
    }

    #[test]
    fn options_stand_before_or_behind_their_command() {
        for line in ["--json info", "info --json"] {
            let (name, given) = given(line).unwrap();
            assert_eq!((name, given.has("json")), ("info", true));
        }
        let (_, ping) = given("ping --instruction vmmcall").unwrap();
        assert_eq!(ping.instruction, Some(Instruction::Vmmcall));
        let (_, log) = given("log -f --from 0x10").unwrap();
        assert!(log.has("follow") && !log.has("json"));
        assert_eq!(log.number("from").unwrap(), Some(16));
    }

    #[test]
    fn an_option_has_one_meaning_whatever_its_command() {
        let all = || COMMANDS.iter().flat_map(|command| command.options);
        for (one, other) in all().flat_map(|one| all().map(move |other| (one, other))) {
            let same_short = one.short.is_some() && one.short == other.short;
            if one.name == other.name || same_short {
                assert_eq!((one.name, one.value), (other.name, other.value));
            }
        }
    }

    #[test]
    fn wrong_usage_says_what_is_wrong() {
        assert!(given("").unwrap_err().contains("missing"));
        assert!(given("helo").unwrap_err().contains("`helo`"));
        assert!(given("ping --json").unwrap_err().contains("--json"));
        assert!(given("ping --jsn").unwrap_err().contains("jsn"));
        assert!(
            given("ping --instruction x")
                .unwrap_err()
                .contains("vmmcall")
        );
        assert_eq!(given("ping -h").unwrap_err(), "help");
        assert_eq!(given("help").unwrap_err(), "help");
        assert_eq!(given("help log write").unwrap_err(), "help");
        assert!(given("helo --help").unwrap_err().contains("`helo`"));
    }

    #[test]
    fn numbers_sizes_and_bytes() {
        assert_eq!(number("0xffffffffffffffff").unwrap(), u64::MAX);
        for wrong in ["", "-1", "+1", "0x", "0x+1", "one", "18446744073709551616"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("64K").unwrap(), 65536);
        assert_eq!(size("0x2M").unwrap(), 2 << 20);
        assert!(size("0x400000000G").is_err() && size("K").is_err());
        assert_eq!(hex("00fF7e").unwrap(), [0, 0xff, 0x7e]);
        for wrong in ["0", "0g", "+1", "é"] {
            assert!(hex(wrong).is_err(), "{wrong}");
        }
    }
}
