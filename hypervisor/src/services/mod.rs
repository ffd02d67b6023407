//! The services: one file a family, each service a row of `abi::call::SERVICES`
//! and a line in [`serve`].

mod bitvisor;
#[cfg(feature = "breakable")]
mod breakable;
mod cpus;
mod hello;
mod info;
mod log;
mod memory;
mod print;
pub mod shell;
mod statistics;
mod trace;
mod vm;

use crate::caller::Caller;
use crate::children::Children;
use crate::counted::{self, Counted};
use crate::failure::Failure;
use crate::reply::Reply;
use crate::vm::{Cpu, Vm};
use abi::Errno;
use abi::call::{self, SERVICES, Who};
use abi::handoff::Compat;
use machine::{CodeSize, Memory, Vcpu, read_log};
use memory::Way;
use x86::Registers;

/// Serves the call that `cpu` stopped at.
#[inline]
pub fn serve<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Result<Reply, Failure> {
    let mut caller = Caller::new(vm, &cpu.vcpu);
    let number = caller.argument(cpu.vcpu.registers().rax);
    caller.faults |= number & call::MAY_FAULT != 0;
    if number & call::AS_PROGRAM != 0 {
        caller = caller.as_program();
    }
    let number = number & !(call::MAY_FAULT | call::AS_PROGRAM);
    #[cfg(feature = "breakable")]
    match breakable::serve(vm, cpu, &caller, number) {
        Err(Failure::Refused(_)) => {}
        served => return served.map(Reply::from),
    }
    if !may_call(vm, &caller, cpu.vcpu.registers(), number)? {
        return Err(Failure::Refused(Errno::NotPermitted));
    }
    let arguments = caller.arguments(cpu.vcpu.registers());
    dispatch(vm, cpu, &caller, number, arguments)
}

/// Serves the call that runs a vCPU of one of `children`, as most calls of who calls
/// much do. False: there is more to say than its result, and nothing has happened.
#[inline(never)]
pub fn serve_turn<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    children: &Children<V>,
) -> bool {
    let registers = cpu.vcpu.registers();
    if cpu.vcpu.code_size() != CodeSize::Bits64 {
        return false;
    }
    let is_owner = vm.token.opens(registers.r8, registers.r9) || cpu.vcpu.cpl() == 0;
    let arguments = [registers.rbx, registers.rcx];
    match is_owner.then(|| vm::turn(children, vm, cpu, arguments)) {
        Some(Ok(kind)) => {
            cpu.vcpu.registers_mut().rax = u64::from(kind);
            true
        }
        _ => false,
    }
}

