//! A child that never needs its program, with all of the pool: its program is
//! to be killed.

use crate::Outcome;
use std::io::{Write, stdout};
use underlay_vm::{Exit, Rights, Vm};

/// Turns in which it would take interrupts.
const TURNS: usize = 20;

pub fn run() -> Outcome {
    let mut vm = Vm::new("spinner")?;
    let first = vm.memory(1)?;
    let mut vcpu = vm.vcpu()?;
    let mut rest = Vec::new();
    while let Ok(more) = vm.memory(1) {
        rest.push(more);
    }
    // An interrupt that reached it would end in HLT: all its vectors are 0.
    first.write(0, &[0xf4]); // hlt
    first.write(0x1000, &[0xfb, 0xeb, 0xfe]); // sti; jmp $
    first.write(0x2000, &[0xfa, 0xeb, 0xfe]); // cli; jmp $
    vm.map(0, &first, Rights::ALL)?;
    vcpu.start_real_mode(0x1000)?;
    for _ in 0..TURNS {
        match vcpu.run()? {
            Exit::Interrupted => {}
            other => return Err(format!("unexpected: {other:x?}").into()),
        }
    }
    vcpu.start_real_mode(0x2000)?;
    let mut is_said = false;
    loop {
        match vcpu.run()? {
            Exit::Interrupted if is_said => {}
            Exit::Interrupted => {
                println!("the spinner runs");
                stdout().flush()?;
                is_said = true;
            }
            other => return Err(format!("unexpected: {other:x?}").into()),
        }
    }
}
