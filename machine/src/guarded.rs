//! Instructions that may fault because of what a guest asked for, and copies
//! of guest memory: a fault in them ends in `false`, not in a report.
//!
//! Each has an entry in the section `fixups`: the address that may fault and
//! the address to go on at, both relative to the entry's own fields, so that
//! the table needs no relocation.

use crate::instructions::cpuid;
use core::arch::{asm, naked_asm};
use core::sync::atomic::AtomicU32;
use x86::cpuid;

/// RDMSR: EDX:EAX, or None where it faults. Reading an MSR changes nothing
/// that the hypervisor relies on.
pub fn read_msr(number: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: `value` is valid for a write of 8 bytes; a fault is caught.
    let read = unsafe { rdmsr(number, &mut value) };
    (read != 0).then_some(value)
}

/// RDPMC: EDX:EAX, or None where it faults.
pub fn read_counter(number: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: `value` is valid for a write of 8 bytes; a fault is caught.
    let read = unsafe { rdpmc(number, &mut value) };
    (read != 0).then_some(value)
}

/// WRMSR; false where it faults.
///
/// # Safety
/// The register may exist or not, but where the CPU accepts the value, what
/// that changes leaves the hypervisor's own assumptions true.
pub unsafe fn write_msr(number: u32, value: u64) -> bool {
    // SAFETY: as the caller promises; a fault is caught.
    unsafe { wrmsr(number, value) != 0 }
}

/// XSETBV; false where it faults (also where the CPU has no XSAVE). The
/// hypervisor uses no extended state, so any value that the CPU accepts is as
/// good as another for it.
pub fn set_extended_control(index: u32, value: u64) -> bool {
    // SAFETY: a fault is caught, and XCR0 does not change what memory means.
    unsafe { xsetbv(index, value) != 0 }
}

/// VMXOFF; nothing happens where VMX operation is not on.
///
/// # Safety
/// Nothing relies on VMX operation afterwards.
pub unsafe fn vmx_off() {
    // SAFETY: as the caller promises; a fault is caught.
    unsafe { vmxoff() };
}

/// Waits until somebody writes to `word`, unless it is not `seen` any more, and
/// maybe for less. Where the CPU cannot wait for that, it only pauses: the guest
/// may switch MONITOR off at any time, on a CPU that shares its switch with this
/// one, hence the guard.
pub fn wait_for(word: &AtomicU32, seen: u32) {
    let monitors = cpuid(cpuid::FEATURES, 0).ecx & cpuid::ECX1_MONITOR != 0;
    // SAFETY: the reference is valid for reads; MONITOR and MWAIT change no
    // state, and a fault is caught.
    if !monitors || unsafe { monitor_and_wait(word.as_ptr(), seen) } == 0 {
        core::hint::spin_loop();
    }
}

/// Copies `size` bytes; false where a page is absent or the bus refuses.
///
/// # Safety
/// `to` and `from` are each either memory that the hypervisor maps for this
/// purpose, valid for `size` bytes, or addresses that fault.
pub unsafe fn copy(to: *mut u8, from: *const u8, size: usize) -> bool {
    // A caught page fault leaves its address in CR2, which is the guest's.
    let cr2 = crate::instructions::read_cr2();
    // SAFETY: as the caller promises; a fault is caught.
    let copied = unsafe { copy_bytes(to, from, size) != 0 };
    if !copied {
        crate::instructions::write_cr2(cr2);
    }
    copied
}

/// One instruction in its caller's midst, which loads `value`; None where it
/// faults. A walk through page tables does little else.
macro_rules! load_as {
    ($from:expr, $line:literal) => {{
        let (value, loaded): (u64, u32);
        asm!(
            "xor {loaded:e}, {loaded:e}",
            $line,
            "mov {loaded:e}, 1",
            "3:",
            ".pushsection fixups, \"aR\", @progbits",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            from = in(reg) $from,
            value = out(reg) value,
            loaded = out(reg) loaded,
            options(nostack, readonly),
        );
        (loaded != 0).then_some(value)
    }};
}

/// Loads `size` bytes (4 or 8) at `from`, or None where that faults. Aligned ones,
/// as entries of tables are, are loaded in one access.
///
/// # Safety
/// As for [`copy`]; another CPU may write at the same time.
#[inline(always)]
pub unsafe fn load(from: *const u8, size: u64) -> Option<u64> {
    // SAFETY: as the caller promises.
    unsafe {
        match size {
            8 => load_as!(from, "2: mov {value}, [{from}]"),
            _ => load_as!(from, "2: mov {value:e}, [{from}]"),
        }
    }
}

/// The 8 bytes at `from`, or 0 where loading them faults.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
pub unsafe fn load_or_zero(from: *const u8) -> u64 {
    let mut value = 0;
    // SAFETY: as the caller promises; a fault is caught, and has changed nothing.
    unsafe {
        asm!(
            "2: mov {value}, [{from}]",
            "3:",
            ".pushsection fixups, \"aR\", @progbits",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            from = in(reg) from,
            value = inout(reg) value,
            options(nostack, readonly),
        );
    }
    value
}

/// The 16 bytes at `from`, the first lowest; 0 in place of either half where loading
/// it faults.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
pub unsafe fn load_16_or_zero(from: *const u8) -> u128 {
    // SAFETY: as the caller promises.
    let [low, high] = [0, 8].map(|at| u128::from(unsafe { load_or_zero(from.wrapping_add(at)) }));
    high << 64 | low
}

