//! The registers that no entry and no exit switches: x87, vector and other
//! extended state with XCR0, the breakpoint registers, CR2, and some MSRs. The
//! hypervisor uses none of them, so that they are the guest's as long as the
//! guest runs, and are exchanged around a child's.

use super::pages::Block;
use crate::{guarded, instructions};
use core::arch::asm;
use core::marker::PhantomData;
use x86::{PAGE_SIZE, cpuid};

/// MSRs that a vendor's entries and exits do not switch.
pub trait Unswitched {
    /// Their numbers.
    const NUMBERS: &'static [u32];
    /// Whether this CPU has them. CPUs of one machine are alike.
    fn are_there() -> bool;
    /// Whether XSAVE and XRSTOR may leave the addresses of the last x87 instruction and
    /// of its operand as they are.
    const FORGETS_POINTERS: bool;
}

/// The most of a vendor's.
const MSRS_MAX: usize = 5;

/// Extended state in memory begins so after a reset: MXCSR has all exceptions
/// masked. Intel SDM volume 1, "Standard XRSTOR".
const MXCSR_OFFSET: u64 = 24;
const MXCSR_RESET: u32 = 0x1f80;

/// IA32_XFD, where CPUID leaf 0xD has it: XSAVE and XRSTOR would skip what it
/// disables.
const XFD: u32 = 0x1c4;
const EAX_D1_XFD: u32 = 1 << 4;

/// One side's registers while the other's are in the CPU.
#[derive(Debug)]
pub struct Extended<U> {
    area: Block,
    /// XCR0.
    pub xcr0: u64,
    /// DR0 to DR3, DR6.
    pub debug: [u64; 5],
    /// CR2.
    pub cr2: u64,
    /// The MSRs, in the order of the vendor's list.
    pub msrs: [u64; MSRS_MAX],
    has_msrs: bool,
    of: PhantomData<U>,
    xfd: u64,
    /// All that XCR0 can have on this CPU, and whether it has IA32_XFD. CPUs of
    /// one machine are alike.
    all: u64,
    has_xfd: bool,
}

/// Whether this CPU can exchange them: the hypervisor's CR4 has OSXSAVE then.
pub(crate) fn is_possible() -> bool {
    instructions::cpuid(cpuid::FEATURES, 0).ecx & cpuid::ECX1_XSAVE != 0
}

/// All that XCR0 can have on this CPU.
fn all() -> u64 {
    let leaf = instructions::cpuid(cpuid::EXTENDED_STATE, 0);
    u64::from(leaf.edx) << 32 | u64::from(leaf.eax)
}

fn has_xfd() -> bool {
    instructions::cpuid(cpuid::EXTENDED_STATE, 1).eax & EAX_D1_XFD != 0
}

fn debug_register(number: u8) -> u8 {
    if number == 4 { 6 } else { number }
}

impl<U: Unswitched> Extended<U> {
    /// Registers as after a reset.
    pub(crate) fn new() -> Option<Self> {
        let bytes = instructions::cpuid(cpuid::EXTENDED_STATE, 0).ecx;
        let area = Block::take((u64::from(bytes)).div_ceil(PAGE_SIZE).max(1) as usize)?;
        let mxcsr = (area.base() + MXCSR_OFFSET) as *mut u32;
        // SAFETY: within the block's first page, which is nobody else's.
        unsafe { mxcsr.write(MXCSR_RESET) };
        Some(Self {
            area,
            xcr0: 1,
            debug: [0, 0, 0, 0, 0xffff_0ff0],
            cr2: 0,
            msrs: [0; MSRS_MAX],
            has_msrs: U::are_there(),
            of: PhantomData,
            xfd: 0,
            all: all(),
            has_xfd: has_xfd(),
        })
    }

    /// Takes these registers out of the CPU and puts `other`'s into it; what both
    /// have alike is left as it is. All extended state is switched on in between,
    /// so that none of it, used or not, is left for the other side. The breakpoint
    /// registers stay unless `debug`.
    #[inline(never)]
    pub(crate) fn exchange(&mut self, other: &Self, debug: bool) {
        self.xcr0 = read_xcr0();
        if self.has_xfd {
            self.disable_xfd();
        }
        if self.xcr0 != self.all {
            guarded::set_extended_control(0, self.all);
        }
        // SAFETY: CR4.OSXSAVE is set, TS and EM of CR0 are clear, and the blocks
        // are aligned to a page and as large as CPUID says for all of XCR0. What
        // XSAVE wrote, and zeros with a valid MXCSR, are what XRSTOR takes.
        unsafe {
            asm!("xsave64 [{}]", in(reg) self.area.base(), in("eax") u32::MAX,
                 in("edx") u32::MAX, options(nostack, preserves_flags));
            if U::FORGETS_POINTERS {
                asm!("fninit", options(nomem, nostack, preserves_flags));
            }
            asm!("xrstor64 [{}]", in(reg) other.area.base(), in("eax") u32::MAX,
                 in("edx") u32::MAX, options(nostack, preserves_flags));
        }
        if other.xcr0 != self.all {
            guarded::set_extended_control(0, other.xcr0);
        }
        if other.xfd != 0 {
            // SAFETY: what the register held before; it disables state alone.
            unsafe { guarded::write_msr(XFD, other.xfd) };
        }
        self.cr2 = instructions::read_cr2();
        instructions::write_cr2(other.cr2);
        if debug {
            self.exchange_debug(other);
        }
        if self.has_msrs {
            self.exchange_msrs(other);
        }
    }

    #[inline(always)]
    fn exchange_debug(&mut self, other: &Self) {
        for (number, (own, value)) in (0..).zip(self.debug.iter_mut().zip(&other.debug)) {
            let number = debug_register(number);
            *own = instructions::read_debug_register(number);
            if own != value {
                instructions::write_debug_register(number, *value);
            }
        }
    }

    #[inline(always)]
    fn exchange_msrs(&mut self, other: &Self) {
        let pairs = self.msrs.iter_mut().zip(&other.msrs);
        for (number, (own, value)) in U::NUMBERS.iter().zip(pairs) {
            // SAFETY: this CPU has all of them. They mean nothing to the
            // hypervisor, and hold what they held before, or what a program set
            // and `State::is_loadable` found to be good.
            unsafe {
                *own = instructions::read_msr(*number);
                if own != value {
                    instructions::write_msr(*number, *value);
                }
            }
        }
    }

    #[cold]
    fn disable_xfd(&mut self) {
        // SAFETY: CPUID says that the register exists; nothing is disabled.
        unsafe {
            self.xfd = instructions::read_msr(XFD);
            instructions::write_msr(XFD, 0);
        }
    }
}

/// XCR0 of this CPU, whose CR4.OSXSAVE is set.
pub(crate) fn read_xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: CR4.OSXSAVE is set, which `is_possible` was asked for.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high,
             options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}
