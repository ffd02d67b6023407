//! The loader's way through a boot, from its first instruction to whatever
//! starts next. Everything that can go wrong ends in a sentence on the console
//! and, unless the config says otherwise, in the next stage.

mod clock;
mod console;
mod executable;
mod failure;
mod hypervisor;
mod next;
mod others;
mod panic;
mod protocol;
mod region;
mod sleep;
mod survey;
mod token;
mod volume;

use uefi::{Status, boot, entry};

use console::{announce, say};
use failure::Failure;
use loader::config::{self, Config, OnFailure};
use volume::{CONFIG, CONFIG_MAX};

#[entry]
fn main() -> Status {
    let started = clock::ticks();
    let config = config();
    if config.enabled {
        match hypervisor::start(&config, started) {
            // From here on this program, too, is part of the guest.
            Ok(running) => announce!("{running}"),
            Err(failure) => without_it(&failure, config.on_failure),
        }
    }
    next::start(&config)
}

fn config() -> Config {
    let bytes = match volume::read(CONFIG, CONFIG_MAX) {
        Ok(bytes) => bytes,
        Err(unread) => {
            say!("{CONFIG}: {unread}; using the defaults");
            return Config::default();
        }
    };
    let (config, problems) = config::parse(&bytes);
    for problem in problems {
        say!("{problem}");
    }
    config
}

fn without_it(failure: &Failure, on_failure: OnFailure) {
    say!("{failure}");
    match on_failure {
        // Started again by the firmware's boot manager or by hand.
        _ if failure.is_already_beneath() => {}
        OnFailure::Boot => say!("starting what boots next without Underlay"),
        OnFailure::Halt => halt(),
    }
}

fn halt() -> ! {
    say!(
        "stopped here, as {CONFIG} wants it: `on_failure = boot` there starts the machine without Underlay"
    );
    // The boot manager sets the watchdog to five minutes, too short to read
    // the sentence and to act on it.
    let _ = boot::set_watchdog_timer(0, 0x1_0000, None);
    loop {
        x86_64::instructions::hlt();
    }
}
