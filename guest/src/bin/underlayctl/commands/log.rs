//! `underlayctl log`: the hypervisor's log.

use super::{Choice, Command, JSON, Use};
use crate::arguments::Given;
use crate::output;
use crate::trouble::Trouble;
use abi::call::TRANSFER_MAX;
use serde_json::json;
use std::io::Write;
use std::time::Duration;
use underlay::services::Level;

pub const COMMAND: Command = Command {
    name: "log",
    uses: &[
        Use {
            takes: "[-f] [--from LINE] [--json]",
            does: "show its log (owner)",
        },
        Use {
            takes: "write TEXT...",
            does: "write a line into it",
        },
        Use {
            takes: "level LEVEL",
            does: "set how important its lines must be (owner)",
        },
    ],
    options: &[
        Choice {
            name: "follow",
            short: Some('f'),
            value: None,
            about: "go on with lines that are yet to come",
        },
        Choice {
            name: "from",
            short: None,
            value: Some("LINE"),
            about: "begin with the line of this number",
        },
        JSON,
    ],
    more: "\
Lines have numbers, counted from 0. Where lines were overwritten before they
were read, their count is shown in their place. With --json each line is an
object with its number, and a loss one that says how many were lost. A level is
off, error, warn, info, debug or trace, or its number from 0.

Examples:
  underlayctl log -f
  underlayctl log write the experiment begins
  underlayctl log level debug
",
    run,
};

/// How long a follower sleeps where there is nothing new.
const PAUSE: Duration = Duration::from_millis(200);

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let words = given.words();
    match words.as_slice() {
        [] => show(given, out),
        ["write", text @ ..] if !text.is_empty() => write(given, &text.join(" ")),
        ["level", word] => level(given, word, out),
        _ => Err(Trouble::usage(
            "`log` takes nothing, or `write TEXT`, or `level LEVEL`",
        )),
    }
}

fn show(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let mut line = given.number("from")?.unwrap_or(0);
    let underlay = given.underlay()?;
    let mut buffer = vec![0; TRANSFER_MAX];
    loop {
        let lines = underlay.log_read(&mut buffer, line)?;
        let text = String::from_utf8_lossy(lines.text);
        let shown = Shown {
            first: lines.next.saturating_sub(text.lines().count() as u64),
            lost: lines.lost,
            text: &text,
        };
        shown.write(given.has("json"), out)?;
        line = lines.next;
        if !text.is_empty() {
            continue;
        }
        if !given.has("follow") {
            return Ok(());
        }
        out.flush()?;
        if !output::wanted(PAUSE) {
            return Ok(());
        }
    }
}

/// Lines to show.
struct Shown<'a> {
    /// The number of the first one.
    first: u64,
    /// How many before it are gone.
    lost: u64,
    text: &'a str,
}

impl Shown<'_> {
    fn write(&self, json: bool, out: &mut dyn Write) -> Result<(), Trouble> {
        match (self.lost, json) {
            (0, _) => {}
            (lost, true) => writeln!(out, "{}", json!({ "lost": lost }))?,
            (1, false) => writeln!(out, "[1 line was lost here]")?,
            (lost, false) => writeln!(out, "[{lost} lines were lost here]")?,
        }
        if !json {
            return Ok(out.write_all(self.text.as_bytes())?);
        }
        for (number, text) in (self.first..).zip(self.text.lines()) {
            writeln!(out, "{}", json!({ "line": number, "text": text }))?;
        }
        Ok(())
    }
}

fn write(given: &Given, text: &str) -> Result<(), Trouble> {
    let done = given.underlay()?.log_write(text.as_bytes())?;
    match text.len().checked_sub(done) {
        None | Some(0) => Ok(()),
        Some(left) => Err(Trouble::other(format!(
            "a line has at most {done} bytes: the last {left} were left out"
        ))),
    }
}

fn level(given: &Given, word: &str, out: &mut dyn Write) -> Result<(), Trouble> {
    let known = Level::ALL.into_iter();
    let mut known =
        known.filter(|level| level.name() == word || (*level as u8).to_string() == word);
    let level = known.next().ok_or_else(|| {
        let names = Level::ALL.map(Level::name).join(", ");
        Trouble::usage(format!("`{word}` is no level; they are {names}"))
    })?;
    let before = given.underlay()?.log_level(level)?;
    writeln!(out, "{} (it was {})", level.name(), before.name())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::given;

    fn shown(lost: u64, json: bool) -> String {
        let mut out = Vec::new();
        let shown = Shown {
            first: 7,
            lost,
            text: "one\n\"two\"\n",
        };
        shown.write(json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn losses_stand_where_the_lines_would() {
        assert_eq!(shown(0, false), "one\n\"two\"\n");
        assert!(shown(1, false).starts_with("[1 line was"));
        assert!(shown(12, false).starts_with("[12 lines were lost here]\none\n"));
    }

    #[test]
    fn a_program_gets_an_object_a_line() {
        let text = shown(12, true);
        let objects: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(objects[0]["lost"], 12);
        assert_eq!(
            (&objects[2]["line"], &objects[2]["text"]),
            (&8.into(), &"\"two\"".into())
        );
    }

    #[test]
    fn wrong_words_are_known_before_anything_is_called() {
        for line in [
            "log read",
            "log write",
            "log level",
            "log level loud",
            "log level 6",
            "log level nothing",
        ] {
            let (_, given) = given(line).unwrap();
            let trouble = run(&given, &mut Vec::new());
            assert!(matches!(trouble, Err(Trouble::Usage(..))), "{line}");
        }
    }
}
