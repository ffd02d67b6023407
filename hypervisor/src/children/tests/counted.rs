//! What is counted and traced of children, and of whom it is.

use super::*;
use crate::trace::Trace;
use crate::trace::ring::Reader;
use abi::record::ExitsRecord;
use core::sync::atomic::AtomicU64;
use std::collections::BTreeMap;
use x86::exit::Kind;

const ROOM: u64 = 0x8000;
const BUFFER: u64 = 0x1_0000;

const CPUID: Exit = Exit::Cpuid {
    leaf: 4,
    subleaf: 2,
};

fn output(port: u16) -> Exit {
    Exit::Port(PortAccess {
        input: false,
        ..input(port)
    })
}

/// A CPU of the guest's.
fn guest() -> Cpu<FakeVtx> {
    let cpu = Cpu::new(FakeVtx::default());
    cpu.counted.trace.switch(false);
    cpu
}

/// The exits of a vCPU that happened, with how many there were.
fn counts(vm: &Vm<FakeMemory>, child: u64, vcpu: u64) -> BTreeMap<String, u64> {
    let arguments = [child, vcpu, BUFFER, ROOM, 0];
    let answer = ask(vm, call::VM_STATISTICS, arguments);
    assert_eq!(answer, [Kind::ALL.len() as u64; 2]);
    let bytes = vm.memory.snapshot();
    let (records, _) = bytes[BUFFER as usize..].as_chunks();
    let rows = records[..Kind::ALL.len()]
        .iter()
        .map(ExitsRecord::from_bytes);
    let rows = rows.filter(|row| row.count > 0);
    rows.inspect(|row| assert_eq!(row.buckets.iter().sum::<u64>(), row.count))
        .map(|row| (row.kind.as_str().to_owned(), row.count))
        .collect()
}

fn rows<const N: usize>(rows: [(&str, u64); N]) -> BTreeMap<String, u64> {
    rows.map(|(kind, count)| (kind.to_owned(), count)).into()
}

#[test]
fn a_childs_exits_are_its_own_and_one_that_waits_for_its_program_counts_once() {
    let (vm, handle) = child();
    let mut cpu = guest();
    for _ in 0..5 {
        let exit = enter_on(&mut cpu, &vm, [handle, 0], &IDLE, &[CPUID, output(0x42)]);
        assert_eq!(exit.unwrap().kind, kind::PORT);
    }
    let read = [Exit::Port(input(0x43))];
    enter_on(&mut cpu, &vm, [handle, 0], &IDLE, &read).unwrap();
    let said = VmEntry {
        flags: entry::ANSWER,
        ..IDLE
    };
    enter_on(&mut cpu, &vm, [handle, 0], &said, &[Exit::Nmi]).unwrap();
    let wanted = rows([("cpuid", 5), ("port", 6), ("nmi", 1)]);
    assert_eq!(counts(&vm, handle, 0), wanted);
    let guests = cpu.counted.statistics.rows();
    let guests: Vec<_> = guests.map(|row| (row.kind, row.count)).collect();
    assert_eq!(guests, [("hypercall", 7), ("triple-fault", 7)]);
}

#[test]
fn each_vcpu_counts_for_itself_wherever_it_runs_and_begins_at_0() {
    let (vm, handle) = child();
    let [_, other] = create(&vm, "other");
    assert_eq!(ask(&vm, call::VM_VCPU, [handle, 0, 0, 0, 0])[0], 1);
    let mut cpus = [guest(), guest()];
    for cpu in &mut cpus {
        enter_on(cpu, &vm, [handle, 1], &IDLE, &[output(0x42)]).unwrap();
    }
    assert_eq!(counts(&vm, handle, 0), rows([]));
    assert_eq!(counts(&vm, handle, 1), rows([("port", 2)]));
    // The child's number does as well; here it is the first.
    assert_eq!(counts(&vm, 1, 1), rows([("port", 2)]));
    for [child, vcpu] in [[handle, 2], [handle, u64::MAX], [other, 0], [77, 0]] {
        let answer = ask(&vm, call::VM_STATISTICS, [child, vcpu, BUFFER, ROOM, 0]);
        refused(answer, Errno::NotFound);
    }
    assert_eq!(ask(&vm, call::VM_DESTROY, [handle, 0, 0, 0, 0])[0], 0);
    let [again, _] = create(&vm, "one");
    assert_eq!(ask(&vm, call::VM_VCPU, [again, 0, 0, 0, 0])[0], 0);
    assert_eq!(counts(&vm, again, 0), rows([]));
}

#[test]
fn what_a_vcpu_counts_is_read_while_it_runs() {
    let (vm, handle) = child();
    enter(&vm, handle, &IDLE, &[output(0x42)]).unwrap();
    let children = vm.children.unwrap();
    let children: &Children<FakeVtx> = children.downcast_ref().unwrap();
    let held = children.hold(handle).unwrap();
    let running = held.as_ref().unwrap().vcpus[0].lock();
    assert!(running.is_some());
    assert_eq!(counts(&vm, handle, 0), rows([("port", 1)]));
}

#[test]
fn a_trace_says_whose_each_exit_is_and_has_each_of_a_childs_once() {
    let (vm, handle) = child();
    assert_eq!(ask(&vm, call::VM_VCPU, [handle, 0, 0, 0, 0])[0], 1);
    let words = (0..64 * 8).map(|_| AtomicU64::new(0));
    let words: Vec<AtomicU64> = words.collect();
    let mut cpu = Cpu::traced(FakeVtx::default(), Trace::new(words.leak()));
    let read = [CPUID, Exit::Port(input(0x43))];
    enter_on(&mut cpu, &vm, [handle, 1], &IDLE, &read).unwrap();
    let said = VmEntry {
        flags: entry::ANSWER,
        ..IDLE
    };
    enter_on(&mut cpu, &vm, [handle, 1], &said, &[Exit::Nmi]).unwrap();
    let mut reader = Reader::default();
    let records = core::iter::from_fn(|| cpu.counted.trace.read(&mut reader, 0));
    let records: Vec<_> = records
        .map(|record| (record.kind, record.outcome, record.child, record.vcpu))
        .collect();
    assert_eq!(
        records,
        [
            ("cpuid", "done", 1, 1),
            ("port", "hand-up", 1, 1),
            ("hypercall", "done", 0, 0),
            ("triple-fault", "stop", 0, 0),
            ("nmi", "resume", 1, 1),
            ("hypercall", "done", 0, 0),
            ("triple-fault", "stop", 0, 0),
        ]
    );
}
