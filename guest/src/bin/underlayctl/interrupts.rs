//! Ctrl-C and its relatives, for commands that have something to finish.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static HAPPENED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    HAPPENED.store(true, Relaxed);
}

/// From now on they no longer end the program, but are noted.
pub fn note_them() {
    let handler = note as *const () as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler has the signature that is asked for, and does
        // nothing but store to an atomic.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Whether one happened.
pub fn happened() -> bool {
    HAPPENED.load(Relaxed)
}
