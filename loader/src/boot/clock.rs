//! The time-stamp counter and how fast it runs.

use core::time::Duration;

use raw_cpuid::CpuId;
use uefi::boot;

/// How long the counter is watched: long enough for the firmware's clock to be
/// right within a few parts in a thousand, and not felt in a boot.
const WATCHED: Duration = Duration::from_millis(2);

/// How often it is watched.
const TRIES: u32 = 5;

/// The time-stamp counter.
pub(super) fn ticks() -> u64 {
    // SAFETY: every CPU with 64-bit mode has RDTSC, and firmware runs at CPL 0,
    // where CR4.TSD does not forbid it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks per second. CPUID's figure is exact where it is true; emulators are
/// known that repeat their model's figure and count by another clock, so it is
/// taken only if a short measurement agrees.
pub(super) fn ticks_per_second() -> u64 {
    let measured = measure();
    match from_cpuid() {
        Some(stated) if stated.abs_diff(measured) < measured / 10 => stated,
        _ => measured,
    }
}

fn from_cpuid() -> Option<u64> {
    CpuId::new().get_tsc_info()?.tsc_frequency()
}

/// The shortest of a few: on a machine that others have too, as virtual ones
/// do, any of them can be interrupted, and then takes longer.
fn measure() -> u64 {
    let times = (0..TRIES).map(|_| watch());
    let shortest = times.min().unwrap_or(0);
    shortest.saturating_mul(1000) / WATCHED.as_millis() as u64
}

fn watch() -> u64 {
    let before = ticks();
    boot::stall(WATCHED);
    ticks().wrapping_sub(before)
}
