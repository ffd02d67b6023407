//! The services: one file a family, each service a row of `abi::call::SERVICES`
//! and a line in [`serve`].

#[cfg(feature = "breakable")]
mod breakable;
mod hello;
mod info;
mod print;
mod statistics;
mod trace;

use crate::caller::Caller;
use crate::failure::Failure;
use crate::vm::{Cpu, Vm};
use abi::Errno;
use abi::call::{self, SERVICES, Who};
use machine::{Memory, Vcpu};
use x86::Registers;

/// Serves the call that `cpu` stopped at. The value goes to RAX.
#[inline]
pub fn serve<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Result<u64, Failure> {
    let number = cpu.vcpu.registers().rax;
    // The cheapest call does not even ask who calls.
    if number == call::PING {
        return Ok(u64::from(call::VERSION));
    }
    let mut caller = Caller::new(vm, &cpu.vcpu);
    let number = caller.argument(number);
    caller.faults |= number & call::MAY_FAULT != 0;
    let number = number & !call::MAY_FAULT;
    #[cfg(feature = "breakable")]
    if let Ok(value) = breakable::serve(vm, cpu, number) {
        return Ok(value);
    }
    if !may_call(vm, &caller, cpu.vcpu.registers(), number)? {
        return Err(Failure::Refused(Errno::NotPermitted));
    }
    match number {
        call::RESOLVE => info::resolve(&caller, caller.argument(cpu.vcpu.registers().rbx)),
        call::PING => Ok(u64::from(call::VERSION)),
        call::PRINT => print::print(vm, cpu.vcpu.registers().rbx as u8),
        call::HELLO => Ok(hello::hello(vm, cpu.statistics)),
        call::STATISTICS => Ok(statistics::write(vm, cpu)),
        call::TRACE => trace::serve(vm, cpu, caller.argument(cpu.vcpu.registers().rbx)),
        _ => Err(Failure::Refused(Errno::NoService)),
    }
}

/// Whether the row of `number` lets `caller` in, who has these registers.
fn may_call<M>(
    vm: &Vm<M>,
    caller: &Caller<M>,
    registers: &Registers,
    number: u64,
) -> Result<bool, Failure> {
    let row = SERVICES.iter().find(|service| service.number == number);
    Ok(match row.ok_or(Failure::Refused(Errno::NoService))?.who {
        Who::Any => true,
        Who::Kernel => caller.kernel,
        Who::Owner => caller.kernel || vm.token.opens(registers.r8, registers.r9),
    })
}

#[cfg(test)]
mod tests;
