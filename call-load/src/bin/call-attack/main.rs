//! Attacks by a program: `call-attack CALLS` starts as root, makes itself
//! nobody, and calls every service with every argument leading into the kernel,
//! out of the address space and to what is not its own, then CALLS times with
//! random registers and guesses of the owner's token. It fails if a call answers
//! that must not, or writes, or if the kernel's constants change, or if refused
//! calls are not counted exactly.

mod attack;
mod constants;
mod invoke;
mod targets;

use std::env;
use std::process::ExitCode;

use attack::Attacker;
use call_load::mapping::check;
use call_load::owner::Owner;
use call_load::processes::{Shared, in_child};
use call_load::{Failed, ensure};
use constants::Constants;
use underlay::{Underlay, discovery};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [calls] => calls
            .parse()
            .map_err(|_| format!("`{calls}` is not a number of calls"))
            .and_then(all),
        _ => Err("usage: call-attack CALLS".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("call-attack: {why}");
            ExitCode::FAILURE
        }
    }
}

fn all(calls: u64) -> Result<(), Failed> {
    let instruction = discovery::find().map_err(|absent| absent.to_string())?;
    let underlay = Underlay::find().map_err(|absent| absent.to_string())?;
    let (owner, constants) = (Owner::new(underlay)?, Constants::find()?);
    let (before, refused) = (constants.sum()?, owner.oddity("refused-call")?);
    let shared = Shared::new()?;
    in_child(|| {
        become_nobody()?;
        let mut attacker = Attacker::new(instruction, constants.address, &shared)?;
        attacker.each_argument()?;
        attacker.random(calls)
    })?;
    ensure(constants.sum()? == before, || {
        "the kernel's constants changed".to_owned()
    })?;
    let refused = owner.oddity("refused-call")? - refused;
    let made = shared.calls();
    ensure(refused == made && made > 0, || {
        format!("{made} calls were refused, and {refused} counted")
    })?;
    let underlay = Underlay::find().map_err(|absent| absent.to_string())?;
    underlay.ping().map_err(|failure| failure.to_string())?;
    println!("{made} calls were refused and counted, and nothing was written");
    Ok(())
}

fn become_nobody() -> Result<(), Failed> {
    const NOBODY: u32 = 65534;
    // SAFETY: no more than system calls on numbers.
    let done = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setgid(NOBODY) == 0
            && libc::setuid(NOBODY) == 0
    };
    check("becoming nobody", done)
}
