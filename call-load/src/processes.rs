//! Processes that are forked, and the counters that they share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libc::{MAP_SHARED, c_int, pid_t};

use crate::Failed;
use crate::mapping::{Mapping, check};

/// A process of ours.
pub struct Child(pid_t);

/// Forks; the child does `work`, says what failed, and ends.
pub fn start(work: impl FnOnce() -> Result<(), Failed>) -> Result<Child, Failed> {
    // SAFETY: the process has no other thread at this point that could hold a
    // lock: those who start threads end them before they fork.
    let pid = unsafe { libc::fork() };
    check("fork", pid >= 0)?;
    if pid == 0 {
        let result = work();
        if let Err(why) = &result {
            eprintln!("call-load: {why}");
        }
        // SAFETY: ends the child; what is left to it is the system's to free.
        unsafe { libc::_exit(c_int::from(result.is_err())) };
    }
    Ok(Child(pid))
}

/// Forks, and waits for the end of `work`.
pub fn in_child(work: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    start(work)?.wait()
}

impl Child {
    /// Waits for its end; an error if it failed.
    pub fn wait(self) -> Result<(), Failed> {
        let mut status = 0;
        // SAFETY: writes to `status`.
        let waited = unsafe { libc::waitpid(self.0, &mut status, 0) };
        check("waitpid", waited == self.0)?;
        match status {
            0 => Ok(()),
            status => Err(format!("a process ended with status {status:#x}")),
        }
    }
}

/// What all processes see.
pub struct Shared {
    mapping: Mapping,
}

#[repr(C)]
struct Fields {
    calls: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    /// Zeros, shared with what is forked later.
    pub fn new() -> Result<Self, Failed> {
        let mapping = Mapping::new(1, MAP_SHARED)?;
        Ok(Self { mapping })
    }

    fn fields(&self) -> &Fields {
        // SAFETY: the page is aligned, as long, zeros at first, which are valid
        // atomics, lives as long as `self`, and is reached in no other way.
        unsafe { &*(self.mapping.address() as *const Fields) }
    }

    /// Counts calls.
    pub fn count(&self, calls: u64) {
        self.fields().calls.fetch_add(calls, Ordering::Relaxed);
    }

    /// Calls that were counted.
    pub fn calls(&self) -> u64 {
        self.fields().calls.load(Ordering::Relaxed)
    }

    /// Tells those who disturb that it is over.
    pub fn end(&self) {
        self.fields().over.store(true, Ordering::Relaxed);
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.fields().over.load(Ordering::Relaxed)
    }
}
