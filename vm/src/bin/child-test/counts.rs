//! A child with so many exits of each kind, and a command that looks at them while
//! it is there.

use crate::Outcome;
use std::process::Command;
use underlay_vm::{Exit, Rights, Vm};

const START: u16 = 0x1000;
/// Each comes with two bytes to a port.
const CPUIDS: u8 = 50;
const READS: u8 = 7;

const CODE: &[u8] = &[
    0xbe, CPUIDS, 0x00, // mov si, 50
    0x31, 0xc0, // next: xor ax, ax
    0x0f, 0xa2, // cpuid
    0xe6, 0x42, // out 0x42, al
    0xe6, 0x42, // out 0x42, al
    0x4e, // dec si
    0x75, 0xf5, // jnz next
    0xbe, READS, 0x00, // mov si, 7
    0xe4, 0x42, // read: in al, 0x42
    0x4e, // dec si
    0x75, 0xfb, // jnz read
    0xf4, // hlt
];

pub fn run(command: &[String]) -> Outcome {
    let [program, arguments @ ..] = command else {
        return Err("counts takes a command".into());
    };
    let mut vm = Vm::new("counted")?;
    let memory = vm.memory(1)?;
    memory.write(START.into(), CODE);
    vm.map(0, &memory, Rights::ALL)?;
    let mut vcpu = vm.vcpu()?;
    vcpu.start_real_mode(START)?;
    let (mut written, mut read) = (0, 0);
    loop {
        match vcpu.run()? {
            Exit::Port(access) if access.written.is_some() => written += 1,
            Exit::Port(_) => {
                read += 1;
                vcpu.answer(0);
            }
            Exit::Interrupted => {}
            Exit::Halt => break,
            other => return Err(format!("unexpected: {other:x?}").into()),
        }
    }
    if (written, read) != (2 * u32::from(CPUIDS), u32::from(READS)) {
        return Err(format!("{written} bytes were written, {read} read").into());
    }
    match Command::new(program).args(arguments).status()?.success() {
        true => Ok(()),
        false => Err(format!("{program} failed").into()),
    }
}
