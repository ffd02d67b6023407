//! The log, read and written by calls.

use super::*;
use crate::buffer::{Buffer, Pages};
use machine::LogLine;
use std::cell::RefCell;

const BUFFER: u64 = 0x8ff0;

/// Lines `oldest` to 9 of a log: each has its number, and that many letters.
fn lines(oldest: u64) -> impl Fn(u64, &mut [u8]) -> LogLine {
    move |number, into| match number {
        10.. => LogLine::NotYet,
        _ if number < oldest => LogLine::Lost { oldest },
        _ => {
            let line = line(number);
            into[..line.len()].copy_from_slice(line.as_bytes());
            LogLine::Whole(line.len())
        }
    }
}

fn line(number: u64) -> String {
    format!("{number}{}\n", "x".repeat(number as usize))
}

/// The registers after a reading, and what is in the buffer.
fn read(oldest: u64, bytes: u64, next: u64) -> (Result<[u64; 3], Failure>, String) {
    let vm = vm(Presence::Leaf);
    let cpu = KERNEL.at_call(call::LOG_READ, [0; 5]);
    let caller = Caller::new(&vm, &cpu);
    let reply = log::read(&caller, &lines(oldest), [BUFFER, bytes, next]);
    let mut registers = Registers::default();
    let found = reply.map(|reply| {
        reply.apply(&mut registers);
        [registers.rax, registers.rbx, registers.rcx]
    });
    let end = found.map_or(0, |[done, ..]| done) as usize;
    let bytes = vm.memory.snapshot();
    let text = &bytes[BUFFER as usize..][..end];
    assert_eq!(bytes[BUFFER as usize + end], 0, "behind the end");
    (found, String::from_utf8_lossy(text).into_owned())
}

#[test]
fn whole_lines_are_read_as_far_as_they_fit() {
    let text: String = (0..10).map(line).collect();
    let all = text.len() as u64;
    assert_eq!(read(0, 4096, 0), (Ok([all, 10, 0]), text.clone()));
    assert_eq!(read(0, all, 0), (Ok([all, 10, 0]), text));
    let first: String = (0..9).map(line).collect();
    assert_eq!(read(0, all - 1, 0), (Ok([first.len() as u64, 9, 0]), first));
    assert_eq!(read(0, 4096, 9), (Ok([11, 10, 0]), line(9)));
    assert_eq!(read(0, 4096, 10), (Ok([0, 10, 0]), String::new()));
    assert_eq!(
        read(0, 4096, u64::MAX),
        (Ok([0, u64::MAX, 0]), String::new())
    );
}

#[test]
fn what_is_gone_is_counted() {
    let rest: String = (7..10).map(line).collect();
    assert_eq!(
        read(7, 4096, 2),
        (Ok([rest.len() as u64, 10, 5]), rest.clone())
    );
    assert_eq!(read(7, 4096, 7).0, Ok([rest.len() as u64, 10, 0]));
    assert_eq!(read(10, 4096, 2).0, Ok([0, 10, 8]));
}

/// Other CPUs write while this one reads: lines 0 to 4 are there at first, and
/// are overwritten when line 2 is asked for.
#[test]
fn what_is_lost_while_lines_are_read_is_lost_before_the_next_ones() {
    let vm = vm(Presence::Leaf);
    let oldest = Cell::new(0);
    let source = |number: u64, into: &mut [u8]| {
        oldest.set(oldest.get().max(if number == 2 { 5 } else { 0 }));
        lines(oldest.get())(number, into)
    };
    let mut pages = Pages::default();
    let buffer = Buffer::at_gpa(&mut pages, &vm.memory, BUFFER, 4096).expect("memory");
    let first = log::fill(&buffer, &source, 0);
    let text = line(0) + &line(1);
    assert_eq!(first, Ok(Reply::from(text.len() as u64).rbx(2).rcx(0)));
    let rest: String = (5..10).map(line).collect();
    let second = log::fill(&buffer, &source, 2);
    assert_eq!(second, Ok(Reply::from(rest.len() as u64).rbx(10).rcx(3)));
}

#[test]
fn a_buffer_that_no_line_fits_is_a_mistake() {
    let wrong = Err(Failure::Refused(Errno::InvalidArgument));
    assert_eq!(read(0, 10, 9).0, wrong);
    assert_eq!(read(0, 0, 0).0, wrong);
    assert_eq!(read(0, 0, 10).0, Ok([0, 10, 0]));
}

#[test]
fn the_log_is_the_owners_to_read_and_to_set() {
    let mut vm = vm(Presence::Leaf);
    vm.token = TOKEN;
    for (number, arguments) in [
        (call::LOG_READ, [BUFFER, 4096, 0, 0, 0]),
        (call::LOG_LEVEL, [3, 0, 0, 0, 0]),
    ] {
        let cpu = PROGRAM.calls(&vm, number, arguments);
        assert_eq!(error(&cpu), Some(Errno::NotPermitted));
        for guest in [OWNER, KERNEL] {
            assert_eq!(error(&guest.calls(&vm, number, arguments)), None);
        }
    }
    for wrong in [6, u64::MAX, 1 << 32] {
        let cpu = OWNER.calls(&vm, call::LOG_LEVEL, [wrong, 0, 0, 0, 0]);
        assert_eq!(error(&cpu), Some(Errno::InvalidArgument));
    }
}

fn write(vm: &Vm<FakeMemory>, guest: Guest, text: &[u8]) -> FakeVtx {
    vm.memory.put(BUFFER, text);
    guest.calls(vm, call::LOG_WRITE, [BUFFER, text.len() as u64, 0, 0, 0])
}

#[test]
fn a_line_says_who_wrote_it_and_holds_nothing_but_text() {
    let vm = vm(Presence::Leaf);
    let lines = RefCell::new(Vec::new());
    let long = [b'k'; 1000];
    for (guest, text, used) in [
        (PROGRAM, &b"one\n[2] \x1b[31m\xff"[..], 14),
        (KERNEL, &long, 200),
    ] {
        vm.memory.put(BUFFER, text);
        let cpu = Cpu::new(guest.at_call(call::LOG_WRITE, [0; 5]));
        let caller = Caller::new(&vm, &cpu.vcpu);
        let say = |line: Arguments<'_>| lines.borrow_mut().push(line.to_string());
        let address = [BUFFER, text.len() as u64];
        let reply = log::write(&vm, &cpu, &caller, &say, address);
        assert_eq!(reply, Ok(used.into()));
    }
    let long = format!("the guest's kernel writes: {}", "k".repeat(200));
    assert_eq!(
        lines.take(),
        ["a guest's program writes: one.[2] .[31m.", &long]
    );
}

#[test]
fn programs_have_a_ration_and_use_up_nobody_elses() {
    let mut vm = vm(Presence::Leaf);
    vm.ticks_per_second = 1 << 40;
    vm.memory.unmap(0x9000);
    for _ in 0..100 {
        let cpu = PROGRAM.calls(&vm, call::LOG_WRITE, [0x8fff, 2, 0, 0, 0]);
        assert_eq!(page_fault_of(&cpu), (0x9000, page_fault::USER));
    }
    let refused = (0..100).filter(|_| error(&write(&vm, PROGRAM, b"x")).is_some());
    assert_eq!(refused.count(), 84);
    assert_eq!(error(&write(&vm, PROGRAM, b"x")), Some(Errno::TryAgain));
    assert_eq!(error(&write(&vm, KERNEL, b"x")), None);
}
