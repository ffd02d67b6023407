//! Single instructions. One that can neither fault nor change what memory
//! means is a safe function; the others say what their caller must know.

use core::arch::asm;
use x86::cpuid::Leaf;

/// CPUID. Neither faults nor changes anything at CPL 0.
#[inline]
pub fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
    let (eax, ebx, ecx, edx): (u64, u64, u64, u64);
    // SAFETY: CPUID changes the four registers only, whose upper halves it
    // clears; the compiler keeps RBX to itself, so it is put back.
    unsafe {
        asm!(
            "mov {rbx}, rbx",
            "cpuid",
            "xchg {rbx}, rbx",
            rbx = out(reg) ebx,
            inout("rax") u64::from(leaf) => eax,
            inout("rcx") u64::from(subleaf) => ecx,
            out("rdx") edx,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: see above.
    unsafe {
        Leaf {
            eax: half(eax),
            ebx: half(ebx),
            ecx: half(ecx),
            edx: half(edx),
        }
    }
}

/// A register whose upper half an instruction cleared, which the compiler is
/// told: it would clear it again.
///
/// # Safety
/// The upper half is 0.
#[inline(always)]
unsafe fn half(register: u64) -> u32 {
    // SAFETY: as the caller promises.
    unsafe { core::hint::assert_unchecked(register <= u64::from(u32::MAX)) };
    register as u32
}

/// RDTSC: ticks of the time-stamp counter.
#[inline]
pub fn read_tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC at CPL 0 does not fault and touches nothing but EDX:EAX.
    unsafe {
        asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// WBINVD: writes all caches back and empties them. Slow, never wrong.
pub fn write_back_caches() {
    // SAFETY: memory keeps its contents; WBINVD does not fault at CPL 0.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
}

/// Halts this CPU for good: nothing wakes it but INIT or reset, because
/// interrupts are off and an NMI or SMI only leads back here.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: with interrupts off HLT only waits.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Ends the blocking of NMIs that an exit caused by one leaves behind, by an
/// IRET to the next instruction. Intel SDM volume 3, "Updating Non-Register
/// State" under "VM Exits": only IRET ends it in the hypervisor; that VM entry
/// with virtual NMIs does, too, is what the controls' description promises and
/// Bochs 2.7 does not do.
pub fn unblock_nmis() {
    // SAFETY: the frame is the current CS, RFLAGS, RSP and SS with the address
    // of the next instruction, so that nothing changes but the blocking. An NMI
    // that comes at once is noted by its handler.
    unsafe {
        asm!(
            "mov {rsp}, rsp",
            "mov {selector:x}, ss",
            "push {selector}",
            "push {rsp}",
            "pushfq",
            "mov {selector:x}, cs",
            "push {selector}",
            "lea {rsp}, [rip + 2f]",
            "push {rsp}",
            "iretq",
            "2:",
            rsp = out(reg) _,
            selector = inout(reg) 0u64 => _,
        );
    }
}

/// RDMSR of a register that is known to exist.
///
/// # Safety
/// The CPU has MSR `number` (else #GP stops the hypervisor).
pub unsafe fn read_msr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller knows that the register exists; reading it changes
    // nothing.
    unsafe {
        asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high,
             options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR of a register that is known to exist and to accept the value.
///
/// # Safety
/// The CPU has MSR `number`, accepts `value`, and what that changes leaves the
/// hypervisor's own assumptions true.
pub unsafe fn write_msr(number: u32, value: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

macro_rules! read_register {
    ($($name:ident $register:literal;)*) => {$(
        #[doc = concat!("The value of ", $register, ".")]
        #[inline]
        pub fn $name() -> u64 {
            let value: u64;
            // SAFETY: reading a control or debug register at CPL 0 does not
            // fault (CR4.DE and DR7.GD are clear in the hypervisor) and
            // changes nothing.
            unsafe {
                asm!(concat!("mov {}, ", $register), out(reg) value,
                     options(nomem, nostack, preserves_flags));
            }
            value
        }
    )*};
}
read_register! {
    read_cr0 "cr0";
    read_cr2 "cr2";
    read_cr3 "cr3";
    read_cr4 "cr4";
    read_dr7 "dr7";
}

/// Writes CR2. It means nothing but to who handles a page fault.
#[inline]
pub fn write_cr2(value: u64) {
    // SAFETY: CR2 takes any value and decides over nothing.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// Writes CR0.
///
/// # Safety
/// Paging and protection stay on, and `value` obeys the CPU's rules for CR0.
pub unsafe fn write_cr0(value: u64) {
    // SAFETY: as the caller promises.
    unsafe { asm!("mov cr0, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Writes CR4.
///
/// # Safety
/// `value` keeps the paging mode and sets only bits that the CPU has.
pub unsafe fn write_cr4(value: u64) {
    // SAFETY: as the caller promises.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// PKRU: the protection-key rights that the guest left in the CPU. 0 where
/// `enabled` (the hypervisor's own CR4.PKE) is false.
pub fn read_pkru(enabled: bool) -> u32 {
    if !enabled {
        return 0;
    }
    let value: u32;
    // SAFETY: CR4.PKE is set, so RDPKRU does not fault; it reads only.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _,
             options(nomem, nostack, preserves_flags));
    }
    value
}

/// Reads a byte from an I/O port.
///
/// # Safety
/// Reading the port has no effect that anybody minds.
pub unsafe fn read_port(port: u16) -> u8 {
    let value: u8;
    // SAFETY: as the caller promises; IN touches no memory.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value,
             options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes a byte to an I/O port.
///
/// # Safety
/// What the device does with it leaves the hypervisor's memory alone.
pub unsafe fn write_port(port: u16, value: u8) {
    // SAFETY: as the caller promises.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value,
             options(nomem, nostack, preserves_flags));
    }
}

/// Reads 1, 2 or 4 bytes from an I/O port.
///
/// # Safety
/// As for [`read_port`].
pub unsafe fn read_port_sized(port: u16, size: u8) -> u32 {
    let value: u32;
    // SAFETY: as the caller promises; IN touches no memory.
    unsafe {
        match size {
            1 => value = u32::from(read_port(port)),
            2 => asm!("in ax, dx", "movzx eax, ax", in("dx") port, out("eax") value,
                      options(nomem, nostack, preserves_flags)),
            _ => asm!("in eax, dx", in("dx") port, out("eax") value,
                      options(nomem, nostack, preserves_flags)),
        }
    }
    value
}

/// Writes 1, 2 or 4 bytes to an I/O port.
///
/// # Safety
/// As for [`write_port`].
pub unsafe fn write_port_sized(port: u16, size: u8, value: u32) {
    // SAFETY: as the caller promises.
    unsafe {
        match size {
            1 => write_port(port, value as u8),
            2 => asm!("out dx, ax", in("dx") port, in("ax") value as u16,
                      options(nomem, nostack, preserves_flags)),
            _ => asm!("out dx, eax", in("dx") port, in("eax") value,
                      options(nomem, nostack, preserves_flags)),
        }
    }
}

macro_rules! breakpoint_registers {
    ($($number:literal $register:literal)*) => {
        /// DR0 to DR3, or DR6 for any other number. They are the guest's at
        /// all times: the hypervisor's DR7 has no breakpoint enabled.
        pub fn read_debug_register(number: u8) -> u64 {
            let value: u64;
            // SAFETY: reading a debug register at CPL 0 does not fault
            // (DR7.GD is clear in the hypervisor) and changes nothing.
            unsafe {
                match number {
                    $($number => asm!(concat!("mov {}, ", $register), out(reg) value,
                                      options(nomem, nostack, preserves_flags)),)*
                    _ => asm!("mov {}, dr6", out(reg) value,
                              options(nomem, nostack, preserves_flags)),
                }
            }
            value
        }

        /// Writes DR0 to DR3, or DR6 for any other number, whose upper half is
        /// left out.
        pub fn write_debug_register(number: u8, value: u64) {
            // SAFETY: no breakpoint is enabled while the hypervisor runs, and
            // DR6 faults for its upper half alone.
            unsafe {
                match number {
                    $($number => asm!(concat!("mov ", $register, ", {}"), in(reg) value,
                                      options(nomem, nostack, preserves_flags)),)*
                    _ => asm!("mov dr6, {}", in(reg) value & 0xffff_ffff,
                              options(nomem, nostack, preserves_flags)),
                }
            }
        }
    };
}
breakpoint_registers! { 0 "dr0" 1 "dr1" 2 "dr2" 3 "dr3" }

/// Clears DR0 to DR3.
pub fn reset_debug_registers() {
    for number in 0..4 {
        write_debug_register(number, 0);
    }
}

/// Resets the machine as a triple fault does natively: by the chipset's reset
/// register, else by the keyboard controller, else by a triple fault here.
pub fn reset_machine() -> ! {
    // SAFETY: the machine is to be reset: no state matters after this. An IDT
    // of limit 0 makes the next exception a triple fault.
    unsafe {
        write_port(0xcf9, 0x02);
        write_port(0xcf9, 0x06);
        write_port(0x64, 0xfe);
        let no_idt = [0u16; 5];
        asm!("lidt [{}]", "int3", in(reg) &no_idt, options(nostack));
    }
    halt_forever()
}
