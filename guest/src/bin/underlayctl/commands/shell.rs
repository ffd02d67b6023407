//! `underlayctl shell`: lines from standard input to the debug shell beneath,
//! and its text back.

use super::{Command, Use};
use crate::arguments::Given;
use crate::trouble::Trouble;
use abi::call::{SHELL_LINE_MAX, SHELL_TEXT_MAX};
use std::io::{self, BufRead, IsTerminal, Write};

pub const COMMAND: Command = Command {
    name: "shell",
    uses: &[Use {
        takes: "",
        does: "talk to the debug shell inside it, line by line (owner)",
    }],
    options: &[],
    more: "\
The shell's own `help` lists what it knows; Ctrl-D or `exit` ends it. Where the
input is no terminal there is no prompt.

Examples:
  underlayctl shell
  echo regs | underlayctl shell
  printf 'vmcs rip\\nvmcb rip\\n' | underlayctl shell
",
    run,
};

const PROMPT: &str = "underlay> ";

/// Talks until the input or the session ends.
fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    given.no_words()?;
    let underlay = given.underlay()?;
    let prompt = if io::stdin().is_terminal() {
        PROMPT
    } else {
        ""
    };
    let session = underlay.shell_open()?;
    let mut buffer = vec![0; SHELL_TEXT_MAX];
    let mut line = |line: &[u8]| {
        let said = underlay.shell_line(&session, line, &mut buffer)?;
        Ok(Part {
            text: said.text.to_vec(),
            more: said.more,
            ended: said.ended,
        })
    };
    let talked = talk(&mut line, io::stdin().lock(), out, prompt);
    // One that has ended already is not there any more, which is no harm.
    let _ = underlay.shell_close(session);
    talked
}

/// A part of what a line has to say.
#[derive(Debug, Default, PartialEq)]
struct Part {
    text: Vec<u8>,
    /// There is more to come.
    more: bool,
    /// The line ended the session.
    ended: bool,
}

/// Gives each line of `input` to `run`, and goes on with no line as long as
/// there is more to come.
fn talk(
    run: &mut dyn FnMut(&[u8]) -> Result<Part, Trouble>,
    mut input: impl BufRead,
    output: &mut dyn Write,
    prompt: &str,
) -> Result<(), Trouble> {
    let mut line = Vec::new();
    loop {
        show(output, prompt.as_bytes())?;
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        if read? == 0 {
            // Where somebody typed Ctrl-D, the next prompt is not in this line.
            let end: &[u8] = if prompt.is_empty() { b"" } else { b"\n" };
            return show(output, end);
        }
        let typed = line.trim_ascii();
        if typed.len() > SHELL_LINE_MAX {
            let said = format!("a line has at most {SHELL_LINE_MAX} bytes\n");
            show(output, said.as_bytes())?;
            continue;
        }
        if typed.is_empty() {
            continue;
        }
        let mut part = run(typed)?;
        show(output, &part.text)?;
        while part.more {
            part = run(b"")?;
            show(output, &part.text)?;
        }
        if part.ended {
            return Ok(());
        }
    }
}

fn show(output: &mut dyn Write, text: &[u8]) -> Result<(), Trouble> {
    output.write_all(text)?;
    Ok(output.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of `input`, and which lines were run: each says itself in
    /// two parts, `exit` ends.
    fn shown(input: &str, prompt: &str) -> (String, Vec<String>) {
        let mut lines = Vec::new();
        let mut output = Vec::new();
        let mut run = |line: &[u8]| {
            lines.push(String::from_utf8_lossy(line).into_owned());
            Ok(Part {
                text: if line.is_empty() { b"!\n" } else { line }.to_vec(),
                more: !line.is_empty() && line != b"exit",
                ended: line == b"exit",
            })
        };
        let talked = talk(&mut run, input.as_bytes(), &mut output, prompt);
        assert!(talked.is_ok());
        (String::from_utf8_lossy(&output).into_owned(), lines)
    }

    #[test]
    fn each_line_is_run_to_its_end() {
        let (text, lines) = shown("one\n\n  two \nthree", "");
        assert_eq!(text, "one!\ntwo!\nthree!\n");
        assert_eq!(lines, ["one", "", "two", "", "three", ""]);
    }

    #[test]
    fn the_end_of_the_input_or_of_the_session_ends_it() {
        assert_eq!(shown("", "> ").0, "> \n");
        let (text, lines) = shown("exit\nmore\n", "> ");
        assert_eq!((text.as_str(), lines.len()), ("> exit", 1));
    }

    #[test]
    fn a_line_that_is_too_long_is_not_run() {
        let (text, lines) = shown(&"x".repeat(SHELL_LINE_MAX + 1), "");
        assert_eq!(text, "a line has at most 120 bytes\n");
        assert!(lines.is_empty());
    }
}
