//! The log: a ring of text in the hypervisor's memory, and a port. Each line
//! has a time, a CPU, a level and a module.
//!
//! A guest can cause lines. Writing one to a serial port takes as long as tens
//! of thousands of instructions, so lines to the port are rationed: what goes
//! over the ration stays in the ring, and the next line that fits says how
//! many did.

mod buffer;
mod text;

use crate::instructions::read_tsc;
use crate::port::Port;
use core::fmt::{self, Write};
use log::{LevelFilter, Log, Metadata, Record};
use spin::{Mutex, MutexGuard};
use text::Text;

pub use buffer::LogBuffer;
pub use text::LogLine;

/// Lines that may go to the port at once.
const RATION: u64 = 64;
/// Lines a second by which the ration grows again.
const REFILL: u64 = 4;

/// The ring and its port. One for the machine; written under its lock, by any
/// CPU.
struct Ring {
    text: Text,
    port: Port,
    clock: Clock,
    ration: Ration,
    /// Where the guest wants a copy of each line.
    copy: Option<LogBuffer>,
}

#[derive(Clone, Copy)]
struct Clock {
    start: u64,
    hz: u64,
}

impl Clock {
    /// Microseconds since the loader started.
    fn micros(self, tsc: u64) -> u64 {
        let ticks = u128::from(tsc.wrapping_sub(self.start));
        (ticks * 1_000_000 / u128::from(self.hz.max(1))) as u64
    }
}

/// Microseconds for which a port that took nothing is left alone.
const SHUT: u64 = 10_000_000;

/// How many lines may go to the port now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ration {
    left: u64,
    held: u64,
    refilled: u64,
    /// The port is left alone until then: it did not take a line in time.
    shut_until: u64,
}

/// What the ration says to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// To the port, after a word about this many lines that were not.
    Print { held: u64 },
    /// Only into the ring.
    Hold,
}

impl Ration {
    const FULL: Self = Self {
        left: RATION,
        held: 0,
        refilled: 0,
        shut_until: 0,
    };

    /// A port that takes nothing would cost the guest its patience for each
    /// line: it is tried again after some seconds.
    fn shut(&mut self, micros: u64) {
        self.shut_until = micros + SHUT;
    }

    fn take(&mut self, micros: u64) -> Share {
        // The guest may set the clock back.
        self.refilled = self.refilled.min(micros);
        let fresh = micros.saturating_sub(self.refilled).saturating_mul(REFILL) / 1_000_000;
        if fresh > 0 {
            self.left = (self.left + fresh).min(RATION);
            self.refilled = micros;
        }
        let wait = self.shut_until.saturating_sub(micros);
        let is_shut = (1..=SHUT).contains(&wait);
        if self.left == 0 || is_shut {
            self.held += 1;
            return Share::Hold;
        }
        self.left -= 1;
        Share::Print {
            held: core::mem::take(&mut self.held),
        }
    }
}

static RING: Mutex<Option<Ring>> = Mutex::new(None);

/// The longest line, in bytes.
const LINE_MAX: usize = 400;

/// Formats into a buffer of fixed size; what does not fit is cut.
pub(crate) struct LineBuffer {
    bytes: [u8; LINE_MAX],
    used: usize,
}

impl LineBuffer {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; LINE_MAX],
            used: 0,
        }
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or(&[])
    }
}

impl Write for LineBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (slot, byte) in self.bytes.iter_mut().skip(self.used).zip(text.bytes()) {
            *slot = byte;
            self.used += 1;
        }
        Ok(())
    }
}

impl Ring {
    fn line(&mut self, record: &Record) {
        let micros = self.clock.micros(read_tsc());
        let mut line = LineBuffer::new();
        let _ = write!(
            line,
            "[{:5}.{:06} cpu{} {:5} {}] {}",
            micros / 1_000_000,
            micros % 1_000_000,
            crate::percpu::number(),
            record.level(),
            module(record.target()),
            record.args()
        );
        self.text.keep(line.bytes());
        self.text.keep(b"\n");
        if let Some(copy) = &mut self.copy {
            copy.add_line(line.bytes());
        }
        if let Share::Print { held } = self.ration.take(micros) {
            self.tell_held(held);
            let taken = self.port.write(line.bytes()) && self.port.write(b"\r\n");
            if !taken {
                self.ration.shut(micros);
            }
        }
    }

    fn tell_held(&mut self, held: u64) {
        if held > 0 {
            let mut line = LineBuffer::new();
            let _ = write!(
                line,
                "[{held} lines before this one are in memory only]\r\n"
            );
            self.port.write(line.bytes());
        }
    }
}

/// The last part of a module path: `hypervisor::services::hello` is `hello`.
fn module(target: &str) -> &str {
    target.rsplit("::").next().unwrap_or(target)
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }
    fn log(&self, record: &Record) {
        if let Some(ring) = RING.lock().as_mut() {
            ring.line(record);
        }
    }
    fn flush(&self) {}
}

/// Writes a line to the port alone, whatever the ration: for long reports that
/// the machine's owner asked for, never for what a guest can cause by itself.
/// False if the port was not ready in time and cut it.
pub fn write_to_log_port(line: fmt::Arguments<'_>) -> bool {
    let mut buffer = LineBuffer::new();
    let _ = write!(buffer, "{line}\r\n");
    let ring = RING.lock();
    let port = ring.as_ref().map_or(Port::None, |ring| ring.port);
    port.write(buffer.bytes())
}

