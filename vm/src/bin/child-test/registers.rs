//! Neither side sees or changes what the other has in vector, x87 and debug
//! registers.

use crate::Outcome;
use abi::call::VM_RUN;
use abi::child::{kind, rights};
use abi::record::{VmEntry, VmExit};
use std::arch::asm;
use underlay::{Instruction, Token, Underlay, Way};

/// Sixteen registers of 32 bytes, or their lower halves where there is no more.
type Vectors = [u64; 64];

/// In real mode: all ones into eight vector registers, other modes of rounding,
/// DR0; and after HLT what of it is still there into EAX, EBX, ECX.
const CODE: &[u8] = &[
    0x66, 0x0f, 0x76, 0xc0, // pcmpeqd xmm0, xmm0
    0x66, 0x0f, 0x76, 0xff, // pcmpeqd xmm7, xmm7
    0xdb, 0xe3, // fninit
    0xd9, 0xeb, // fldpi
    0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, // mov eax, 0x12345678
    0x0f, 0x23, 0xc0, // mov dr0, eax
    0xf4, // hlt
    0x66, 0x0f, 0x7e, 0xc0, // movd eax, xmm0
    0x66, 0x0f, 0x7e, 0xfb, // movd ebx, xmm7
    0x0f, 0x21, 0xc1, // mov ecx, dr0
    0xf4, // hlt
];
const START: u64 = 0x1000;

struct Child {
    underlay: Underlay,
    handle: u64,
    instruction: Instruction,
    token: Token,
}

impl Child {
    fn new() -> Outcome<Self> {
        let underlay = Underlay::find()?.as_owner()?;
        let Way::Instruction(instruction, token) = underlay.way() else {
            return Err("there is no token".into());
        };
        let (handle, _) = underlay.vm_create("registers")?;
        let (piece, _) = underlay.vm_memory(handle)?;
        underlay.vm_vcpu(handle)?;
        let all = rights::READ | rights::WRITE | rights::EXECUTE;
        // SAFETY: nothing of this program's, or of Linux', lies in that memory.
        unsafe {
            underlay.memory_write_physical(piece + START, CODE)?;
            underlay.vm_map(handle, 0, piece, 1 << 20, all)?;
        }
        let mut registers = underlay.vm_registers_read(handle, 0)?;
        registers.rip = START;
        registers.selectors[1] = 0;
        registers.bases[1] = 0;
        registers.cr4 = 0x600;
        underlay.vm_registers_write(handle, 0, &registers)?;
        Ok(Self {
            underlay,
            handle,
            instruction,
            token,
        })
    }

    /// Runs it until it halts, with `vectors` in the registers before and after.
    fn run(&self, vectors: &mut Vectors) -> Outcome {
        let entry = [0; VmEntry::SIZE];
        let mut exit = [0; VmExit::SIZE];
        loop {
            let arguments = [
                self.handle,
                0,
                entry.as_ptr() as u64,
                exit.as_mut_ptr() as u64,
            ];
            let call = match is_x86_feature_detected!("avx") {
                true => call_with_avx,
                false => call_with_sse,
            };
            // SAFETY: the records are there, and the CPU has what was chosen.
            let rax = unsafe { call(self.instruction, self.token, arguments, vectors) };
            match VmExit::from_bytes(&exit).kind {
                kind::INTERRUPTED if rax as i64 >= 0 => {}
                kind::HALT => return Ok(()),
                other => return Err(format!("exit {other}, {rax:#x}").into()),
            }
        }
    }
}

macro_rules! call {
    ($name:ident $feature:literal $move:literal $register:literal) => {
        /// One call of `vm_run`, with `vectors` in the vector registers at the
        /// instruction.
        #[target_feature(enable = $feature)]
        unsafe fn $name(
            instruction: Instruction,
            Token([r8, r9]): Token,
            [handle, vcpu, from, into]: [u64; 4],
            vectors: &mut Vectors,
        ) -> u64 {
            let is_amd = u64::from(instruction == Instruction::Vmmcall);
            let rax;
            // SAFETY: as for a call of this service; RBX is put back, and vector
            // registers are given to the compiler as changed.
            unsafe {
                asm!(
                    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                    concat!($move, " ", $register, "\\n, [r10 + 32 * \\n]"),
                    ".endr",
                    "push rbx",
                    "mov rbx, r12",
                    "test r11, r11",
                    "jnz 2f",
                    "vmcall",
                    "jmp 3f",
                    "2: vmmcall",
                    "3: pop rbx",
                    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                    concat!($move, " [r10 + 32 * \\n], ", $register, "\\n"),
                    ".endr",
                    in("r10") vectors.as_mut_ptr(),
                    in("r11") is_amd,
                    in("r12") handle,
                    inout("rax") VM_RUN => rax,
                    in("rcx") vcpu,
                    in("rdx") from,
                    in("rsi") into,
                    in("r8") r8,
                    in("r9") r9,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                );
            }
            rax
        }
    };
}
call! { call_with_avx "avx" "vmovups" "ymm" }
call! { call_with_sse "sse2" "movups" "xmm" }

pub fn run() -> Outcome {
    let child = Child::new()?;
    let expected: Vectors = std::array::from_fn(|n| 0x0101_0101_0101_0101 * (n as u64 + 1));
    let mut vectors = expected;
    child.run(&mut vectors)?;
    if vectors != expected {
        return Err("the child's turn changed vector registers".into());
    }
    child.run(&mut vectors)?;
    let [rax, rcx, _, rbx, ..] = child.underlay.vm_registers_read(child.handle, 0)?.general;
    let kept = [rax, rbx, rcx].map(|value| value & 0xffff_ffff);
    child.underlay.vm_destroy(child.handle)?;
    if kept != [0xffff_ffff, 0xffff_ffff, 0x1234_5678] || vectors != expected {
        return Err(format!("the child's registers are {kept:x?}").into());
    }
    println!("registers of both sides stayed");
    Ok(())
}
