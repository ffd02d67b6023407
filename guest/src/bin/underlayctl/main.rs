//! `underlayctl`: the services of Underlay from the command line.
//!
//! Exit status: 0 fine, 1 a call failed, 2 wrong usage, 3 Underlay is not
//! present.

mod arguments;
mod commands;
mod cpus;
mod help;
mod hexdump;
mod interrupts;
mod output;
mod screen;
mod trouble;

use arguments::Request;
use std::io::{self, Write};
use std::process::ExitCode;
use trouble::Trouble;

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let done = run(&mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.tell(),
    }
}

fn run(out: &mut dyn Write) -> Result<(), Trouble> {
    match arguments::parse(std::env::args_os())? {
        Request::Help(command) => out.write_all(help::text(command).as_bytes())?,
        Request::Version => writeln!(out, "underlayctl {}", env!("CARGO_PKG_VERSION"))?,
        Request::Run(command, given) => {
            (command.run)(&given, out).map_err(|trouble| trouble.of(command.name))?;
        }
    }
    Ok(())
}
