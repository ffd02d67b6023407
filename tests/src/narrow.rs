//! Running one instruction with all registers given in 16-bit or 32-bit code:
//! in compatibility mode, with segments whose bases are not 0.

use crate::native::State;
use alloc::vec::Vec;
use core::arch::{asm, global_asm};
use core::mem::transmute;
use uefi::boot::{self, AllocateType, MemoryType};

/// Where the way down and back lies: code that the three modes share.
const BASE: u64 = 0x2_0000;
/// The stack of that code ends here.
const STACK: u64 = BASE + 0x1000;
/// Offset of the instruction in its page; in 16-bit code in its segment.
const INSTRUCTION: u64 = 0x100;

const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
const CODE_16: u64 = 0x0000_9b00_0000_ffff;
const DATA_32: u64 = 0x00cf_9300_0000_ffff;
const DATA_16: u64 = 0x0000_9300_0000_ffff;

/// What the code works on, at the end of the copied block.
#[repr(C)]
#[derive(Clone, Copy)]
struct Block {
    registers: [u32; 8],
    flags: u32,
    /// ES, SS, DS, FS, GS of the instruction; then a flat data segment.
    selectors: [u16; 6],
    /// Where the instruction is: offset and selector.
    target: u32,
    target_selector: u16,
    /// The 32-bit code segment.
    code: u16,
}

unsafe extern "C" {
    static narrow_start: u8;
    static narrow_back: u8;
    static narrow_block: u8;
    static narrow_end: u8;
}

#[repr(C, packed)]
struct TableRegister {
    limit: u16,
    base: u64,
}

/// A place for instructions of one width.
pub struct Narrow {
    bits: u32,
    page: u64,
    /// The firmware's descriptors, and ours behind them.
    table: Vec<u64>,
    first: usize,
}

