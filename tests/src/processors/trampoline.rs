//! Where a start-up IPI leads: from real mode to 64-bit code.
//!
//! An NMI may come at any of its instructions. The first page of memory is both
//! the real-mode vector table and, from the moment at which long mode is on, an
//! interrupt descriptor table: its words for vector 2 and its gate 2 do not
//! overlap. The handler in real mode returns at once. That in long mode begins
//! the 64-bit part anew: until then CS has the selector of real mode, to which
//! nobody can return. Intel SDM volume 3, "MP Initialization Protocol Algorithm
//! for MP Systems".

use super::{MAX, NMI, STACK_SHIFT, STACKS};
use crate::attempt::gate;
use crate::cpu::{rdmsr, read_cr0, read_cr3, read_cr4};
use crate::linear::Table;
use alloc::boxed::Box;
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use uefi::boot::{self, AllocateType, MemoryType};

const EFER: u32 = 0xc000_0080;
const EFER_LMA: u64 = 1 << 10;
const EFER_SCE_NXE: u64 = 1 << 11 | 1;
/// Where the parameters are in the page.
const PARAMETERS: usize = 0x200;

#[repr(C, packed)]
#[derive(Clone, Copy, Default)]
struct TableRegister {
    limit: u16,
    base: u64,
}

/// What the code reads. The far pointer's selector follows its offset.
#[repr(C)]
struct Parameters {
    cr0: u32,
    cr3: u32,
    cr4: u32,
    efer: u32,
    far_offset: u32,
    far_selector: u16,
    data: u16,
    roots: [u64; MAX],
    stacks: u64,
    arrive: u64,
    segments: TableRegister,
    gates: TableRegister,
}

unsafe extern "C" {
    static startup_begin: u8;
    static startup_long: u8;
    static startup_real_return: u8;
    static startup_long_nmi: u8;
    static startup_end: u8;
}

fn offset(symbol: *const u8) -> u64 {
    // SAFETY: both are in the same block of code.
    unsafe { symbol.offset_from_unsigned(&raw const startup_begin) as u64 }
}

/// Copies the code to a page below 1 MiB and returns that. All CPUs, this one as
/// well, get `gates` as interrupt descriptors: the firmware's, but for NMIs.
pub fn place(
    gates: &'static mut Table,
    arrive: unsafe extern "sysv64" fn(usize) -> !,
    on_nmi: unsafe extern "sysv64" fn(),
) -> u64 {
    let below = AllocateType::MaxAddress(0xf_ffff);
    let page = boot::allocate_pages(below, MemoryType::LOADER_CODE, 1).expect("low memory");
    let page = page.as_ptr();
    let gates = load_gates(gates, on_nmi);
    // SAFETY: the page is ours, and longer than the code and the parameters;
    // the first page of memory has nothing that the firmware needs: it runs in
    // long mode with tables of its own.
    unsafe {
        let size = offset(&raw const startup_end) as usize;
        assert!(size <= PARAMETERS, "the trampoline is too long");
        core::ptr::copy_nonoverlapping(&raw const startup_begin, page, size);
        let parameters = parameters(page as u64, gates, arrive);
        page.add(PARAMETERS).cast::<Parameters>().write(parameters);
    }
    write_first_page(page as u64);
    page as u64
}

/// The firmware's table may lie anywhere.
fn load_gates(gates: &'static mut Table, on_nmi: unsafe extern "sysv64" fn()) -> TableRegister {
    let mut firmware = TableRegister::default();
    // SAFETY: the firmware's table is readable; ours leads where that does, but
    // for NMIs, and is never freed.
    unsafe {
        asm!("sidt [{}]", in(reg) &mut firmware, options(nostack));
        let count = (usize::from(firmware.limit) + 1) / 8;
        let found = core::slice::from_raw_parts(firmware.base as *const u64, count.min(512));
        gates.0[..found.len()].copy_from_slice(found);
        let own = gate(on_nmi as *const () as u64, gates.0[0] & 0xffff_0000);
        gates.0[2 * NMI..2 * NMI + 2].copy_from_slice(&own);
        let register = TableRegister {
            limit: 4095,
            base: gates.0.as_ptr() as u64,
        };
        asm!("lidt [{}]", in(reg) &register, options(readonly, nostack));
        register
    }
}

