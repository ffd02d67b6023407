//! What BitVisor's clients ask for by name.

use super::*;
use abi::handoff::Compat;
use x86::Gpa;

const BUFFER: u64 = 0x8ff0;

#[test]
fn its_names_are_found() {
    let vm = vm(Presence::Leaf);
    for (name, number) in [
        (&b"dbgsh\0"[..], call::DBGSH),
        (b"log_set_buf\0", call::LOG_SET_BUF),
        (b"get_status\0", call::GET_STATUS),
    ] {
        assert_eq!(named(&vm, 0x5000, name).registers.rax, number);
    }
}

#[test]
fn programs_are_let_in_by_the_config_alone_and_refusals_are_counted() {
    let mut vm = vm(Presence::Leaf);
    vm.token = TOKEN;
    let refused = |vm: &Vm<FakeMemory>, guest: Guest, number| {
        let cpu = guest.calls(vm, number, [BUFFER, 0, 0, 0, 0]);
        error(&cpu) == Some(Errno::NotPermitted)
    };
    for number in [call::DBGSH, call::GET_STATUS, call::LOG_SET_BUF] {
        assert!(refused(&vm, PROGRAM, number));
        assert!(!refused(&vm, KERNEL, number));
    }
    assert!(!refused(&vm, OWNER, call::DBGSH));
    let odd = vm.oddities.kinds().flatten();
    let refusals: Vec<_> = odd.map(|row| (row.name, row.count)).collect();
    assert_eq!(refusals, [("refused-call", 3)]);
    vm.compat = Compat::BitVisor;
    assert!(!refused(&vm, PROGRAM, call::DBGSH));
    assert!(!refused(&vm, PROGRAM, call::GET_STATUS));
    assert!(refused(&vm, PROGRAM, call::LOG_SET_BUF));
}

#[test]
fn a_status_is_written_whole_or_its_length_is_told() {
    let vm = vm(Presence::Leaf);
    let status = |room: u64| {
        let cpu = KERNEL.calls(&vm, call::GET_STATUS, [BUFFER, room, 0, 0, 0]);
        assert_eq!(cpu.registers.rbx, BUFFER);
        (cpu.registers.rax, cpu.registers.rcx)
    };
    let (missing, length) = status(0);
    assert_eq!(missing, 1);
    assert_eq!(status(length - 1), (1, length));
    assert!(vm.memory.written.borrow().is_empty());
    assert_eq!(status(length), (0, length));
    let bytes = vm.memory.snapshot();
    let text = String::from_utf8_lossy(&bytes[BUFFER as usize..][..length as usize]);
    assert!(
        text.starts_with("Underlay ") && text.ends_with(" exits\n"),
        "{text}"
    );
    assert_eq!(bytes[(BUFFER + length) as usize], 0);
}

#[test]
fn the_logs_buffer_is_memory_of_the_guests_and_can_be_taken_away() {
    let vm = vm(Presence::Leaf);
    let set = |at, bytes| error(&KERNEL.calls(&vm, call::LOG_SET_BUF, [at, bytes, 0, 0, 0]));
    assert_eq!(set(0x8000, 0x1_0000), None);
    let there = Some((Gpa(0x8000), 0x1_0000));
    assert_eq!(vm.memory.log_copy.get(), there);
    let own = FakeMemory::RESERVED.start.0;
    for (at, bytes) in [
        (own, 64),
        (own - 8, 64),
        (0x8002, 64),
        (0x8000, 7),
        (0x8000, (1 << 20) + 1),
        (0x8000, u64::MAX),
        (u64::MAX - 3, 64),
    ] {
        assert_eq!(set(at, bytes), Some(Errno::InvalidArgument), "{at:#x}");
        assert_eq!(vm.memory.log_copy.get(), there);
    }
    assert_eq!(set(0, 0), None);
    assert_eq!(vm.memory.log_copy.get(), None);
    set(0x8000, 64);
    assert_eq!(set(0, 0x1_0000), None);
    assert_eq!(vm.memory.log_copy.get(), None);
}
