//! Two vCPUs of one child, which run at the same time and change places between
//! two CPUs again and again: each goes on where it was.

use crate::Outcome;
use std::thread;
use underlay_vm::{Exit, Rights, Vcpu, Vm};

const START: u16 = 0x1000;
const CPUS: usize = 2;
/// Exits between two moves.
const STAY: u64 = 5;

/// Counts in AX and, with a count in memory and one in a vector register, says
/// it at a port.
const CODE: &[u8] = &[
    0x66, 0x0f, 0xef, 0xc0, // pxor xmm0, xmm0
    0x66, 0x0f, 0x76, 0xc9, // pcmpeqd xmm1, xmm1: -1 in each part
    0x40, // again: inc ax
    0x67, 0xff, 0x03, // inc word [ebx]
    0x66, 0x0f, 0xfa, 0xc1, // psubd xmm0, xmm1
    0x66, 0x0f, 0x7e, 0xc1, // movd ecx, xmm0
    0x39, 0xc8, // cmp ax, cx
    0x75, 0x09, // jne wrong
    0x67, 0x3b, 0x03, // cmp ax, [ebx]
    0x75, 0x04, // jne wrong
    0xe7, 0x42, // out 0x42, ax
    0xeb, 0xe7, // jmp again
    0xf4, // wrong: hlt
];

pub fn run(count: u64) -> Outcome {
    let mut vm = Vm::new("moves")?;
    let memory = vm.memory(1)?;
    memory.write(START.into(), CODE);
    vm.map(0, &memory, Rights::ALL)?;
    let mut vcpus = Vec::new();
    for number in 0..CPUS as u64 {
        let mut vcpu = vm.vcpu()?;
        vcpu.start_real_mode(START)?;
        let mut registers = vcpu.registers()?;
        registers.cr4 = 0x600;
        registers.general[3] = 0x2000 + number * 0x1000;
        vcpu.set_registers(&registers)?;
        vcpus.push(vcpu);
    }
    let turns = thread::scope(|scope| {
        let numbered = vcpus.iter_mut().enumerate();
        let threads = numbered.map(|(number, vcpu)| {
            scope.spawn(move || drive(vcpu, number, count).map_err(|error| error.to_string()))
        });
        let threads: Vec<_> = threads.collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.collect::<Vec<_>>()
    });
    for turn in turns {
        turn.map_err(|_| "a thread panicked")??;
    }
    println!("{CPUS} vCPUs said {count} numbers each");
    Ok(())
}

fn drive(vcpu: &mut Vcpu, number: usize, count: u64) -> Outcome {
    let mut said = 0;
    while said < count {
        if said % STAY == 0 {
            pin((number + (said / STAY) as usize) % CPUS)?;
        }
        match vcpu.run()? {
            Exit::Port(access) => {
                said += 1;
                if access.written != Some(said) {
                    return Err(format!("{access:?} after {said}").into());
                }
            }
            Exit::Interrupted => {}
            other => return Err(format!("{other:x?} after {said}").into()),
        }
    }
    Ok(())
}

/// Has this thread run on one CPU.
fn pin(cpu: usize) -> Outcome {
    // SAFETY: zeros are an empty set, which is the thread's own to be filled.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    match done {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}