unsafe fn parameters(
    page: u64,
    gates: TableRegister,
    arrive: unsafe extern "sysv64" fn(usize) -> !,
) -> Parameters {
    let mut segments = TableRegister::default();
    let (code, data): (u16, u16);
    // SAFETY: reads registers.
    let efer = unsafe {
        asm!("sgdt [{}]", in(reg) &mut segments, options(nostack));
        asm!("mov {:x}, cs", out(reg) code, options(nomem, nostack));
        asm!("mov {:x}, ss", out(reg) data, options(nomem, nostack));
        rdmsr(EFER)
    };
    let root = read_cr3();
    Parameters {
        cr0: read_cr0() as u32,
        cr3: root as u32,
        cr4: read_cr4() as u32,
        efer: (efer & !EFER_LMA | EFER_SCE_NXE) as u32,
        far_offset: (page + offset(&raw const startup_long)) as u32,
        far_selector: code,
        data,
        // SAFETY: the firmware maps its tables.
        roots: core::array::from_fn(|_| unsafe { copy_of_root(root) }),
        stacks: STACKS.0.get() as u64,
        arrive: arrive as *const () as u64,
        segments,
        gates,
    }
}

unsafe fn copy_of_root(root: u64) -> u64 {
    // SAFETY: as the caller promises.
    let entries = unsafe { *((root & !0xfff) as *const [u64; 512]) };
    Box::leak(Box::new(Table(entries))).0.as_ptr() as u64
}

fn write_first_page(page: u64) {
    let real = (page >> 4) << 16 | offset(&raw const startup_real_return);
    let code: u16;
    // SAFETY: reads a register; the words are those of vector 2, see above. The
    // address is not null for the instructions.
    unsafe {
        asm!("mov {:x}, cs", out(reg) code, options(nomem, nostack));
        let handler = page + offset(&raw const startup_long_nmi);
        let long = gate(handler, u64::from(code) << 16);
        asm!(
            "mov [{at} + 8], {real:e}",
            "mov [{at} + 32], {low}",
            "mov [{at} + 40], {high}",
            at = in(reg) 0u64,
            real = in(reg) real,
            low = in(reg) long[0],
            high = in(reg) long[1],
            options(nostack),
        );
    }
}

// RBX stays 128 times the CPU's number, for the 64-bit part to begin anew.
// Each CPU has 128 bytes of the first page for an NMI's frame, by its number.
global_asm!(
    r#"
    .balign 16
    .globl startup_begin
    .globl startup_long
    .globl startup_real_return
    .globl startup_long_nmi
    .globl startup_end
    .code16
startup_begin:
    cli
    cld
    xor ax, ax
    mov ss, ax
    mov sp, 0xf80
    mov ax, cs
    mov ds, ax
    mov eax, 1
    cpuid
    shr ebx, 24
    shl ebx, 7
    mov esp, 0xc80
    add esp, ebx
    .byte 0x66, 0x0f, 0x01, 0x16
    .word {segments}
    mov eax, dword ptr ds:[{cr4}]
    mov cr4, eax
    mov eax, dword ptr ds:[{cr3}]
    mov cr3, eax
    mov ecx, 0xc0000080
    mov eax, dword ptr ds:[{efer}]
    xor edx, edx
    wrmsr
    mov eax, dword ptr ds:[{cr0}]
    mov cr0, eax
    .byte 0x66, 0xff, 0x2e
    .word {far}
startup_real_return:
    iret
    .code64
startup_long:
    mov ax, word ptr [rip + startup_begin + {data}]
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov edi, ebx
    shr edi, 7
    lea rax, [rip + startup_begin + {roots}]
    mov rax, [rax + 8 * rdi]
    mov cr3, rax
    mov rax, rdi
    shl rax, {shift}
    add rax, [rip + startup_begin + {stacks}]
    mov rsp, rax
    lidt [rip + startup_begin + {gates}]
    call [rip + startup_begin + {arrive}]
startup_long_nmi:
    mov ax, word ptr [rip + startup_begin + {data}]
    movzx eax, ax
    push rax
    lea eax, [rbx + 0xc80]
    push rax
    pushfq
    mov eax, cs
    push rax
    lea rax, [rip + startup_long]
    push rax
    iretq
startup_end:
"#,
    segments = const PARAMETERS + offset_of!(Parameters, segments),
    cr0 = const PARAMETERS + offset_of!(Parameters, cr0),
    cr3 = const PARAMETERS + offset_of!(Parameters, cr3),
    cr4 = const PARAMETERS + offset_of!(Parameters, cr4),
    efer = const PARAMETERS + offset_of!(Parameters, efer),
    far = const PARAMETERS + offset_of!(Parameters, far_offset),
    data = const PARAMETERS + offset_of!(Parameters, data),
    roots = const PARAMETERS + offset_of!(Parameters, roots),
    stacks = const PARAMETERS + offset_of!(Parameters, stacks),
    arrive = const PARAMETERS + offset_of!(Parameters, arrive),
    gates = const PARAMETERS + offset_of!(Parameters, gates),
    shift = const STACK_SHIFT,
);
