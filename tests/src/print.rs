//! What the guests that print share: the text, and how long a way takes.

use crate::{Report, cpu};
use abi::discovery::{FEATURE_PRINT, LEAF_FEATURES, LEAF_PRINT};
use core::arch::x86_64::_rdtsc;

/// What each way prints.
pub const TEXT: &[u8] = b"One text, three ways to print it.\n";

/// How often the text is printed to be timed.
const ROUNDS: u64 = 8;

/// Where the guest can print.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The port.
    pub port: u16,
    /// The register's page.
    pub page: u64,
}

/// What CPUID says of the ways to print; None if they are not offered.
pub fn offer() -> Option<Offer> {
    if cpu::cpuid(LEAF_FEATURES).ebx & FEATURE_PRINT == 0 {
        return None;
    }
    let leaf = cpu::cpuid(LEAF_PRINT);
    Some(Offer {
        port: leaf.eax as u16,
        page: u64::from(leaf.ecx) << 32 | u64::from(leaf.ebx),
    })
}

/// Prints the text by `way` and says what a byte costs. The line's end is not
/// timed: it writes the line to the log's port, which takes much longer.
pub fn timed(report: &mut Report, way: &str, mut print: impl FnMut(&[u8])) {
    let (line, end) = TEXT.split_at(TEXT.len() - 1);
    let mut spent = 0;
    for _ in 0..ROUNDS {
        // SAFETY: RDTSC touches nothing.
        let ticks = || unsafe { _rdtsc() };
        let before = ticks();
        print(line);
        spent += ticks() - before;
        print(end);
    }
    let each = spent / (ROUNDS * line.len() as u64);
    report.say(format_args!("{way}: {each} ticks a byte"));
}
