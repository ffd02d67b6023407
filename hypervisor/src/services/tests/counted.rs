//! What was counted and traced, read by calls.

use super::*;
use abi::record::{ExitsRecord, OddityRecord, TraceRecord};
use x86::exit::Kind;

/// The buffer begins near the end of a page.
const BUFFER: u64 = 0x1_0fc0;
const ROOM: u64 = 0x8000;

fn machine() -> Vm<FakeMemory> {
    let mut vm = vm(Presence::Leaf);
    vm.token = TOKEN;
    vm
}

/// A CPU of the owner's that runs these exits, the last of which is a call
/// with these registers, about itself.
fn runs(vm: &Vm<FakeMemory>, cpu: &mut Cpu<FakeVtx>, exits: &[Exit], number: u64, third: u64) {
    let arguments = match number {
        call::STATISTICS_RESET => [0; 5],
        _ => [BUFFER, ROOM, third, 0, 0],
    };
    let at = OWNER.at_call(number, arguments);
    cpu.vcpu.registers = at.registers;
    cpu.vcpu.cpl = at.cpl;
    cpu.vcpu.exits = exits.iter().copied().chain([Exit::Hypercall]).collect();
    assert_eq!(run(vm, cpu), Stop::Reset);
}

fn owner() -> Cpu<FakeVtx> {
    Cpu::new(OWNER.at_call(call::PING, [0; 5]))
}

/// `count` records of `SIZE` bytes from the buffer.
fn records<const SIZE: usize>(vm: &Vm<FakeMemory>, count: u64) -> Vec<[u8; SIZE]> {
    let bytes = vm.memory.snapshot();
    let (records, _) = bytes[BUFFER as usize..].as_chunks();
    records[..count as usize].to_vec()
}

const INVD: Exit = Exit::Instruction(Instruction::Invd);

#[test]
fn the_owner_reads_what_exits_cost_and_resets_it() {
    let vm = machine();
    let mut cpu = owner();
    runs(&vm, &mut cpu, &[INVD, INVD], call::STATISTICS_READ, 0);
    let all = Kind::ALL.len() as u64;
    assert_eq!((cpu.vcpu.registers.rax, cpu.vcpu.registers.rbx), (all, all));
    let rows = records(&vm, all)
        .iter()
        .map(ExitsRecord::from_bytes)
        .collect::<Vec<_>>();
    for (row, kind) in rows.iter().zip(Kind::ALL) {
        assert_eq!(row.kind.as_str(), kind.name());
        assert_eq!(row.count, if kind == Kind::Invd { 2 } else { 0 });
        assert_eq!(row.buckets.iter().sum::<u64>(), row.count);
    }
    let first = all - 1;
    runs(&vm, &mut cpu, &[], call::STATISTICS_READ, first);
    assert_eq!(cpu.vcpu.registers.rax, 1);
    let last = ExitsRecord::from_bytes(&records(&vm, 1)[0]);
    assert_eq!(last.kind.as_str(), Kind::ALL[first as usize].name());
    runs(&vm, &mut cpu, &[], call::STATISTICS_RESET, 0);
    // The triple faults that ended each run, two invd and two calls.
    assert_eq!(cpu.vcpu.registers.rax, 6);
    // The reset itself and the end of its run.
    assert_eq!(cpu.counted.statistics.total(), 2);
}

#[test]
fn odd_things_are_told_with_their_counts() {
    let vm = machine();
    PROGRAM.calls(&vm, call::LOG_LEVEL, [0; 5]);
    let mut cpu = owner();
    runs(&vm, &mut cpu, &[], call::ODDITIES_READ, 0);
    let all = cpu.vcpu.registers.rax;
    assert_eq!(all, vm.oddities.all().len() as u64);
    let rows = records(&vm, all);
    let odd = rows
        .iter()
        .map(OddityRecord::from_bytes)
        .filter(|row| row.count > 0);
    let odd: Vec<_> = odd
        .map(|row| (row.name.as_str().to_owned(), row.count))
        .collect();
    assert_eq!(odd, [("refused-call".to_owned(), 1)]);
}

