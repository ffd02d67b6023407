//! Calls with nothing but registers, in Rust: what `registers.c` does.

use std::error::Error;
use std::process::ExitCode;
use underlay::Underlay;

fn main() -> ExitCode {
    match greet() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn greet() -> Result<(), Box<dyn Error>> {
    let underlay = Underlay::find()?;
    println!("ping: version {}", underlay.ping()?);
    println!("hello: greeting number {}", underlay.hello()?);
    Ok(())
}