/// Reads line `number` of the log, counted from 0, with its newline; what does
/// not fit into `into` is cut.
pub fn read_log(number: u64, into: &mut [u8]) -> LogLine {
    let ring = RING.lock();
    ring.as_ref()
        .map_or(LogLine::NotYet, |ring| ring.text.read(number, into))
}

/// Has each further line copied into `buffer`, or into none any more.
pub(crate) fn copy_into(buffer: Option<LogBuffer>) {
    if let Some(ring) = RING.lock().as_mut() {
        ring.copy = buffer;
    }
}

/// The longest line, with its newline, in bytes.
pub const LOG_LINE_MAX: usize = LINE_MAX + 1;

/// Starts the log in `text`, with times counted from `start` ticks at `hz`.
pub(crate) fn start(text: &'static mut [u8], port: Port, level: LevelFilter, start: u64, hz: u64) {
    port.set_up();
    let clock = Clock { start, hz };
    *RING.lock() = Some(Ring {
        text: Text::new(text),
        port,
        clock,
        ration: Ration::FULL,
        copy: None,
    });
    // A second call finds the logger set already, which is what it wants.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
}

/// Looks at a lock that somebody holds, before it is broken: about as long as a
/// line takes on a serial port.
const PATIENCE: u32 = 1_000_000;

/// The ring, whoever holds its lock.
fn patiently() -> MutexGuard<'static, Option<Ring>> {
    for _ in 0..PATIENCE {
        if let Some(ring) = RING.try_lock() {
            return ring;
        }
        core::hint::spin_loop();
    }
    // SAFETY: this CPU is about to stop for good. Who holds the lock is this
    // code itself, or a CPU that was stopped with it; one that still runs can at
    // worst mix its line with these.
    unsafe { RING.force_unlock() };
    RING.lock()
}

/// A way to say last words: straight to the port and the ring, whoever holds
/// the lock, because that may be the code that failed.
pub(crate) struct LastWords {
    port: Port,
}

impl LastWords {
    pub(crate) fn new() -> Self {
        let ring = patiently();
        Self {
            port: ring.as_ref().map_or(Port::None, |ring| ring.port),
        }
    }
}

impl Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(ring) = patiently().as_mut() {
            ring.text.keep(text.as_bytes());
        }
        for line in text.split_inclusive('\n') {
            self.port.write(line.trim_end_matches('\n').as_bytes());
            if line.ends_with('\n') {
                self.port.write(b"\r\n");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ration_holds_a_flood_and_counts_it() {
        let mut ration = Ration::FULL;
        for _ in 0..RATION {
            assert_eq!(ration.take(10), Share::Print { held: 0 });
        }
        for _ in 0..1000 {
            assert_eq!(ration.take(20), Share::Hold);
        }
        assert_eq!(ration.take(1_000_020), Share::Print { held: 1000 });
        assert_eq!(ration.take(1_000_020), Share::Print { held: 0 });
    }

    #[test]
    fn a_port_that_takes_nothing_is_left_alone_for_a_while() {
        let mut ration = Ration::FULL;
        ration.shut(10);
        assert_eq!(ration.take(11), Share::Hold);
        assert_eq!(ration.take(9 + SHUT), Share::Hold);
        assert_eq!(ration.take(10 + SHUT), Share::Print { held: 2 });
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_mute_the_port() {
        let mut ration = Ration {
            left: 0,
            held: 0,
            refilled: u64::MAX / 2,
            shut_until: u64::MAX / 2,
        };
        assert_eq!(ration.take(0), Share::Hold);
        assert_eq!(ration.take(1_000_000), Share::Print { held: 1 });
    }

    /// The one test that uses the machine's own ring.
    #[test]
    fn lines_of_several_cpus_stay_whole_and_in_their_order() {
        const CPUS: usize = 4;
        const LINES: usize = 2000;
        start(
            vec![0; 1 << 20].leak(),
            Port::None,
            LevelFilter::Info,
            0,
            1_000_000_000,
        );
        std::thread::scope(|scope| {
            for cpu in 0..CPUS {
                scope.spawn(move || {
                    for number in 0..LINES {
                        let rest = "x".repeat(number % 50);
                        log::info!(target: "several", "{cpu} {number} {rest}.");
                    }
                });
            }
            scope.spawn(|| read_along(CPUS, LINES));
        });
    }

    /// Reads until every thread's last line is there. Lines are read while others
    /// are written; each is one that was, behind the one before it.
    fn read_along(cpus: usize, lines: usize) {
        let mut expected = vec![0; cpus];
        let mut next = 0;
        while expected.iter().any(|number| *number < lines) {
            let mut text = [0; LOG_LINE_MAX];
            let LogLine::Whole(length) = read_log(next, &mut text) else {
                std::thread::yield_now();
                continue;
            };
            next += 1;
            let line = core::str::from_utf8(&text[..length]).expect("text");
            let (_, said) = line.split_once("several] ").expect("a module");
            let mut words = said.splitn(3, ' ');
            let mut number = || words.next()?.parse::<usize>().ok();
            let (cpu, line) = number().zip(number()).expect("two numbers");
            assert_eq!(line, expected[cpu]);
            expected[cpu] += 1;
            let rest = format!("{}.\n", "x".repeat(line % 50));
            assert_eq!(words.next(), Some(rest.as_str()));
        }
    }

    #[test]
    fn long_lines_are_cut_and_not_lost() {
        let mut line = LineBuffer::new();
        write!(line, "{}", "x".repeat(1000)).expect("never fails");
        assert_eq!(line.bytes().len(), 400);
    }
}
