//! A vCPU's thread as others see it: one that has its vCPU run is called back by
//! a signal, for which Linux interrupts the CPU.
//!
//! A signal that comes between the thread's last look and its call is taken
//! before the call, and the turn lasts until the CPU is interrupted for anything
//! else: at the latest by the next tick of Linux, which has one on each CPU that
//! works.

use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::SeqCst;

/// Interrupts a thread that has its vCPU run.
pub const SIGNAL: libc::c_int = libc::SIGUSR1;

/// One thread. Which it is says the thread itself.
#[derive(Debug, Default)]
pub struct Runner {
    /// The thread's number while it has its vCPU run, else 0.
    busy: AtomicI32,
}

/// The handler: that the call ends is all that is wanted.
extern "C" fn came(_: libc::c_int) {}

/// Has this program's threads live on when they are called back.
pub fn prepare() {
    let handler = came as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing, so that it may come at any place.
    unsafe { libc::signal(SIGNAL, handler as libc::sighandler_t) };
}

impl Runner {
    /// This thread, whose number is `thread`, is about to have its vCPU run; 0:
    /// it is back.
    pub fn set_busy(&self, thread: i32) {
        self.busy.store(thread, SeqCst);
    }

    /// Has the thread look again.
    pub fn kick(&self) {
        let thread = self.busy.load(SeqCst);
        if thread != 0 {
            let group = std::process::id();
            // SAFETY: a signal to a thread of this program; to one that is gone it
            // is an error.
            unsafe { libc::syscall(libc::SYS_tgkill, group, thread, SIGNAL) };
        }
    }
}

/// This thread's number.
pub fn this_thread() -> i32 {
    // SAFETY: it only tells.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}
