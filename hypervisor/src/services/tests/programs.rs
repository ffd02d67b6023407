//! Calls that a kernel makes in a program's name.

use super::copies::{BUFFER, OTHER, OWNERS, arguments, machine};
use super::*;
use abi::call::AS_PROGRAM;

/// An entry's bits: present and writable, for the kernel alone.
const KERNELS: u64 = 3;

#[test]
fn a_kernel_reaches_for_a_program_what_the_program_reaches() {
    let vm = machine();
    let copies = |number| KERNEL.calls(&vm, number, [BUFFER, OTHER, 8, 0, 0]);
    assert_eq!(copies(call::MEMORY_COPY | AS_PROGRAM).registers.rax, 8);
    vm.memory.written.borrow_mut().clear();
    vm.memory.remap(0x9000, 0x9000 | KERNELS);
    let refused = copies(call::MEMORY_COPY | AS_PROGRAM);
    assert_eq!(
        (error(&refused), refused.registers.rbx),
        (Some(Errno::BadAddress), 0x9000)
    );
    assert!(vm.memory.written.borrow().is_empty());
    assert_eq!(copies(call::MEMORY_COPY).registers.rax, 8);
}

/// The kernel brings the page in and calls again.
#[test]
fn what_is_absent_is_an_error_and_may_be_a_fault() {
    let vm = machine();
    vm.memory.unmap(0x9000);
    let copies = |number| KERNEL.calls(&vm, number, [BUFFER, OTHER, 8, 0, 0]);
    let number = call::MEMORY_COPY | AS_PROGRAM;
    let absent = copies(number);
    assert_eq!(
        (error(&absent), absent.registers.rbx),
        (Some(Errno::BadAddress), 0x9000)
    );
    let (write, user) = (page_fault::WRITE, page_fault::USER);
    let fault = copies(number | call::MAY_FAULT);
    assert_eq!(page_fault_of(&fault), (0x9000, write | user));
    assert!(vm.memory.written.borrow().is_empty());
    vm.memory.map(0x9000);
    assert_eq!(copies(number).registers.rax, 8);
}

#[test]
fn the_program_may_what_an_owner_may() {
    for number in OWNERS {
        let vm = machine();
        let cpu = KERNEL.calls(&vm, number | AS_PROGRAM, arguments(number));
        assert_eq!(error(&cpu), None, "{number}");
    }
}

#[test]
fn the_program_may_not_what_is_the_kernels_alone() {
    for row in SERVICES.iter().filter(|row| row.who == Who::Kernel) {
        let vm = machine();
        let cpu = KERNEL.calls(&vm, row.number | AS_PROGRAM, [0x3_4000, 8, 0, 0, 0]);
        assert_eq!(error(&cpu), Some(Errno::NotPermitted), "{}", row.name);
        assert!(vm.shared.with(1, |_| ()).is_none());
    }
}

#[test]
fn nobody_but_a_kernel_gains_by_it() {
    let mut vm = machine();
    for cpl in 1..4 {
        let program = Guest { cpl, ..PROGRAM };
        for number in OWNERS {
            let cpu = program.calls(&vm, number | AS_PROGRAM, arguments(number));
            assert_eq!(error(&cpu), Some(Errno::NotPermitted));
        }
        let copy = program.calls(
            &vm,
            call::MEMORY_COPY | AS_PROGRAM,
            [BUFFER, OTHER, 8, 0, 0],
        );
        assert_eq!(copy.registers.rax, 8);
    }
    vm.token = Token::NONE;
    let read = call::MEMORY_READ_PHYSICAL;
    let cpu = PROGRAM.calls(&vm, read | AS_PROGRAM, arguments(read));
    assert_eq!(error(&cpu), Some(Errno::NotPermitted));
}

#[test]
fn its_lines_in_the_log_are_a_programs() {
    let vm = machine();
    let cpu = Cpu::new(KERNEL.at_call(call::LOG_WRITE, [0; 5]));
    let caller = Caller::new(&vm, &cpu.vcpu).as_program();
    let written = std::cell::RefCell::new(String::new());
    let say = |line: Arguments<'_>| *written.borrow_mut() = line.to_string();
    let reply = log::write(&vm, &cpu, &caller, &say, [OTHER, 8]);
    assert_eq!(reply, Ok(8.into()));
    assert_eq!(written.take(), "a guest's program writes: physical");
}