#[test]
fn names_fit_their_records() {
    for kind in Kind::ALL {
        let record = ExitsRecord::from(abi::report::Exits {
            kind: kind.name(),
            count: 0,
            total: 0,
            most: 0,
            buckets: [0; 32],
        });
        assert_eq!(record.kind.as_str(), kind.name());
    }
    let vm = machine();
    for oddity in vm.oddities.all() {
        assert_eq!(OddityRecord::from(oddity).name.as_str(), oddity.name);
    }
}

fn traced(lines: u64) -> Cpu<FakeVtx> {
    let memory: Vec<AtomicU64> = (0..lines * 8).map(|_| AtomicU64::new(0)).collect();
    let at = OWNER.at_call(call::PING, [0; 5]);
    Cpu::traced(at, Trace::new(memory.leak()))
}

#[test]
fn the_owner_reads_the_trace_from_where_it_stopped_and_learns_what_is_lost() {
    let vm = machine();
    let mut cpu = traced(8);
    runs(&vm, &mut cpu, &[INVD; 3], call::TRACE_READ, 1);
    let found = &cpu.vcpu.registers;
    assert_eq!((found.rax, found.rbx, found.rcx), (2, 3, 0));
    for (number, bytes) in (1..).zip(records(&vm, 2)) {
        let record = TraceRecord::from_bytes(&bytes);
        assert_eq!((record.number, record.kind.as_str()), (number, "invd"));
        assert_eq!(record.outcome.as_str(), "done");
        assert!(record.begin < record.end);
    }
    // 5 records so far: 3 invd, the call, the end. 20 more; the ring holds 8.
    runs(&vm, &mut cpu, &[INVD; 20], call::TRACE_READ, 3);
    let found = &cpu.vcpu.registers;
    assert_eq!((found.rax, found.rbx, found.rcx), (8, 25, 14));
    let first = TraceRecord::from_bytes(&records(&vm, 1)[0]);
    assert_eq!(first.number, 17);
    for beyond in [1000, u64::MAX] {
        runs(&vm, &mut cpu, &[], call::TRACE_READ, beyond);
        let found = &cpu.vcpu.registers;
        assert_eq!((found.rax, found.rbx, found.rcx), (0, beyond, 0));
    }
}

#[test]
fn the_trace_is_switched_where_there_is_one() {
    let vm = machine();
    let mut cpu = traced(8);
    for (on, before) in [(0, 1), (0, 0), (1, 0), (1, 1)] {
        assert_eq!(trace::switch(&vm, &cpu, on, 0), Ok(before.into()));
        assert_eq!(cpu.counted.trace.is_on(), on == 1);
    }
    let wrong = Err(Failure::Refused(Errno::InvalidArgument));
    assert_eq!(trace::switch(&vm, &cpu, 2, 0), wrong);
    cpu = traced(0);
    assert_eq!(
        trace::switch(&vm, &cpu, 1, 0),
        Err(Failure::Refused(Errno::NoService))
    );
    runs(&vm, &mut cpu, &[], call::TRACE_READ, 0);
    assert_eq!(error(&cpu.vcpu), Some(Errno::NoService));
}

#[test]
fn what_is_counted_is_the_owners() {
    let vm = machine();
    for number in [
        call::STATISTICS,
        call::TRACE,
        call::STATISTICS_READ,
        call::ODDITIES_READ,
        call::STATISTICS_RESET,
        call::TRACE_READ,
        call::TRACE_SWITCH,
        call::CPUS_READ,
    ] {
        let arguments = [BUFFER, ROOM, 0, 0, 0];
        let cpu = PROGRAM.calls(&vm, number, arguments);
        assert_eq!(error(&cpu), Some(Errno::NotPermitted), "{number}");
        let cpu = KERNEL.calls(&vm, number, arguments);
        assert_ne!(error(&cpu), Some(Errno::NotPermitted), "{number}");
    }
}
