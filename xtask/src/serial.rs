//! The three serial ports of a machine, each a pseudo-terminal whose far end
//! the emulator opens. A thread per port turns what arrives into events.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::session::Event;

/// Who speaks on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// COM1: the guest's console.
    Console,
    /// COM2: the hypervisor's log.
    Log,
    /// COM3: results of commands and test guests.
    Results,
}

impl Port {
    /// In the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Console, Self::Log, Self::Results];
}

/// Our end of a port. The far end stays open here too, so that the emulator's
/// opening and closing of it does not hang up the line.
pub struct Line {
    ours: File,
    _far: OwnedFd,
    /// What the emulator opens.
    pub path: String,
}

impl Line {
    /// A fresh line in raw mode.
    pub fn open() -> Result<Self> {
        let ours =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("opening a pseudo-terminal")?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let path = ptsname(&ours, Vec::new())?
            .into_string()
            .context("the pseudo-terminal's name")?;
        let far = open(
            path.as_str(),
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut modes = tcgetattr(&far)?;
        modes.make_raw();
        tcsetattr(&far, OptionalActions::Now, &modes)?;
        Ok(Self {
            ours: File::from(ours),
            _far: far,
            path,
        })
    }

    /// A handle to type with.
    pub fn typing(&self) -> Result<File> {
        self.ours.try_clone().context("sharing a pseudo-terminal")
    }

    /// Sends what arrives from `port` as events, then [`Event::Closed`] when
    /// the far end is dropped everywhere.
    pub fn listen(&self, port: Port, events: Sender<Event>) -> Result<()> {
        let mut ours = self.typing()?;
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = ours.read(&mut buffer) {
                let bytes = buffer[..count].to_vec();
                if count == 0 || events.send(Event::Bytes(port, bytes)).is_err() {
                    break;
                }
            }
            // The session may be over already.
            let _ = events.send(Event::Closed);
        });
        Ok(())
    }
}

/// Types `bytes`; a machine that does not listen loses them, as on real
/// serial lines.
pub fn type_into(line: &mut File, bytes: &[u8]) {
    let _ = line.write_all(bytes);
}
