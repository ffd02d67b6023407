//! The one door: everything a person does with this repository is a
//! subcommand of `cargo xtask`.
#![forbid(unsafe_code)]

mod artefacts;
mod bench;
mod check;
mod command;
mod conf;
mod esp;
mod fuzz;
mod generate;
mod given;
mod image;
mod initramfs;
mod linux;
mod machine;
mod paths;
mod progress;
mod run;
mod seal;
mod serial;
mod session;
mod setup;
mod stage;
mod statistics;
mod terminal;
mod test;
mod trace;
mod trailer;
mod transcript;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything a person does with Underlay: install, build, run, test, check.
///
/// The first command to try is `cargo xtask run`: it installs what is missing,
/// builds everything, starts an emulated machine with Underlay beneath it and
/// brings you to a shell of an unmodified Debian kernel.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    Run(Box<run::Args>),
    Trace(Box<trace::Args>),
    Test(test::Args),
    Bench(bench::Args),
    Check(check::Args),
    Image(image::Args),
    Fuzz(fuzz::Args),
    Generate(generate::Args),
}

/// Exit status of a program that SIGPIPE ends, as shells show it.
const BROKEN_PIPE: u8 = 128 + 13;

/// Whether the reader of our output has left, which is no mistake.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Rust ignores SIGPIPE, and printing to `head` would then be a panic. A
    // run must live on: it has a terminal to restore and an emulator to end.
    if !matches!(command, Command::Run(_) | Command::Trace(_)) {
        sigpipe::reset();
    }
    let result = match command {
        Command::Setup(args) => setup::command(&args).map(|()| 0),
        Command::Run(args) => run::command(&args),
        Command::Trace(mut args) => trace::command(&mut args),
        Command::Test(args) => test::command(&args),
        Command::Bench(args) => bench::command(&args),
        Command::Check(args) => check::command(&args),
        Command::Image(args) => image::command(&args),
        Command::Fuzz(args) => fuzz::command(&args).map(|()| 0),
        Command::Generate(args) => generate::command(&args).map(|()| 0),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
