//! Has a thread that runs its vCPU come back when the vCPU's timer is due, by the
//! signal by which others call it back.

use super::now;
use super::runner::{SIGNAL, this_thread};
use std::time::Duration;

/// A timer of Linux' that belongs to the thread that made it.
pub struct Alarm {
    timer: Option<libc::timer_t>,
    /// The moment of the time-stamp counter that it is set to.
    due: Option<u64>,
}

impl Alarm {
    /// For this thread. If Linux has no timer left, the thread comes back at the
    /// next tick.
    pub fn new() -> Self {
        // SAFETY: all fields are numbers or null, which none of those that are
        // looked at stays.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        event.sigev_notify_thread_id = this_thread();
        let mut timer = std::ptr::null_mut();
        let clock = libc::CLOCK_MONOTONIC;
        // SAFETY: it reads the event and writes the timer.
        let made = unsafe { libc::timer_create(clock, &raw mut event, &raw mut timer) };
        Self {
            timer: (made == 0).then_some(timer),
            due: None,
        }
    }

    /// Sets it to `due`, which is `time` away, unless it is.
    pub fn set(&mut self, due: Option<u64>, time: impl Fn(u64) -> Duration) {
        let (Some(timer), Some(moment)) = (self.timer, due) else {
            return;
        };
        if self.due == due {
            return;
        }
        self.due = due;
        // A time of 0 would stop it.
        let left = time(moment.saturating_sub(now())).max(Duration::from_nanos(1));
        // SAFETY: all fields are numbers.
        let mut value: libc::itimerspec = unsafe { std::mem::zeroed() };
        value.it_value.tv_sec = u32::try_from(left.as_secs()).unwrap_or(u32::MAX).into();
        value.it_value.tv_nsec = left.subsec_nanos().into();
        // SAFETY: the timer was made above and is this value's; the rest is read.
        unsafe { libc::timer_settime(timer, 0, &raw const value, std::ptr::null_mut()) };
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            // SAFETY: as above, and nobody uses it afterwards.
            unsafe { libc::timer_delete(timer) };
        }
    }
}