fn with_base(descriptor: u64, base: u64) -> u64 {
    descriptor | (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56
}

impl Narrow {
    /// A place for instructions of `bits` in `page`, with segments at `bases`:
    /// ES, CS, SS, DS, FS, GS. None if low memory is taken.
    pub fn new(bits: u32, page: u64, bases: [u64; 6]) -> Option<Self> {
        let mut table = firmware_descriptors();
        let first = table.len();
        let data = if bits == 16 { DATA_16 } else { DATA_32 };
        table.extend([CODE_32, with_base(CODE_16, page), DATA_32]);
        table.extend(bases.map(|base| with_base(data, base)));
        let narrow = Self {
            bits,
            page,
            table,
            first,
        };
        narrow.copy_block()?;
        Some(narrow)
    }

    fn selector(&self, number: usize) -> u16 {
        ((self.first + number) * 8) as u16
    }

    fn copy_block(&self) -> Option<()> {
        let place = AllocateType::Address(BASE);
        // A second of these finds the first one's pages taken, by itself.
        let _ = boot::allocate_pages(place, MemoryType::LOADER_CODE, 2);
        // SAFETY: the pages are ours; between the symbols are code and data.
        unsafe {
            let start = &raw const narrow_start;
            let size = (&raw const narrow_end).offset_from_unsigned(start);
            core::ptr::copy_nonoverlapping(start, BASE as *mut u8, size);
        }
        let block = Block {
            registers: [0; 8],
            flags: 0,
            selectors: [3, 5, 6, 7, 8, 2].map(|number| self.selector(number)),
            target: (self.page * u64::from(self.bits == 32) + INSTRUCTION) as u32,
            target_selector: self.selector(usize::from(self.bits == 16)),
            code: self.selector(0),
        };
        // SAFETY: as above.
        unsafe { self.block().write_volatile(block) };
        Some(())
    }

    fn block(&self) -> *mut Block {
        (BASE + offset_of(&raw const narrow_block)) as *mut Block
    }

    /// Puts `instruction` and the way back behind it into the page.
    ///
    /// # Safety
    ///
    /// The page is nobody else's.
    pub unsafe fn place(&self, instruction: &[u8]) {
        let back = (BASE + offset_of(&raw const narrow_back)) as u32;
        let at = (self.page + INSTRUCTION) as *mut u8;
        let mut way_back = [0x66, 0xea, 0, 0, 0, 0, 0, 0];
        way_back[2..6].copy_from_slice(&back.to_le_bytes());
        way_back[6..].copy_from_slice(&self.selector(0).to_le_bytes());
        // The prefix makes the offset one of 32 bits in 16-bit code.
        let way_back = &way_back[usize::from(self.bits == 32)..];
        // SAFETY: as the caller promises.
        unsafe {
            at.copy_from_nonoverlapping(instruction.as_ptr(), instruction.len());
            let behind = at.add(instruction.len());
            behind.copy_from_nonoverlapping(way_back.as_ptr(), way_back.len());
        }
    }

    /// Runs what was placed. The upper halves of registers do not count.
    ///
    /// # Safety
    ///
    /// As for [`crate::native::run`].
    pub unsafe fn run(&self, state: &mut State) {
        let block = self.block();
        let own = TableRegister {
            limit: (self.table.len() * 8 - 1) as u16,
            base: self.table.as_ptr() as u64,
        };
        let mut firmware = TableRegister { limit: 0, base: 0 };
        // SAFETY: the table has the firmware's descriptors at their places; the
        // code, called at its start, comes back with the machine as it was.
        unsafe {
            for number in 0..8 {
                (*block).registers[number] = state.registers[number] as u32;
            }
            (*block).flags = state.flags as u32;
            let enter: unsafe extern "sysv64" fn() = transmute(BASE);
            asm!("sgdt [{}]", in(reg) &raw mut firmware, options(nostack));
            asm!("lgdt [{}]", in(reg) &raw const own, options(nostack));
            enter();
            asm!("lgdt [{}]", in(reg) &raw const firmware, options(nostack));
            for number in 0..8 {
                state.registers[number] = u64::from((*block).registers[number]);
            }
            state.flags = u64::from((*block).flags);
        }
    }
}

fn offset_of(symbol: *const u8) -> u64 {
    symbol as u64 - &raw const narrow_start as u64
}

fn firmware_descriptors() -> Vec<u64> {
    let mut register = TableRegister { limit: 0, base: 0 };
    // SAFETY: the firmware's table is readable as far as its limit says.
    unsafe {
        asm!("sgdt [{}]", in(reg) &raw mut register, options(nostack));
        let count = (usize::from(register.limit) + 1) / 8;
        core::slice::from_raw_parts(register.base as *const u64, count).to_vec()
    }
}

// 64-bit code, 32-bit code, the instruction, 32-bit code, 64-bit code. In the
// middle the block is read through CS, which is flat, because all data segments
// are already the instruction's.
global_asm!(
    r#"
    .balign 16
    .globl narrow_start
    .globl narrow_back
    .globl narrow_block
    .globl narrow_end
narrow_start:
    .code64
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + narrow_rsp], rsp
    mov eax, cs
    mov [rip + narrow_cs], eax
    mov eax, ds
    mov [rip + narrow_ds], eax
    mov eax, ss
    mov [rip + narrow_ss], eax
    movzx eax, word ptr [rip + narrow_code]
    push rax
    lea rax, [rip + narrow_down]
    push rax
    retfq

    .code32
narrow_down:
    mov ss, word ptr cs:[{base} + at_flat]
    mov esp, {stack}
    push dword ptr cs:[{base} + at_flags]
    popfd
    mov es, word ptr cs:[{base} + at_selectors]
    mov ss, word ptr cs:[{base} + at_selectors + 2]
    mov ds, word ptr cs:[{base} + at_selectors + 4]
    mov fs, word ptr cs:[{base} + at_selectors + 6]
    mov gs, word ptr cs:[{base} + at_selectors + 8]
    mov eax, cs:[{base} + at_block]
    mov ecx, cs:[{base} + at_block + 4]
    mov edx, cs:[{base} + at_block + 8]
    mov ebx, cs:[{base} + at_block + 12]
    mov esp, cs:[{base} + at_block + 16]
    mov ebp, cs:[{base} + at_block + 20]
    mov esi, cs:[{base} + at_block + 24]
    mov edi, cs:[{base} + at_block + 28]
    // JMP FAR CS:[target]
    .byte 0x2e, 0xff, 0x2d
    .long {base} + at_target

narrow_back:
    mov ds, word ptr cs:[{base} + at_flat]
    mov [{base} + at_block], eax
    mov [{base} + at_block + 4], ecx
    mov [{base} + at_block + 8], edx
    mov [{base} + at_block + 12], ebx
    mov [{base} + at_block + 16], esp
    mov [{base} + at_block + 20], ebp
    mov [{base} + at_block + 24], esi
    mov [{base} + at_block + 28], edi
    mov ss, word ptr cs:[{base} + at_flat]
    mov esp, {stack}
    pushfd
    pop dword ptr [{base} + at_flags]
    push dword ptr [{base} + at_cs]
    // PUSH of a 32-bit immediate
    .byte 0x68
    .long {base} + narrow_up - narrow_start
    retf

    .code64
narrow_up:
    mov eax, [rip + narrow_ss]
    mov ss, eax
    mov rsp, [rip + narrow_rsp]
    mov eax, [rip + narrow_ds]
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    cld
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .balign 8
narrow_rsp:
    .quad 0
narrow_cs:
    .long 0
narrow_ds:
    .long 0
narrow_ss:
    .long 0
    .balign 8
narrow_block:
    .fill 32, 1, 0
narrow_flags:
    .long 0
narrow_selectors:
    .fill 10, 1, 0
narrow_flat:
    .short 0
narrow_target:
    .fill 6, 1, 0
narrow_code:
    .short 0
narrow_end:
    .set at_block, narrow_block - narrow_start
    .set at_flags, narrow_flags - narrow_start
    .set at_selectors, narrow_selectors - narrow_start
    .set at_flat, narrow_flat - narrow_start
    .set at_target, narrow_target - narrow_start
    .set at_cs, narrow_cs - narrow_start
"#,
    base = const BASE,
    stack = const STACK,
);
