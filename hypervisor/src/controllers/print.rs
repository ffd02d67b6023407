//! Printing by port and by memory-mapped register, where that is offered: what
//! a controller of a device looks like.

use crate::emulator::{self, Device};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use abi::discovery::{PRINT_PORT, PRINT_READY};
use core::ops::Range;
use machine::{Memory, Vcpu};
use x86::{Exit, Gpa, PAGE_SIZE};

/// The port and the register's page.
pub fn watches<V: Vcpu, M: Memory>(watches: &mut Watches<V, M>) {
    if let Some(printer) = &watches.vm.printer {
        watches.ports(PRINT_PORT..=PRINT_PORT);
        watches.page(printer.page);
    }
}

/// Prints what is written to either.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Some(printer) = &vm.printer else {
        return Outcome::Pass;
    };
    match exit {
        Exit::Port(access) if access.port == PRINT_PORT => {
            emulator::port(vm, cpu, access, &mut Register(printer))
        }
        Exit::NestedFault(fault) if page(printer).contains(&fault.gpa) => {
            emulator::memory(vm, cpu, fault, page(printer), &mut Register(printer))
        }
        _ => Outcome::Pass,
    }
}

fn page(printer: &Printer) -> Range<Gpa> {
    printer.page..Gpa(printer.page.0 + PAGE_SIZE)
}

/// Each byte written anywhere in it is printed, in the order of addresses.
struct Register<'a>(&'a Printer);

impl Device for Register<'_> {
    fn read(&mut self, _: u64, size: u8) -> u64 {
        let all = u64::from_le_bytes([PRINT_READY; 8]);
        all & (u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8))))
    }

    fn write(&mut self, _: u64, size: u8, value: u64) {
        for byte in value.to_le_bytes().into_iter().take(usize::from(size)) {
            self.0.print(byte);
        }
    }
}
