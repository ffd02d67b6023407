//! Clocks: the kernel's, which it counts from the CPU's, against the battery's,
//! which nothing that happens to the CPU can stop.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::{ITIMER_REAL, SIGALRM, c_int, c_void, itimerval, siginfo_t, timeval};

use crate::memory::handle;
use crate::{Failed, ensure};

const BATTERY_CLOCK: &str = "/dev/rtc0";
/// `RTC_RD_TIME` of linux/rtc.h.
const READ_TIME: u64 = 0x8024_7009;
const DAY: u64 = 24 * 60 * 60;

/// Between two looks at the battery's clock for its next second.
const LOOK: Duration = Duration::from_millis(1);

/// Both clocks at the beginning of a second of the battery's.
pub struct Clocks {
    battery: u64,
    kernel: Instant,
}

impl Clocks {
    /// Waits for the next second.
    pub fn read() -> Result<Self, Failed> {
        let device = File::open(BATTERY_CLOCK).map_err(|e| format!("{BATTERY_CLOCK}: {e}"))?;
        let first = second_of_day(&device)?;
        loop {
            let (battery, kernel) = (second_of_day(&device)?, Instant::now());
            if battery != first {
                return Ok(Self { battery, kernel });
            }
            thread::sleep(LOOK);
        }
    }

    /// How far the clocks went apart since, in words; an error if further than
    /// looking at them, and measuring the CPU's frequency at boot, explain.
    pub fn compare(&self) -> Result<String, Failed> {
        let end = Self::read()?;
        let battery = Duration::from_secs((end.battery + DAY - self.battery) % DAY);
        let kernel = end.kernel - self.kernel;
        let apart = battery.abs_diff(kernel);
        let allowed = Duration::from_millis(100) + battery / 1000;
        let text = format!(
            "{} s passed on the battery's clock, and {:.3} s on the kernel's",
            battery.as_secs(),
            kernel.as_secs_f64()
        );
        ensure(apart <= allowed, || format!("time was lost: {text}"))?;
        Ok(text)
    }
}

fn second_of_day(device: &File) -> Result<u64, Failed> {
    // Seconds, minutes, hours, and what is left of `struct rtc_time`.
    let mut time = [0 as c_int; 9];
    // SAFETY: this request fills a `struct rtc_time`, which is nine of C's int.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), READ_TIME as _, &mut time) };
    ensure(done == 0, || {
        format!("{BATTERY_CLOCK}: {}", io::Error::last_os_error())
    })?;
    let [seconds, minutes, hours, ..] = time.map(|number| u64::from(number.unsigned_abs()));
    Ok((hours * 60 + minutes) * 60 + seconds)
}

/// Alarms so far. Counted by [`count`].
static ALARMS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: c_int, _: *const siginfo_t, _: *const c_void) {
    ALARMS.fetch_add(1, Ordering::Relaxed);
}

/// Waits for signals of a timer, and sleeps; time never goes back, and neither
/// comes early.
pub fn timers_and_signals() -> Result<(), Failed> {
    const SHORT: Duration = Duration::from_millis(2);
    handle(SIGALRM, count);
    let (alarms, start) = (ALARMS.load(Ordering::Relaxed), Instant::now());
    set_alarm(SHORT);
    while ALARMS.load(Ordering::Relaxed) == alarms {
        thread::yield_now();
    }
    let alarm = start.elapsed();
    ensure(alarm >= SHORT, || format!("an alarm came after {alarm:?}"))?;
    let start = Instant::now();
    thread::sleep(SHORT);
    let slept = start.elapsed();
    ensure(slept >= SHORT, || format!("a sleep took {slept:?}"))
}

/// One SIGALRM after `time`, which is less than a second.
fn set_alarm(time: Duration) {
    let never = timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let timer = itimerval {
        it_interval: never,
        it_value: timeval {
            tv_usec: time.subsec_micros().into(),
            ..never
        },
    };
    // SAFETY: reads the structure, and writes nothing where the last argument
    // is null.
    unsafe { libc::setitimer(ITIMER_REAL, &timer, std::ptr::null_mut()) };
}
