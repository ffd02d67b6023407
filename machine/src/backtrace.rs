//! A backtrace by frame pointers. Addresses are printed relative to the image,
//! as the ELF file has them, so that any symboliser finds them.

use core::arch::asm;
use core::fmt::{self, Write};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// The deepest stack that is printed.
const DEPTH: usize = 24;

static REGION_START: AtomicU64 = AtomicU64::new(0);
static REGION_END: AtomicU64 = AtomicU64::new(0);

/// Tells where the hypervisor lies. Called once, before anything can fail.
pub(crate) fn set_region(region: Range<u64>) {
    REGION_START.store(region.start, Ordering::Relaxed);
    REGION_END.store(region.end, Ordering::Relaxed);
}

/// Whether there is a region yet: on the desk there never is.
pub(crate) fn is_region_known() -> bool {
    REGION_END.load(Ordering::Relaxed) != 0
}

/// Whether the hypervisor's memory holds this address.
pub(crate) fn in_region(at: u64) -> bool {
    (REGION_START.load(Ordering::Relaxed)..REGION_END.load(Ordering::Relaxed)).contains(&at)
}

/// An address in the image, shown as the ELF file knows it.
pub(crate) struct Place(pub u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if in_region(self.0) {
            let offset = self.0 - REGION_START.load(Ordering::Relaxed);
            write!(f, "image+{offset:#x}")
        } else {
            f.write_str("outside")
        }
    }
}

/// The frame pointer of who calls this.
#[inline(always)]
pub(crate) fn frame_pointer() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes the return addresses from `frame_pointer` upwards.
pub(crate) fn write(out: &mut dyn Write, mut frame_pointer: u64, rip: u64) {
    let _ = writeln!(out, "backtrace (addresses in underlay.elf):");
    if rip != 0 {
        let _ = writeln!(out, "  {}", Place(rip));
    }
    for _ in 0..DEPTH {
        if !in_region(frame_pointer) || !frame_pointer.is_multiple_of(8) {
            return;
        }
        // SAFETY: the address is aligned and in the hypervisor's region, which
        // is mapped but for guard pages; a broken chain that leads to one of
        // those faults, and the report ends there because it is under way.
        let (next, back) = unsafe {
            let frame = frame_pointer as *const u64;
            (frame.read(), frame.add(1).read())
        };
        let _ = writeln!(out, "  {}", Place(back));
        if next <= frame_pointer {
            return;
        }
        frame_pointer = next;
    }
}