/// Gives the call to its service, with its arguments as the service names them.
#[inline(always)]
fn dispatch<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    caller: &Caller<M>,
    number: u64,
    [rbx, rcx, rdx, rsi, rdi]: [u64; 5],
) -> Result<Reply, Failure> {
    match number {
        call::RESOLVE => info::resolve(caller, rbx),
        call::PING => Ok(u64::from(call::VERSION).into()),
        call::PRINT => print::print(vm, rbx as u8),
        call::HELLO => Ok(hello::hello(vm, cpu, &hello::say).into()),
        call::STATISTICS => statistics::write(vm, cpu, rbx, rcx),
        call::TRACE => trace::serve(vm, cpu, rbx, rcx),
        call::INFO => info::info(vm, cpu, caller, rbx, rcx),
        call::LIST => info::list(caller, [rbx, rcx], rdx),
        call::MEMORY_COPY => memory::copy(caller, [rbx, rcx, rdx]),
        call::MEMORY_READ_PHYSICAL => memory::physical(caller, Way::Read, [rbx, rcx, rdx]),
        call::MEMORY_WRITE_PHYSICAL => memory::physical(caller, Way::Write, [rbx, rcx, rdx]),
        call::MEMORY_READ_PAGES => memory::pages(caller, Way::Read, [rbx, rcx, rdx, rsi]),
        call::MEMORY_WRITE_PAGES => memory::pages(caller, Way::Write, [rbx, rcx, rdx, rsi]),
        call::MEMORY_READ_SPACE => memory::space(caller, Way::Read, [rbx, rcx, rdx, rsi]),
        call::MEMORY_WRITE_SPACE => memory::space(caller, Way::Write, [rbx, rcx, rdx, rsi]),
        call::MEMORY_TRANSLATE => memory::translate(caller, rbx, rcx),
        call::LOG_READ => log::read(caller, &read_log, [rbx, rcx, rdx]),
        call::LOG_WRITE => log::write(vm, cpu, caller, &log::say, [rbx, rcx]),
        call::LOG_LEVEL => log::level(rbx),
        call::STATISTICS_READ => statistics::read(vm, cpu, caller, [rbx, rcx], [rdx, rsi]),
        call::ODDITIES_READ => statistics::oddities(vm, caller, [rbx, rcx], rdx),
        call::STATISTICS_RESET => statistics::reset(vm, cpu, rbx),
        call::TRACE_READ => trace::read(vm, cpu, caller, [rbx, rcx], [rdx, rsi]),
        call::TRACE_SWITCH => trace::switch(vm, cpu, rbx, rcx),
        call::BUFFER_SHARE => memory::share(vm, caller, [rbx, rcx, rdx]),
        call::BUFFER_RELEASE => memory::release(vm, rbx),
        call::LOG_FILL => memory::shared(vm, rbx, |buffer| log::fill(buffer, &read_log, rcx)),
        call::SHELL_OPEN => Ok(shell::open(vm, cpu).into()),
        call::SHELL_LINE => shell::line(vm, cpu, caller, rbx, [[rcx, rdx], [rsi, rdi]]),
        call::SHELL_CLOSE => shell::close(vm, rbx),
        call::DBGSH => Ok(shell::byte(vm, cpu, rbx).into()),
        call::LOG_SET_BUF => bitvisor::log_set_buf(caller, rbx, rcx),
        call::GET_STATUS => bitvisor::get_status(vm, cpu, caller, rbx, rcx),
        call::CPUS_READ => cpus::read(vm, cpu, caller, [rbx, rcx], rdx),
        call::VM_CREATE => vm::create(vm, cpu, caller, [rbx, rcx]),
        call::VM_DESTROY => vm::destroy(vm, cpu, rbx),
        call::VM_LIST => vm::list(vm, cpu, caller, [rbx, rcx], rdx),
        call::VM_QUERY => vm::query(vm, cpu, caller, [rbx, rcx, rdx]),
        call::VM_MEMORY => vm::memory(vm, cpu, rbx),
        call::VM_MAP => vm::map(vm, cpu, [rbx, rcx, rdx, rsi, rdi]),
        call::VM_VCPU => vm::vcpu(vm, cpu, rbx),
        call::VM_REGISTERS_READ => vm::read(vm, cpu, caller, [rbx, rcx, rdx]),
        call::VM_REGISTERS_WRITE => vm::write(vm, cpu, caller, [rbx, rcx, rdx]),
        call::VM_RUN => vm::run(vm, cpu, caller, [rbx, rcx, rdx, rsi]),
        call::VM_RECORDS => vm::records(vm, cpu, [rbx, rcx, rdx]),
        call::VM_TURN => vm::turn_or_refuse(vm, cpu, [rbx, rcx]),
        call::VM_INJECT => vm::inject(vm, cpu, [rbx, rcx, rdx, rsi]),
        call::VM_STATISTICS => vm::statistics(vm, cpu, caller, [rbx, rcx], [rdx, rsi], rdi),
        _ => Err(Failure::Refused(Errno::NoService)),
    }
}

/// What is counted on the CPU with the number that the caller named.
fn counted<V, M>(vm: &Vm<M>, cpu: &Cpu<V>, number: u64) -> Result<&'static Counted, Failure> {
    counted::of(vm, cpu, number).ok_or(Errno::InvalidArgument.into())
}

/// Whether row `number` lets `caller` in, who has these registers.
fn may_call<M>(
    vm: &Vm<M>,
    caller: &Caller<M>,
    registers: &Registers,
    number: u64,
) -> Result<bool, Failure> {
    let row = usize::try_from(number).ok();
    let row = row.and_then(|row| SERVICES.get(row));
    Ok(match row.ok_or(Failure::Refused(Errno::NoService))?.who {
        Who::Any => true,
        Who::Kernel => caller.kernel,
        Who::Owner => is_owner(vm, caller, registers),
        Who::Compat => vm.compat == Compat::BitVisor || is_owner(vm, caller, registers),
    })
}

fn is_owner<M>(vm: &Vm<M>, caller: &Caller<M>, registers: &Registers) -> bool {
    caller.kernel || caller.trusted || vm.token.opens(registers.r8, registers.r9)
}

#[cfg(test)]
mod tests;
