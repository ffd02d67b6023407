//! Calls by several CPUs at once, each a thread.

use super::*;
use crate::fake::locked::Locked;
use crate::peers::Peers;
use abi::record::{CpuRecord, ExitsRecord, TraceRecord};
use machine::LogLine;
use std::collections::BTreeSet;
use std::sync::{Barrier, Mutex};
use std::thread;
use x86::Gpa;
use x86::startup::Signal;

const CPUS: u32 = 4;
const ROUNDS: u64 = 150;
/// Lines of each CPU's trace.
const TRACED: u64 = 16;

fn machine() -> Vm<Locked> {
    let memory = Locked::default();
    let mut vm = Vm::new(memory, Presence::Leaf, Features::ALL);
    vm.token = TOKEN;
    // No ration grows again.
    vm.ticks_per_second = 1 << 40;
    vm.peers = Peers::new(CPUS);
    vm.cpus = CPUS;
    vm
}

/// A CPU, with its own place for operands.
struct Pinned<'a> {
    vm: &'a Vm<Locked>,
    cpu: Cpu<FakeVtx>,
    /// Exits that it made.
    made: u64,
}

impl<'a> Pinned<'a> {
    fn new(vm: &'a Vm<Locked>, number: u32) -> Self {
        let words = (0..TRACED * 8).map(|_| AtomicU64::new(0));
        let words: Vec<AtomicU64> = words.collect();
        let mut cpu = Cpu::traced(FakeVtx::default(), Trace::new(words.leak()));
        cpu.number = number;
        vm.counted.note(&cpu);
        Self { vm, cpu, made: 0 }
    }

    fn at(&self) -> u64 {
        0x1_0000 * (1 + u64::from(self.cpu.number))
    }

    /// Another one.
    fn other(&self, round: u64) -> u64 {
        (u64::from(self.cpu.number) + round) % u64::from(CPUS)
    }

    /// Makes a call as the kernel.
    fn call(&mut self, number: u64, arguments: [u64; 5]) -> Result<[u64; 3], Errno> {
        let vcpu = &mut self.cpu.vcpu;
        vcpu.registers = KERNEL.at_call(number, arguments).registers;
        vcpu.exits = [Exit::Hypercall].into();
        assert_eq!(run(self.vm, &mut self.cpu), Stop::Reset);
        self.made += 2;
        let found = &self.cpu.vcpu.registers;
        let result = [found.rax, found.rbx, found.rcx];
        Errno::from_register(found.rax).map_or(Ok(result), Err)
    }

    fn told<const SIZE: usize>(&self, count: u64) -> Vec<[u8; SIZE]> {
        let mut bytes = vec![0; SIZE * count as usize];
        self.vm
            .memory
            .read(Gpa(self.at()), &mut bytes)
            .expect("memory");
        bytes.as_chunks().0.to_vec()
    }

    fn records(&mut self, number: u64, third: u64, fourth: u64) -> [u64; 3] {
        let arguments = [self.at(), 0x8000, third, fourth, 0];
        self.call(number, arguments).expect("it tells")
    }
}

