//! Ticks of what children do most: an exit to the program and back, by a port and
//! by memory, and an exit that is answered below.

use crate::Outcome;
use std::arch::x86_64::_rdtsc;
use underlay_vm::{Exit, Rights, Vcpu, Vm};

const START: u16 = 0x1000;
const TURNS: usize = 200;
/// CPUIDs between two exits to the program.
const CPUIDS: u64 = 100;

/// 100 accesses of each kind, and one port access behind 100 times CPUID.
const PORT: &[u8] = &[0xe6, 0x42, 0xeb, 0xfc]; // again: out 0x42, al; jmp again
const MEMORY: &[u8] = &[0x26, 0xa2, 0x00, 0x00, 0xeb, 0xfa]; // mov es:[0], al; jmp
const CPUID: &[u8] = &[
    0xbe,
    CPUIDS as u8,
    0x00, // again: mov si, 100
    0x31,
    0xc0, // next: xor ax, ax
    0x0f,
    0xa2, // cpuid
    0x4e, // dec si
    0x75,
    0xf9, // jnz next
    0xe6,
    0x42, // out 0x42, al
    0xeb,
    0xf2, // jmp again
];

pub fn run() -> Outcome {
    let mut vm = Vm::new("costs")?;
    let memory = vm.memory(1)?;
    vm.map(0, &memory, Rights::ALL)?;
    let mut vcpu = vm.vcpu()?;
    let mut least = |code: &[u8]| -> Outcome<u64> {
        memory.write(START.into(), code);
        vcpu.start_real_mode(START)?;
        let mut registers = vcpu.registers()?;
        registers.bases[0] = 0x4000_0000;
        vcpu.set_registers(&registers)?;
        turns(&mut vcpu)
    };
    let (port, register, many) = (least(PORT)?, least(MEMORY)?, least(CPUID)?);
    println!(
        "port {port}, memory {register}, cpuid {}",
        (many - port) / CPUIDS
    );
    Ok(())
}

/// The least ticks of a turn that no interrupt ended.
fn turns(vcpu: &mut Vcpu) -> Outcome<u64> {
    let mut least = u64::MAX;
    for _ in 0..TURNS {
        // SAFETY: it reads a counter.
        let begin = unsafe { _rdtsc() };
        let exit = vcpu.run()?;
        // SAFETY: as above.
        let ticks = unsafe { _rdtsc() } - begin;
        match exit {
            Exit::Port(_) | Exit::Memory(_) => least = least.min(ticks),
            Exit::Interrupted => {}
            other => return Err(format!("unexpected: {other:x?}").into()),
        }
    }
    Ok(least)
}
