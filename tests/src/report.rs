//! A guest's report: one line for each thing that was checked, then the result
//! in the form that `cargo xtask test` waits for.

use crate::attempt::Fault;
use crate::serial::Serial;
use alloc::format;
use core::fmt::{Arguments, Debug, Display, Write};

/// Frames the result, so that nothing else on the port can be taken for it.
const FRAME: char = '\x1e';

/// Collects what a guest finds.
pub struct Report {
    serial: Serial,
    checks: u32,
    failures: u32,
}

impl Report {
    fn new() -> Self {
        Self {
            serial: Serial::new(),
            checks: 0,
            failures: 0,
        }
    }

    /// A remark.
    pub fn say(&mut self, line: Arguments) {
        // The port cannot fail; the console is a courtesy.
        let _ = writeln!(self.serial, "{line}");
        if uefi::table::system_table_raw().is_some() {
            // The firmware gives up where other CPUs make its own slow.
            let _ = uefi::system::with_stdout(|out| writeln!(out, "{line}"));
        }
    }

    /// A line for the test, not for people.
    pub fn say_to_port(&mut self, line: Arguments) {
        let _ = writeln!(self.serial, "{line}");
    }

    /// A check that this machine does not allow, and why.
    pub fn skip(&mut self, what: impl Display, why: impl Display) {
        self.say(format_args!("skip {what}: {why}"));
    }

    /// Checks that `what` holds.
    pub fn holds(&mut self, what: impl Display, holds: bool) {
        self.verdict(what, holds, format_args!(""));
    }

    /// Checks that `what`, found to be `found`, is `expected`.
    pub fn equal<T: PartialEq + Debug>(&mut self, what: impl Display, found: T, expected: T) {
        let holds = found == expected;
        let detail = format!(": found {found:x?}, expected {expected:x?}");
        let shown = if holds { "" } else { &detail };
        self.verdict(what, holds, format_args!("{shown}"));
    }

    /// Checks that an attempt ended with the exception `vector`.
    pub fn raises<T: Debug>(&mut self, what: impl Display, vector: u8, found: Result<T, Fault>) {
        let holds = matches!(&found, Err(fault) if fault.vector == vector);
        let detail = format!(": found {found:x?}, expected vector {vector}");
        let shown = if holds { "" } else { &detail };
        self.verdict(what, holds, format_args!("{shown}"));
    }

    fn verdict(&mut self, what: impl Display, holds: bool, detail: Arguments) {
        self.checks += 1;
        self.failures += u32::from(!holds);
        let word = if holds { "ok  " } else { "FAIL" };
        self.say(format_args!("{word} {what}{detail}"));
    }

    fn finish(mut self) -> ! {
        let (checks, failures) = (self.checks, self.failures);
        self.say(format_args!("{checks} checks, {failures} failed"));
        // A guest that checked nothing has shown nothing.
        let status = u32::from(failures > 0 || checks == 0);
        self.end(status)
    }

    fn end(mut self, status: u32) -> ! {
        let _ = writeln!(self.serial, "{FRAME}UNDERLAY-RESULT {status}{FRAME}");
        crate::cpu::halt_forever()
    }
}

/// Runs a whole guest; called by [`crate::guest!`].
pub fn run(check: fn(&mut Report)) -> ! {
    // The boot manager's watchdog would reset the machine after five minutes.
    let _ = uefi::boot::set_watchdog_timer(0, 0x1_0000, None);
    let mut report = Report::new();
    check(&mut report);
    report.finish()
}

#[cfg(target_os = "uefi")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let mut serial = Serial::new();
    let _ = writeln!(serial, "FAIL {info}");
    let report = Report {
        serial,
        checks: 1,
        failures: 1,
    };
    report.end(1)
}
