//! `underlayctl shell`: lines from standard input to the debug shell beneath,
//! and its text back.

use crate::Trouble;
use abi::call::{SHELL_CLOSE, SHELL_LINE, SHELL_LINE_MAX, SHELL_OPEN, SHELL_TEXT_MAX};
use abi::token::{LINUX_PATH, Token};
use std::io::{self, BufRead, IsTerminal, Write};
use underlay::{Failure, Instruction, Reply, Underlay};

const PROMPT: &str = "underlay> ";

/// Talks until the input or the session ends.
pub fn run(underlay: Underlay) -> Result<(), Trouble> {
    let owner = Owner {
        instruction: underlay.instruction(),
        token: token()?,
    };
    let prompt = if io::stdin().is_terminal() {
        PROMPT
    } else {
        ""
    };
    let mut session = Session::open(owner).map_err(of_shell)?;
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    let talked = talk(&mut |line| session.run(line), input, output, prompt);
    session.close();
    talked
}

fn of_shell(failure: Failure) -> Trouble {
    Trouble::Call("shell", failure)
}

fn token() -> Result<Token, Trouble> {
    let table = std::fs::read(LINUX_PATH).map_err(|error| {
        Trouble::NoToken(format!(
            "{LINUX_PATH}: {error}; the shell is for root alone"
        ))
    })?;
    let token = Token::from_table(&table);
    token.ok_or_else(|| Trouble::NoToken(format!("{LINUX_PATH} holds no owner token")))
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
    run: &mut dyn FnMut(&[u8]) -> Result<Part, Failure>,
    mut input: impl BufRead,
    mut output: impl Write,
    prompt: &str,
) -> Result<(), Trouble> {
    let mut line = Vec::new();
    loop {
        show(&mut output, prompt.as_bytes())?;
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        if read.map_err(Trouble::Output)? == 0 {
            // Where somebody typed Ctrl-D, the next prompt is not in this line.
            let end: &[u8] = if prompt.is_empty() { b"" } else { b"\n" };
            return show(&mut output, end);
        }
        let typed = line.trim_ascii();
        if typed.len() > SHELL_LINE_MAX {
            let said = format!("a line has at most {SHELL_LINE_MAX} bytes\n");
            show(&mut output, said.as_bytes())?;
            continue;
        }
        if typed.is_empty() {
            continue;
        }
        let mut part = run(typed).map_err(of_shell)?;
        show(&mut output, &part.text)?;
        while part.more {
            part = run(b"").map_err(of_shell)?;
            show(&mut output, &part.text)?;
        }
        if part.ended {
            return Ok(());
        }
    }
}

fn show(output: &mut impl Write, text: &[u8]) -> Result<(), Trouble> {
    let shown = output.write_all(text).and_then(|()| output.flush());
    shown.map_err(Trouble::Output)
}

/// A session beneath.
struct Session {
    owner: Owner,
    handle: u64,
}

impl Session {
    fn open(owner: Owner) -> Result<Self, Failure> {
        // SAFETY: `shell_open` touches no memory of ours.
        let handle = unsafe { owner.call(SHELL_OPEN, [0; 5]) }.result()?;
        Ok(Self { owner, handle })
    }

    fn run(&mut self, line: &[u8]) -> Result<Part, Failure> {
        let mut text = vec![0; SHELL_TEXT_MAX];
        let (from, bytes) = (line.as_ptr() as u64, line.len() as u64);
        let (into, room) = (text.as_mut_ptr() as u64, text.len() as u64);
        // SAFETY: `shell_line` reads the line and writes the text, no more than
        // their lengths, and both outlive the call.
        let reply = unsafe {
            self.owner
                .call(SHELL_LINE, [self.handle, from, bytes, into, room])
        };
        text.truncate(reply.result()? as usize);
        let [more, ended, ..] = reply.results;
        Ok(Part {
            text,
            more: more != 0,
            ended: ended != 0,
        })
    }

    /// One that has ended already is not there any more, which is no harm.
    fn close(&mut self) {
        // SAFETY: `shell_close` touches no memory of ours.
        let _ = unsafe { self.owner.call(SHELL_CLOSE, [self.handle, 0, 0, 0, 0]) };
    }
}

/// Who may call what is the owner's.
#[derive(Clone, Copy)]
struct Owner {
    instruction: Instruction,
    token: Token,
}

impl Owner {
    /// Calls with the token.
    ///
    /// # Safety
    ///
    /// Addresses among the arguments must suit the service.
    unsafe fn call(&self, number: u64, arguments: [u64; 5]) -> Reply {
        let Token([r8, r9]) = self.token;
        // SAFETY: the caller's contract; that the instruction is answered is
        // what `Underlay` proved, from which it comes.
        unsafe {
            match self.instruction {
                Instruction::Vmcall => vmcall(number, arguments, [r8, r9]),
                Instruction::Vmmcall => vmmcall(number, arguments, [r8, r9]),
            }
        }
    }
}

macro_rules! call_instruction {
    ($name:ident, $mnemonic:literal) => {
        unsafe fn $name(
            number: u64,
            [mut rbx, rcx, rdx, rsi, rdi]: [u64; 5],
            [r8, r9]: [u64; 2],
        ) -> Reply {
            let mut reply = Reply::default();
            let [out_rbx, out_rcx, out_rdx, out_rsi, out_rdi] = &mut reply.results;
            // SAFETY: by the caller's contract the instruction is answered. It
            // changes six registers only, and memory as the service says; RBX,
            // which the compiler keeps to itself, is exchanged around it.
            unsafe {
                std::arch::asm!(
                    "xchg {rbx}, rbx",
                    $mnemonic,
                    "xchg {rbx}, rbx",
                    rbx = inout(reg) rbx,
                    inout("rax") number => reply.rax,
                    inout("rcx") rcx => *out_rcx,
                    inout("rdx") rdx => *out_rdx,
                    inout("rsi") rsi => *out_rsi,
                    inout("rdi") rdi => *out_rdi,
                    in("r8") r8,
                    in("r9") r9,
                    options(nostack, preserves_flags),
                );
            }
            *out_rbx = rbx;
            reply
        }
    };
}
call_instruction!(vmcall, "vmcall");
call_instruction!(vmmcall, "vmmcall");

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
