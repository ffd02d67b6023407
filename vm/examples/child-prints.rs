//! A VM that prints in three ways, by a call, by a port and by a register in its
//! memory, and a program that plays the printer: what there is to know of
//! `underlay-vm`.

use std::arch::global_asm;
use std::error::Error;
use underlay_vm::{Exit, Instruction, Rights, Vm};

// What the VM runs, in real mode: each line of text ends with a NUL. ES begins
// where the VM has no memory.
global_asm!(
    ".globl child_begin, child_call, child_end",
    ".code16",
    "child_begin:",
    "mov si, offset by_call_at",
    "2: lodsb",
    "test al, al",
    "jz 3f",
    "mov bl, al",
    "child_call: vmcall",
    "jmp 2b",
    "3: mov si, offset by_port_at",
    "4: lodsb",
    "test al, al",
    "jz 5f",
    "out 0xe9, al",
    "jmp 4b",
    "5: in al, 0xe9",
    "out 0xe9, al",
    "mov si, offset by_memory_at",
    "6: lodsb",
    "test al, al",
    "jz 7f",
    "mov es:[8], al",
    "jmp 6b",
    "7: mov al, es:[16]",
    "mov es:[8], al",
    "hlt",
    "by_call: .asciz \"printed by call\\n\"",
    "by_port: .asciz \"printed by port\"",
    "by_memory: .asciz \"printed by memory\"",
    "child_end:",
    ".set by_call_at, by_call - child_begin + 0x1000",
    ".set by_port_at, by_port - child_begin + 0x1000",
    ".set by_memory_at, by_memory - child_begin + 0x1000",
    ".code64",
);

unsafe extern "C" {
    static child_begin: u8;
    static child_call: u8;
    static child_end: u8;
}

const START: u16 = 0x1000;
const PORT: u64 = 0xe9;
/// Physical address of the printer's register page; no memory is there.
const REGISTER: u64 = 0x4000_0000;

fn code(instruction: Instruction) -> Vec<u8> {
    let at = |label: *const u8| label as usize - (&raw const child_begin) as usize;
    let length = at(&raw const child_end);
    // SAFETY: the labels enclose code that was assembled in this order.
    let mut code = unsafe { std::slice::from_raw_parts(&raw const child_begin, length) }.to_vec();
    if instruction == Instruction::Vmmcall {
        // VMCALL and VMMCALL differ in their last byte.
        code[at(&raw const child_call) + 2] = 0xd9;
    }
    code
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut vm = Vm::new("child-prints")?;
    let memory = vm.memory(64 << 10)?;
    memory.write(START.into(), &code(vm.call_instruction()));
    vm.map(0, &memory, Rights::ALL)?;

    let mut vcpu = vm.vcpu()?;
    vcpu.start_real_mode(START)?;
    let mut registers = vcpu.registers()?;
    registers.bases[0] = REGISTER; // ES
    vcpu.set_registers(&registers)?;

    let mut printed = Vec::new();
    loop {
        match vcpu.run()? {
            Exit::Call(call) => {
                printed.push(call.arguments[0] as u8);
                vcpu.answer(0);
            }
            Exit::Port(access) if access.address == PORT => match access.written {
                Some(byte) => printed.push(byte as u8),
                None => vcpu.answer(b'\n'.into()),
            },
            Exit::Memory(access) if access.address & !0xfff == REGISTER => match access.written {
                Some(byte) => printed.push(byte as u8),
                None => vcpu.answer(b'\n'.into()),
            },
            Exit::Interrupted => {} // Linux had something to do
            Exit::Halt => break,
            other => return Err(format!("unexpected: {other:x?}").into()),
        }
    }
    print!("{}", String::from_utf8(printed)?);
    Ok(())
}
