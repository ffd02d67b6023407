//! The loader's way through a boot, from its first instruction to whatever
//! starts next. Everything that can go wrong ends in a sentence on the console
//! and, unless the config says otherwise, in the next stage.

mod console;
mod next;
mod panic;
mod protocol;
mod volume;

use uefi::{Status, entry};

use console::say;
use loader::config::{self, Config};
use volume::{CONFIG, CONFIG_MAX, Unread};

#[entry]
fn main() -> Status {
    let config = config();
    next::start(&config)
}

fn config() -> Config {
    let bytes = match volume::read(CONFIG, CONFIG_MAX) {
        Ok(bytes) => bytes,
        Err(Unread::Missing) => {
            say!("{CONFIG}: no such file; using defaults");
            return Config::default();
        }
        Err(unread) => {
            say!("{CONFIG}: {unread}; using defaults");
            return Config::default();
        }
    };
    let (config, problems) = config::parse(&bytes);
    for problem in problems {
        say!("{problem}");
    }
    config
}
