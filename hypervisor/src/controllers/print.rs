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
use x86::exit::{NestedFault, PortAccess};
use x86::{Gpa, PAGE_SIZE};

/// The port and the register's page.
pub fn watches<V: Vcpu, M: Memory>(watches: &mut Watches<V, M>) {
    if let Some(printer) = &watches.vm.printer {
        watches.ports(PRINT_PORT..=PRINT_PORT);
        watches.page(printer.page);
    }
}

/// Prints what is written to the port.
#[inline]
pub fn handle_port<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    access: PortAccess,
) -> Outcome {
    match &vm.printer {
        Some(printer) if access.port == PRINT_PORT => {
            emulator::port(vm, cpu, access, &mut Register(printer))
        }
        _ => Outcome::Pass,
    }
}

/// Prints what is written to the page.
#[inline]
pub fn handle_fault<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    fault: NestedFault,
) -> Outcome {
    match &vm.printer {
        Some(printer) if page(printer).contains(&fault.gpa) => {
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
        let (mut left, mut size) = (value, size);
        while size > 0 {
            self.0.print(left as u8);
            (left, size) = (left >> 8, size - 1);
        }
    }
}
