//! `underlayctl`: the services of Underlay from the command line.
//!
//! Exit status: 0 fine, 1 a call failed, 2 wrong usage, 3 Underlay is not
//! present.

mod info;
mod options;
mod shell;

use options::{Command, Options, Trace};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use underlay::{Failure, Instruction, NotPresent, Reply, Underlay, discovery};

fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(error) => return fail(2, format!("{error}; try: underlayctl --help")),
    };
    match run(&options).and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Shown(text)) => {
            // The registers say it all, and the status says it to scripts.
            let _ = print(&text);
            ExitCode::from(1)
        }
        Err(Trouble::Absent(absent)) => fail(3, advise(absent)),
        Err(Trouble::Call(name, failure)) => fail(1, format!("{name}: {failure}")),
        Err(Trouble::Stuck(left)) => fail(
            1,
            format!(
                "trace: the log's port takes no more (`log` in underlay.conf); {left} records are left"
            ),
        ),
        Err(Trouble::NoToken(why)) => fail(1, why),
        Err(Trouble::Output(error)) => fail(1, format!("cannot write the output: {error}")),
    }
}

/// Why a command did not do what it was asked for.
enum Trouble {
    /// A call that failed, as text that is shown all the same.
    Shown(String),
    Absent(NotPresent),
    Call(&'static str, Failure),
    /// This program cannot act for the owner.
    NoToken(String),
    Output(io::Error),
    /// The log's port takes no more; so many records are left.
    Stuck(u64),
}

impl From<NotPresent> for Trouble {
    fn from(absent: NotPresent) -> Self {
        Self::Absent(absent)
    }
}

/// Carries out the command; returns what to print.
fn run(options: &Options) -> Result<String, Trouble> {
    match options.command {
        Command::Help => Ok(options::HELP.to_string()),
        Command::Version => Ok(format!("underlayctl {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Hello => hello(find(options)?),
        Command::Ping => ping(find(options)?),
        Command::Info { json } => info::show(find(options)?, json),
        Command::Shell => shell::run(find(options)?).map(|()| String::new()),
        Command::Statistics => statistics(find(options)?),
        Command::Trace(what) => trace(find(options)?, what),
        Command::Raw { number, arguments } => raw(options, number, arguments),
    }
}

fn find(options: &Options) -> Result<Underlay, NotPresent> {
    match options.instruction {
        Some(instruction) => Underlay::probe(instruction),
        None => Underlay::find(),
    }
}

fn hello(underlay: Underlay) -> Result<String, Trouble> {
    let count = underlay.hello().map_err(|f| Trouble::Call("hello", f))?;
    let logo = abi::greeting::LOGO.join("\n");
    let greeting = abi::greeting::GREETING;
    Ok(format!(
        "{logo}\n\n{greeting}\nThis was greeting number {count} since it started.\n"
    ))
}

fn ping(underlay: Underlay) -> Result<String, Trouble> {
    let version = underlay.ping().map_err(|f| Trouble::Call("ping", f))?;
    Ok(format!("ABI version {version}\n"))
}

fn statistics(underlay: Underlay) -> Result<String, Trouble> {
    let done = underlay.statistics();
    done.map_err(|f| Trouble::Call("statistics", f))?;
    Ok(String::new())
}

fn trace(underlay: Underlay, what: Trace) -> Result<String, Trouble> {
    match what {
        Trace::On => underlay.switch_trace(true).map_err(of_trace)?,
        Trace::Off => underlay.switch_trace(false).map_err(of_trace)?,
        Trace::Write => write_trace(underlay)?,
    }
    Ok(String::new())
}

fn of_trace(failure: Failure) -> Trouble {
    Trouble::Call("trace", failure)
}

/// Calls in a row that may bring nothing: each waits for the port a little.
const ATTEMPTS: u32 = 100;

/// Writes what is there, in as many calls as it takes. The calls may be traced
/// themselves, but each adds less than it writes.
fn write_trace(underlay: Underlay) -> Result<(), Trouble> {
    let (mut left, mut in_vain) = (u64::MAX, 0);
    while left > 0 {
        let now = underlay.write_trace().map_err(of_trace)?;
        in_vain = if now < left { 0 } else { in_vain + 1 };
        if in_vain == ATTEMPTS {
            return Err(Trouble::Stuck(now));
        }
        left = now;
    }
    Ok(())
}

/// Calls by number, whether or not anything announced itself, and lets the CPU
/// have its way: that is what the command is for.
fn raw(options: &Options, number: u64, arguments: [u64; 5]) -> Result<String, Trouble> {
    let instruction = options.instruction.unwrap_or_else(|| {
        let found = Underlay::find().map(Underlay::instruction);
        found.unwrap_or_else(|_| discovery::instruction_of_cpu())
    });
    // SAFETY: the person at the keyboard chose instruction, number and
    // arguments, and is told by --help what that may do to this process, which
    // does nothing afterwards but print six numbers.
    let reply = unsafe { underlay::call::call(instruction, number, arguments) };
    let text = registers(instruction, &reply);
    match reply.result() {
        Ok(_) => Ok(text),
        Err(_) => Err(Trouble::Shown(text)),
    }
}

fn registers(instruction: Instruction, reply: &Reply) -> String {
    let names = ["rbx", "rcx", "rdx", "rsi", "rdi"];
    let mut text = format!("{instruction}\nrax {:#018x}", reply.rax);
    if let Err(failure) = reply.result() {
        text += &format!(" ({failure})");
    }
    for (name, value) in names.iter().zip(reply.results) {
        text += &format!("\n{name} {value:#018x}");
    }
    text + "\n"
}

/// What is wrong, and what to do about it.
fn advise(absent: NotPresent) -> String {
    let advice = match absent {
        NotPresent::Nothing | NotPresent::Other(_) => {
            "; boot this machine through underlay.efi, which says on the console why if it cannot start (with more than one CPU it does not yet), and see that underlay.conf does not say `presence = hidden`"
        }
        NotPresent::Unanswered(_) => {
            "; leave out --instruction to use the one that this CPU has, and see that underlay.conf does not say `presence = hidden`"
        }
        _ => "",
    };
    format!("{absent}{advice}")
}

fn print(text: &str) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Trouble::Output)
}

fn fail(status: u8, message: impl Display) -> ExitCode {
    eprintln!("underlayctl: {message}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_shown_in_hex_with_the_error_in_words() {
        let reply = Reply {
            rax: -38i64 as u64,
            results: [1, 2, 3, 4, 5],
        };
        let text = registers(Instruction::Vmmcall, &reply);
        assert!(text.starts_with("vmmcall\nrax 0xffffffffffffffda (no such service)\n"));
        assert!(text.ends_with("rdi 0x0000000000000005\n"));
    }

    #[test]
    fn absence_comes_with_advice() {
        let text = advise(NotPresent::Nothing);
        assert!(text.contains("underlay.efi"), "{text}");
        assert!(!text.contains('\n'));
    }
}