/// Does `what` on every CPU at once.
fn on_each<R: Send>(vm: &Vm<Locked>, what: impl Fn(&mut Pinned<'_>) -> R + Sync) -> Vec<R> {
    let started = Barrier::new(CPUS as usize);
    let one = |number| {
        let mut caller = Pinned::new(vm, number);
        started.wait();
        what(&mut caller)
    };
    thread::scope(|scope| {
        let one = &one;
        let threads = (0..CPUS).map(|number| scope.spawn(move || one(number)));
        let threads: Vec<_> = threads.collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results.map(|result| result.expect("no panic")).collect()
    })
}

#[test]
fn every_exit_is_counted_once_while_all_read_and_reset_each_other() {
    let vm = machine();
    let figures = on_each(&vm, |caller| {
        let mut forgotten = 0;
        for round in 0..ROUNDS {
            let of = caller.other(round);
            let [kinds, _, cpu] = caller.records(call::STATISTICS_READ, 0, of);
            assert_eq!(cpu, of);
            for row in caller.told(kinds).iter().map(ExitsRecord::from_bytes) {
                assert_eq!(row.count, row.buckets.iter().sum::<u64>());
            }
            let reset = caller.call(call::STATISTICS_RESET, [of, 0, 0, 0, 0]);
            forgotten += reset.expect("it is allowed")[0];
        }
        (caller.made, forgotten, &caller.cpu.counted.statistics)
    });
    let made: u64 = figures.iter().map(|figure| figure.0).sum();
    let found = figures
        .iter()
        .map(|(_, forgotten, own)| forgotten + own.total());
    assert_eq!(found.sum::<u64>(), made);
    assert!(figures.iter().all(|(made, _, own)| own.ever() == *made));
}

#[test]
fn each_reads_the_others_traces_whole_and_knows_what_it_missed() {
    let vm = machine();
    let found = on_each(&vm, |caller| {
        let mut places = [[0u64; 2]; CPUS as usize];
        for round in 0..ROUNDS {
            take(caller, round, &mut places);
        }
        (&caller.cpu.counted.trace, places)
    });
    for (_, places) in &found {
        for ((trace, _), [read, missed]) in found.iter().zip(places) {
            assert!(read + missed <= trace.next());
        }
    }
    let sum = |which: usize| -> u64 { found.iter().flat_map(|one| one.1).map(|p| p[which]).sum() };
    assert!(sum(0) > 0 && sum(1) > 0, "the rings are to overflow");
}

/// Reads what is new of one trace. `places` has for each what was read and what
/// was missed, which together are where to go on.
fn take(caller: &mut Pinned<'_>, round: u64, places: &mut [[u64; 2]]) {
    let of = caller.other(round);
    let place = &mut places[of as usize];
    let before = place[0] + place[1];
    let [count, next, lost] = caller.records(call::TRACE_READ, before, of);
    assert_eq!(next, before + count + lost);
    let records = caller.told(count);
    let records = records.iter().map(TraceRecord::from_bytes);
    let mut from = before;
    for record in records {
        // One that is overwritten while those before it are read is missed in
        // their midst.
        assert!((from..next).contains(&record.number));
        from = record.number + 1;
        assert_eq!(u64::from(record.cpu), of);
        let kind = ["hypercall", "triple-fault"][(record.number % 2) as usize];
        assert_eq!(record.kind.as_str(), kind);
        assert!(record.begin < record.end);
    }
    *place = [place[0] + count, place[1] + lost];
}

#[test]
fn a_ration_is_the_same_for_all_and_greetings_are_counted_once() {
    let vm = machine();
    let results = on_each(&vm, |caller| {
        let line = [caller.at(), 5, 0, 0, 0];
        let calls = (0..ROUNDS).map(|_| {
            let written = caller.call(call::LOG_WRITE, line);
            assert!(matches!(written, Ok(_) | Err(Errno::TryAgain)));
            let greeting = caller.call(call::HELLO, [0; 5]).expect("it greets")[0];
            (u64::from(written.is_ok()), greeting)
        });
        calls.collect::<Vec<_>>()
    });
    let calls = results.concat();
    assert_eq!(calls.iter().map(|call| call.0).sum::<u64>(), 16);
    let greetings: BTreeSet<u64> = calls.iter().map(|call| call.1).collect();
    let all = ROUNDS * u64::from(CPUS);
    assert!(greetings.into_iter().eq(1..=all));
}

#[test]
fn shared_buffers_and_sessions_belong_to_one_at_a_time() {
    let vm = machine();
    let held = Mutex::new(BTreeSet::new());
    on_each(&vm, |caller| {
        let page = caller.at() + 0x1000;
        let list = caller.at() + 0x2000;
        vm.memory.lock().put(list, &page.to_le_bytes());
        for _ in 0..ROUNDS {
            let share = caller.call(call::BUFFER_SHARE, [list, 0x800, 0, 0, 0]);
            let [handle, ..] = share.expect("there are more than CPUs");
            assert!(held.lock().expect("whole").insert(handle), "{handle} twice");
            let fill = caller.call(call::LOG_FILL, [handle, 0, 0, 0, 0]);
            assert_eq!(fill, Ok([0; 3]), "nobody writes to this log");
            held.lock().expect("whole").remove(&handle);
            let release = caller.call(call::BUFFER_RELEASE, [handle, 0, 0, 0, 0]);
            assert!(release.is_ok());
            session(caller);
        }
    });
    assert_eq!(read_log(0, &mut []), LogLine::NotYet);
}

/// A session shows the line of this CPU, whatever others ask theirs for.
fn session(caller: &mut Pinned<'_>) {
    let [handle, ..] = caller.call(call::SHELL_OPEN, [0; 5]).expect("room");
    let number = caller.cpu.number;
    let (line, text) = (caller.at() + 0x3000, caller.at());
    caller.vm.memory.lock().put(line, b"cpus");
    let [done, more, _] = caller
        .call(call::SHELL_LINE, [handle, line, 4, text, 4096])
        .expect("a session of one's own");
    let said = caller.told::<1>(done).concat();
    let said = String::from_utf8(said).expect("text");
    assert_eq!(more, 0, "{said}");
    assert!(said.contains(&format!("\nthis is cpu{number};")), "{said}");
    assert_eq!(said.lines().count(), CPUS as usize + 2, "{said}");
    let closed = caller.call(call::SHELL_CLOSE, [handle, 0, 0, 0, 0]);
    assert!(closed.is_ok());
}

#[test]
fn cpus_are_told_with_what_they_do_and_there_are_no_others() {
    let vm = machine();
    let mut callers: Vec<_> = (0..CPUS).map(|number| Pinned::new(&vm, number)).collect();
    vm.peers.signal(2, Signal::Init);
    callers[3].cpu.counted.trace.switch(false);
    callers[1].call(call::PING, [0; 5]).expect("it answers");
    let caller = &mut callers[1];
    let [written, all, here] = caller.records(call::CPUS_READ, 0, 0);
    assert_eq!([written, all, here], [CPUS.into(), CPUS.into(), 1]);
    let told = caller.told(written);
    let told = told.iter().map(CpuRecord::from_bytes);
    let told: Vec<_> = told
        .map(|cpu| (cpu.number, cpu.state, cpu.trace, cpu.exits))
        .collect();
    assert_eq!(
        told,
        [(0, 0, 2, 0), (1, 0, 2, 2), (2, 2, 2, 0), (3, 0, 1, 0)]
    );
    let [written, ..] = caller.records(call::CPUS_READ, 3, 0);
    assert_eq!(written, 1);
    for none in [CPUS.into(), 64, 1 << 32, u64::MAX] {
        let at = caller.at();
        for (number, arguments) in [
            (call::STATISTICS, [0, none, 0, 0, 0]),
            (call::TRACE, [1, none, 0, 0, 0]),
            (call::STATISTICS_READ, [at, 0x8000, 0, none, 0]),
            (call::STATISTICS_RESET, [none, 0, 0, 0, 0]),
            (call::TRACE_READ, [at, 0x8000, 0, none, 0]),
            (call::TRACE_SWITCH, [1, none, 0, 0, 0]),
        ] {
            let answer = caller.call(number, arguments);
            assert_eq!(answer, Err(Errno::InvalidArgument), "{number} of {none}");
        }
    }
}