/// The bits in which the 8 bytes at `from` differ from `expected`, which is not
/// 0: all that it has, where reading them faults.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
pub unsafe fn difference(from: *const u8, expected: u64) -> u64 {
    let mut difference = expected;
    // SAFETY: as the caller promises; a fault is caught, and has changed nothing.
    unsafe {
        asm!(
            "2: xor {difference}, [{from}]",
            "3:",
            ".pushsection fixups, \"aR\", @progbits",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            from = in(reg) from,
            difference = inout(reg) difference,
            options(nostack, readonly),
        );
    }
    difference
}

/// Replaces the aligned entry of `size` bytes (4 or 8) at `at` by `new` if it is
/// `old`, in one locked access; false if it is not, or where that faults: a
/// locked access to uncacheable memory may.
///
/// # Safety
/// As for [`copy`]; another CPU may write at the same time.
pub unsafe fn exchange(at: *mut u8, size: u64, old: u64, new: u64) -> bool {
    // SAFETY: as the caller promises; a fault is caught.
    unsafe {
        match size {
            8 => exchange_8(at, old, new) != 0,
            _ => exchange_4(at, old, new) != 0,
        }
    }
}

/// Functions that return what their body leaves in RAX, or 0 after a fault at
/// their label 2.
macro_rules! guarded {
    ($($name:ident($($argument:ident: $kind:ty),*) { $($line:expr,)* })*) => {$(
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name($($argument: $kind),*) -> u64 {
            naked_asm!(
                $($line,)*
                "ret",
                "3: xor eax, eax",
                "ret",
                ".pushsection fixups, \"aR\", @progbits",
                ".long 2b - .",
                ".long 3b - .",
                ".popsection",
            )
        }
    )*};
}
guarded! {
    rdmsr(number: u32, value: *mut u64) {
        "mov ecx, edi",
        "2: rdmsr",
        "shl rdx, 32",
        "or rax, rdx",
        "mov [rsi], rax",
        "mov eax, 1",
    }
    rdpmc(number: u32, value: *mut u64) {
        "mov ecx, edi",
        "2: rdpmc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov [rsi], rax",
        "mov eax, 1",
    }
    wrmsr(number: u32, value: u64) {
        "mov ecx, edi",
        "mov rax, rsi",
        "mov rdx, rsi",
        "shr rdx, 32",
        "2: wrmsr",
        "mov eax, 1",
    }
    xsetbv(index: u32, value: u64) {
        "mov ecx, edi",
        "mov rax, rsi",
        "mov rdx, rsi",
        "shr rdx, 32",
        "2: xsetbv",
        "mov eax, 1",
    }
    vmxoff() {
        "2: vmxoff",
        "mov eax, 1",
    }
    monitor_and_wait(word: *const u32, seen: u32) {
        "mov rax, rdi",
        "xor ecx, ecx",
        "xor edx, edx",
        "4: monitor",
        "cmp dword ptr [rdi], esi",
        "jne 5f",
        "xor eax, eax",
        "2: mwait",
        ".pushsection fixups, \"aR\", @progbits",
        ".long 4b - .",
        ".long 3f - .",
        ".popsection",
        "5: mov eax, 1",
    }
    exchange_4(at: *mut u8, old: u64, new: u64) {
        "mov rax, rsi",
        "2: lock cmpxchg dword ptr [rdi], edx",
        "sete al",
        "movzx eax, al",
    }
    exchange_8(at: *mut u8, old: u64, new: u64) {
        "mov rax, rsi",
        "2: lock cmpxchg qword ptr [rdi], rdx",
        "sete al",
        "movzx eax, al",
    }
    copy_bytes(to: *mut u8, from: *const u8, size: usize) {
        "mov rcx, rdx",
        "shr rcx, 3",
        "4: rep movsq",
        "mov ecx, edx",
        "and ecx, 7",
        "2: rep movsb",
        ".pushsection fixups, \"aR\", @progbits",
        ".long 4b - .",
        ".long 3f - .",
        ".popsection",
        "mov eax, 1",
    }
}

#[repr(C)]
struct Fixup {
    fault: i32,
    resume: i32,
}

unsafe extern "C" {
    #[link_name = "__start_fixups"]
    static FIRST: [Fixup; 0];
    #[link_name = "__stop_fixups"]
    static END: [Fixup; 0];
}

/// Where to go on after a fault at `rip`, if that is a guarded instruction.
pub(crate) fn resume_after(rip: u64) -> Option<u64> {
    // SAFETY: the linker sets both symbols around the section `fixups`, which
    // holds nothing but the entries above; it is read-only.
    let table = unsafe {
        let first = (&raw const FIRST).cast::<Fixup>();
        let end = (&raw const END).cast::<Fixup>();
        core::slice::from_raw_parts(first, end.offset_from(first) as usize)
    };
    let target = |field: &i32| {
        let at = core::ptr::from_ref(field) as u64;
        at.wrapping_add_signed(i64::from(*field))
    };
    let found = table.iter().find(|fixup| target(&fixup.fault) == rip)?;
    Some(target(&found.resume))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_the_same_do_not_differ() {
        let word = 0x1234_5678_9abc_def0_u64;
        let at = core::ptr::from_ref(&word).cast();
        for expected in [word, word ^ 1, word ^ 1 << 63] {
            // SAFETY: it is a word of this function's.
            let found = unsafe { difference(at, expected) };
            assert_eq!(found, word ^ expected);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { load_or_zero(at) }, word);
    }
}
