//! Instructions that a guest at CPL 0 tries out. Those that may fault are to
//! be used inside [`crate::attempt()`].
//!
//! The functions are unsafe where the instruction can change what the firmware
//! beneath the test relies on; a guest restores what it changes.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};

/// CPUID of a leaf, subleaf 0.
pub fn cpuid(leaf: u32) -> CpuidResult {
    cpuid_count(leaf, 0)
}

/// CPUID of a leaf and subleaf.
#[allow(unused_unsafe)] // Newer compilers know that CPUID is safe.
pub fn cpuid_count(leaf: u32, subleaf: u32) -> CpuidResult {
    // SAFETY: every x86-64 CPU has CPUID, and it changes nothing.
    unsafe { __cpuid_count(leaf, subleaf) }
}

/// A register of a CPUID leaf.
#[derive(Clone, Copy, Debug)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// Whether CPUID has `bit` set in a leaf, subleaf 0; false if the leaf is above
/// the highest.
pub fn feature(leaf: u32, register: Register, bit: u32) -> bool {
    let highest = cpuid(leaf & 0x8000_0000).eax;
    let leaf = cpuid(if leaf <= highest { leaf } else { return false });
    let word = match register {
        Register::Eax => leaf.eax,
        Register::Ebx => leaf.ebx,
        Register::Ecx => leaf.ecx,
        Register::Edx => leaf.edx,
    };
    word >> bit & 1 == 1
}

/// Whether this is a CPU with VT-x (by its vendor), else one with AMD-V.
pub fn is_intel() -> bool {
    cpuid(0).ebx == u32::from_le_bytes(*b"Genu")
}

/// Waits for ever, interrupts as they are.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: HLT changes nothing.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

/// IN from a byte port.
///
/// # Safety
///
/// Reading the port must not disturb a device that somebody else drives.
pub unsafe fn inb(port: u16) -> u8 {
    let value;
    // SAFETY: by the caller's contract.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}

/// OUT to a byte port.
///
/// # Safety
///
/// Writing the port must not disturb a device that somebody else drives.
pub unsafe fn outb(port: u16, value: u8) {
    // SAFETY: by the caller's contract.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// OUT to a port of 16 bits.
///
/// # Safety
///
/// Writing the port must not disturb a device that somebody else drives.
pub unsafe fn outw(port: u16, value: u16) {
    // SAFETY: by the caller's contract.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack)) };
}

/// RDMSR; #GP if there is no such MSR.
///
/// # Safety
///
/// Inside [`crate::attempt()`], unless the MSR is known to exist.
pub unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR changes nothing but may fault, as the caller knows.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR; #GP if there is no such MSR or the value is reserved.
///
/// # Safety
///
/// Inside [`crate::attempt()`], and the value must not take away what the
/// program and the firmware rely on.
pub unsafe fn wrmsr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: by the caller's contract.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack)) };
}

/// XGETBV of XCR0; #UD unless CR4.OSXSAVE is set.
///
/// # Safety
///
/// Inside [`crate::attempt()`], or with CR4.OSXSAVE set.
pub unsafe fn xgetbv() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading XCR0 changes nothing but may fault, as the caller knows.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// XSETBV of any XCR; #GP if the value is reserved.
///
/// # Safety
///
/// Inside [`crate::attempt()`]; components must not be switched off while
/// compiled code uses them.
pub unsafe fn xsetbv(register: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: by the caller's contract.
    unsafe { asm!("xsetbv", in("ecx") register, in("eax") low, in("edx") high, options(nostack)) };
}

macro_rules! control_register {
    ($read:ident, $write:ident, $name:literal) => {
        #[doc = concat!("Reads ", $name, ".")]
        pub fn $read() -> u64 {
            let value;
            // SAFETY: a guest runs at CPL 0, where reading cannot fault.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nomem, nostack)) };
            value
        }
        #[doc = concat!("Writes ", $name, "; #GP if the value is reserved.")]
        ///
        /// # Safety
        ///
        /// Inside [`crate::attempt()`] unless the value is known to be good,
        /// and it must not take away what the program relies on.
        pub unsafe fn $write(value: u64) {
            // SAFETY: by the caller's contract.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack)) };
        }
    };
}
control_register!(read_cr0, write_cr0, "cr0");
control_register!(read_cr3, write_cr3, "cr3");
control_register!(read_cr4, write_cr4, "cr4");
