//! One Bochs starts at a time. Its display takes the first free port for VNC
//! viewers, and two that look at the same moment both bind the same port: the
//! second cannot listen there, keeps the socket that failed, and gives up.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::session::EMULATOR_LOG;

/// What Bochs logs once it has its port, and when it gives up.
const DONE: [&str; 2] = ["listening for connections", "PANIC"];

/// The right to start a Bochs on this computer.
pub struct Turn {
    /// Others wait until this is closed. None if the file is not ours to open:
    /// then there is nobody to agree with.
    _lock: Option<File>,
    log: PathBuf,
    changes: OwnedFd,
}

impl Turn {
    /// Waits for its turn to start one that logs in `dir`.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = env::temp_dir().join("underlay-bochs-start.lock");
        let lock = File::create(path).ok();
        if let Some(lock) = &lock {
            lock.lock().context("waiting for another Bochs to start")?;
        }
        let log = dir.join(EMULATOR_LOG);
        File::create(&log)?;
        let changes = inotify::init(CreateFlags::CLOEXEC)?;
        inotify::add_watch(&changes, &log, WatchFlags::MODIFY)?;
        Ok(Self {
            _lock: lock,
            log,
            changes,
        })
    }

    /// Lets others have theirs once `bochs` has its port or is gone.
    pub fn pass(self, bochs: &Child) -> Result<()> {
        let process = pidfd_open(Pid::from_child(bochs), PidfdFlags::empty())?;
        loop {
            let said = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
            if DONE.iter().any(|words| said.contains(words)) {
                return Ok(());
            }
            let mut wanted = [
                PollFd::new(&self.changes, PollFlags::IN),
                PollFd::new(&process, PollFlags::IN),
            ];
            poll(&mut wanted, None)?;
            let [changed, gone] = wanted.map(|one| !one.revents().is_empty());
            if gone {
                return Ok(());
            }
            if changed {
                rustix::io::read(&self.changes, &mut [0u8; 4096])?;
            }
        }
    }
}
