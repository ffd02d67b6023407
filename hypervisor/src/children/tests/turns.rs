//! Turns whose records are in a page of the child's.

use super::*;
use abi::child::EXIT_OFFSET;
use x86::exit::{Access, NestedFault, RegisterAccess};

/// A guest with a child, a piece of memory that it has, and a vCPU whose records
/// are at the beginning of that.
fn recorded() -> (Vm<FakeMemory>, u64, u64) {
    let (vm, handle) = child();
    let [piece, _] = ask(&vm, call::VM_MEMORY, [handle, 0, 0, 0, 0]);
    let kept = ask(&vm, call::VM_RECORDS, [handle, 0, piece, 0, 0]);
    assert_eq!(kept[0], 0);
    (vm, handle, piece)
}

/// A turn: what the call gives, and the record of the exit.
fn turn(vm: &Vm<FakeMemory>, handle: u64, exits: &[Exit], traced: bool) -> (u64, VmExit) {
    CHILD_EXITS.with_borrow_mut(|list| list.extend(exits));
    let mut cpu = Cpu::new(FakeVtx::default());
    cpu.counted.trace.switch(traced);
    let [rax, _] = ask_on(&mut cpu, vm, call::VM_TURN, [handle, 0, 0, 0, 0]);
    let at = (POOL.start + EXIT_OFFSET) as usize;
    let mut bytes = [0; VmExit::SIZE];
    bytes.copy_from_slice(&vm.memory.snapshot()[at..at + VmExit::SIZE]);
    (rax, VmExit::from_bytes(&bytes))
}

fn output(value: u32) -> Exit {
    Exit::Port(PortAccess {
        input: false,
        value,
        ..input(0x42)
    })
}

/// Exits that are traced take the long way.
#[test]
fn a_turn_does_what_a_run_does_and_says_so_in_the_page() {
    for traced in [false, true] {
        let (vm, handle, piece) = recorded();
        let before = registers(&vm, handle).rip;
        let (kind, exit) = turn(&vm, handle, &[output(0x61)], traced);
        assert_eq!((kind, exit.kind), (kind::PORT.into(), kind::PORT));
        assert_eq!((exit.port, exit.size, exit.data), (0x42, 1, 0x61));
        assert_eq!((exit.flags & flags::READ, exit.rip), (0, before + 2));

        let (_, exit) = turn(&vm, handle, &[Exit::Port(input(0x43))], traced);
        assert_eq!((exit.port, exit.flags & flags::READ), (0x43, flags::READ));
        let said = VmEntry {
            flags: entry::ANSWER,
            values: [0x7a, 0, 0, 0],
            ..IDLE
        };
        vm.memory.put(piece, &said.to_bytes());
        let (kind, exit) = turn(&vm, handle, &[Exit::Hypercall], traced);
        assert_eq!((kind, exit.data), (kind::CALL.into(), 0x7a));
        assert_eq!(exit.values, [0; 5]);
    }
}

#[test]
fn records_are_in_memory_that_the_child_was_given() {
    let (vm, handle, piece) = recorded();
    let [other, _] = create(&vm, "other");
    let keep = |handle, vcpu, page| ask(&vm, call::VM_RECORDS, [handle, vcpu, page, 0, 0]);
    refused(keep(handle, 0, piece + 1), Errno::InvalidArgument);
    refused(keep(handle, 0, POOL.start - 0x1000), Errno::InvalidArgument);
    refused(keep(handle, 0, POOL.end), Errno::InvalidArgument);
    refused(keep(handle, 0, 0x5000), Errno::InvalidArgument);
    refused(keep(handle, 1, piece), Errno::NotFound);
    refused(keep(other, 0, piece), Errno::NotPermitted);
    let none = ask(&vm, call::VM_VCPU, [handle, 0, 0, 0, 0]);
    assert_eq!(none[0], 1);
    let answer = ask(&vm, call::VM_TURN, [handle, 1, 0, 0, 0]);
    refused(answer, Errno::InvalidArgument);
}

#[test]
fn only_the_owner_has_turns() {
    let (vm, handle, _) = recorded();
    CHILD_EXITS.with_borrow_mut(|list| list.extend([output(1)]));
    JOURNAL.with_borrow_mut(Vec::clear);
    let mut cpu = Cpu::new(FakeVtx {
        cpl: 3,
        ..FakeVtx::default()
    });
    cpu.counted.trace.switch(false);
    let answer = ask_on(&mut cpu, &vm, call::VM_TURN, [handle, 0, 0, 0, 0]);
    refused(answer, Errno::NotPermitted);
    let answer = ask(&vm, call::VM_TURN, [handle ^ 8, 0, 0, 0, 0]);
    refused(answer, Errno::NotFound);
    assert!(JOURNAL.with_borrow(Vec::is_empty));
    CHILD_EXITS.with_borrow_mut(|list| list.clear());
}

#[test]
fn an_entry_that_makes_no_sense_runs_nothing() {
    let (vm, handle, piece) = recorded();
    JOURNAL.with_borrow_mut(Vec::clear);
    let wrong = VmEntry { zero: 1, ..IDLE };
    vm.memory
        .put(piece, &VmEntry { flags: 64, ..wrong }.to_bytes());
    let (answer, _) = turn(&vm, handle, &[], false);
    assert_eq!(answer, Errno::InvalidArgument.to_register());
    assert!(JOURNAL.with_borrow(Vec::is_empty));
}

/// Whether a child's breakpoints are in the CPU is looked at when a turn begins.
#[test]
fn a_write_to_dr7_ends_a_turn() {
    let (vm, handle, _) = recorded();
    let access = |register, write| {
        Exit::Debug(RegisterAccess {
            register,
            write,
            general: Some(0),
        })
    };
    let exits = [access(0, true), access(7, false), access(7, true)];
    let (kind, exit) = turn(&vm, handle, &exits, false);
    assert_eq!(kind, kind::INTERRUPTED.into());
    assert_eq!(exit.rip, registers(&vm, handle).rip);
    assert!(CHILD_EXITS.with_borrow(|list| list.is_empty()));
}

/// All code of this memory is ADD to a byte: a read of a device, then a write.
#[test]
fn an_event_behind_an_answer_that_leads_to_another_exit_is_missed_and_told() {
    let (vm, handle, piece) = recorded();
    let code = [handle, 0x1000, piece + 0x1000, 0x1000, 5];
    assert_eq!(ask(&vm, call::VM_MAP, code)[0], 0x1000);
    // As after a reset: without paging.
    registers(&vm, handle);
    let arguments = [handle, 0, 0x8000, 0, 0];
    assert_eq!(ask(&vm, call::VM_REGISTERS_WRITE, arguments)[0], 0);
    let fault = Exit::NestedFault(NestedFault {
        gpa: Gpa(0),
        gva: None,
        access: Access {
            write: true,
            fetch: false,
        },
        walk: false,
    });
    let exit = enter(&vm, handle, &IDLE, &[fault]).unwrap();
    assert_eq!((exit.kind, exit.flags), (kind::MEMORY, flags::READ));
    let nmi = VmEntry {
        flags: entry::ANSWER | entry::EVENT,
        event: 2 << 8 | 2,
        values: [5, 0, 0, 0],
        ..IDLE
    };
    let exit = enter(&vm, handle, &nmi, &[]).unwrap();
    assert_eq!((exit.kind, exit.data), (kind::MEMORY, 5));
    assert_eq!(exit.flags, flags::NOT_RAISED);
}
