//! Calls on the desk: through the loop, as a guest makes them.

mod bitvisor;
mod copies;
mod counted;
mod info;
mod lines;
mod programs;
mod several;
mod shared;
mod shell;

use super::*;
use crate::fake::{FakeMemory, FakeVtx};
use crate::oddities::Oddity;
use crate::outcome::Stop;
use crate::run::run;
use crate::trace::Trace;
use crate::vm::Features;
use abi::handoff::Presence;
use abi::report::{Record, Written};
use abi::token::Token;
use core::cell::Cell;
use core::fmt::Arguments;
use core::sync::atomic::AtomicU64;
use machine::CodeSize;
use proptest::prelude::*;
use x86::exception::page_fault;
use x86::exit::Instruction;
use x86::{Exception, Exit};

fn vm(presence: Presence) -> Vm<FakeMemory> {
    Vm::new(FakeMemory::new(), presence, Features::ALL)
}

/// Who calls in a test.
#[derive(Clone, Copy)]
struct Guest {
    cpl: u8,
    size: CodeSize,
    token: [u64; 2],
}

const PROGRAM: Guest = Guest {
    cpl: 3,
    size: CodeSize::Bits64,
    token: [8, 9],
};
const KERNEL: Guest = Guest { cpl: 0, ..PROGRAM };
const OWNER: Guest = Guest {
    token: TOKEN.0,
    ..PROGRAM
};
const TOKEN: Token = Token([0x7070, 0x0909]);

impl Guest {
    /// A CPU that is at a call of this guest's.
    fn at_call(self, number: u64, [rbx, rcx, rdx, rsi, rdi]: [u64; 5]) -> FakeVtx {
        let [r8, r9] = self.token;
        FakeVtx {
            exits: [Exit::Hypercall].into(),
            registers: Registers {
                rax: number,
                rbx,
                rcx,
                rdx,
                rsi,
                rdi,
                r8,
                r9,
                ..Registers::default()
            },
            cpl: self.cpl,
            size: self.size,
            ..FakeVtx::default()
        }
    }

    /// The CPU after it.
    fn calls(self, vm: &Vm<FakeMemory>, number: u64, arguments: [u64; 5]) -> FakeVtx {
        let mut cpu = Cpu::new(self.at_call(number, arguments));
        assert_eq!(run(vm, &mut cpu), Stop::Reset);
        cpu.vcpu
    }
}

/// The error that a call ended with.
fn error(cpu: &FakeVtx) -> Option<Errno> {
    assert!(cpu.injected.is_empty(), "{:?}", cpu.injected);
    assert_eq!(cpu.rip, 0x1002);
    Errno::from_register(cpu.registers.rax)
}

/// The page fault that it raised, at its own instruction.
fn page_fault_of(cpu: &FakeVtx) -> (u64, u32) {
    assert_eq!(cpu.rip, 0x1000);
    match cpu.injected[..] {
        [Exception::PageFault { address, code }] => (address, code),
        _ => panic!("no page fault: {:?}", cpu.injected),
    }
}

/// The CPU after a call with these registers, made by a program at `cpl`.
fn call(vm: &Vm<FakeMemory>, cpl: u8, rax: u64, rbx: u64) -> FakeVtx {
    Guest { cpl, ..PROGRAM }.calls(vm, rax, [rbx, 3, 4, 5, 0])
}

fn succeeded(cpu: &FakeVtx, rax: u64) {
    let wanted = Registers {
        rax,
        ..cpu.registers
    };
    assert_eq!(cpu.registers, wanted);
    assert_eq!(
        (cpu.registers.rcx, cpu.registers.rdx, cpu.registers.r8),
        (3, 4, 8)
    );
    assert_eq!(cpu.rip, 0x1002);
    assert!(cpu.injected.is_empty());
}

fn named(vm: &Vm<FakeMemory>, at: u64, name: &[u8]) -> FakeVtx {
    vm.memory.put(at, name);
    call(vm, 3, call::RESOLVE, at)
}

#[test]
fn ping_returns_the_version() {
    succeeded(&call(&vm(Presence::Leaf), 3, call::PING, 0), 1);
}

#[test]
fn hello_counts() {
    let vm = vm(Presence::Bit);
    succeeded(&call(&vm, 3, call::HELLO, 0), 1);
    succeeded(&call(&vm, 0, call::HELLO, 0), 2);
}

#[test]
fn greetings_without_end_do_not_wash_out_the_log() {
    let mut vm = vm(Presence::Leaf);
    vm.ticks_per_second = 1 << 40;
    let cpu = Cpu::new(FakeVtx::default());
    let lines = Cell::new(0);
    let say = |_: Arguments<'_>| lines.set(lines.get() + 1);
    for greeting in 1..=100 {
        assert_eq!(hello::hello(&vm, &cpu, &say), greeting);
    }
    assert_eq!(lines.get(), 16);
}

#[test]
fn unknown_numbers_are_enosys() {
    for number in [SERVICES.len() as u64, 77, u64::MAX, 1 << 32 | call::PING] {
        succeeded(
            &call(&vm(Presence::Leaf), 3, number, 0),
            Errno::NoService.to_register(),
        );
    }
}

/// Some lines a call, each once, whatever the caller asks for.
#[test]
fn statistics_come_in_parts_and_end() {
    let vm = vm(Presence::Leaf);
    let mut cpu = Cpu::traced(FakeVtx::default(), Trace::new(&[]));
    let kinds = [Instruction::Invd, Instruction::Hlt, Instruction::Pause];
    cpu.vcpu.exits = kinds.map(Exit::Instruction).into();
    assert_eq!(run(&vm, &mut cpu), Stop::Reset);
    vm.oddities.note(Oddity::Init, format_args!("for the test"));
    let mut lines = Vec::new();
    let mut next = 0;
    loop {
        let before = lines.len();
        next = statistics::write_to(&vm, &cpu, [next, 0], &mut |line| {
            lines.push(line.to_string());
        })
        .expect("there is such a CPU");
        assert!(lines.len() - before <= 2);
        if next == 0 {
            break;
        }
    }
    assert_eq!(lines.len(), 1 + 4 + 1);
    let names = ["invd", "hlt", "pause", "triple-fault", "init"];
    assert!(
        names
            .iter()
            .all(|name| lines.iter().any(|line| line.contains(name)))
    );
    let end = [u64::MAX, 0];
    assert_eq!(statistics::write_to(&vm, &cpu, end, &mut |_| {}), Ok(0));
}

#[test]
fn a_trace_is_for_those_whose_config_asks_for_it() {
    let vm = vm(Presence::Leaf);
    for command in 0..3 {
        let none = Trace::new(&[]);
        assert_eq!(
            trace::serve(&vm, &Cpu::traced(FakeVtx::default(), none), command, 0),
            Err(Failure::Refused(Errno::NoService))
        );
    }
    let cpu = Cpu::new(FakeVtx::default());
    for (command, on) in [(0, false), (1, true)] {
        assert_eq!(trace::serve(&vm, &cpu, command, 0), Ok(0.into()));
        assert_eq!(cpu.counted.trace.is_on(), on);
    }
    assert_eq!(
        trace::serve(&vm, &cpu, 3, 0),
        Err(Failure::Refused(Errno::InvalidArgument))
    );
}

#[test]
fn a_trace_is_written_out_whole_though_the_port_is_busy_and_says_what_was_lost() {
    const EXITS: u64 = 70;
    const HELD: u64 = 32;
    let vm = vm(Presence::Leaf);
    let memory: Vec<AtomicU64> = (0..HELD * 8).map(|_| AtomicU64::new(0)).collect();
    let mut cpu = Cpu::traced(FakeVtx::default(), Trace::new(memory.leak()));
    let invd = Exit::Instruction(Instruction::Invd);
    cpu.vcpu.exits = (0..EXITS - 1).map(|_| invd).collect();
    assert_eq!(run(&vm, &mut cpu), Stop::Reset);
    let mut lines = Vec::new();
    let mut port = 0..;
    // Every seventh line finds the port busy, and is cut.
    let mut busy = || port.next().is_some_and(|n| n % 7 == 6);
    let mut line = |text: Arguments<'_>| {
        let (text, cut) = (text.to_string(), busy());
        lines.push(if cut { text[..10].to_owned() } else { text });
        !cut
    };
    while trace::write_out(&vm, &cpu.counted.trace, 0, &mut line) > 0 {}
    let records: Vec<_> = lines
        .iter()
        .filter_map(|line| Record::parse(line))
        .collect();
    let numbers = records.iter().map(|record| record.number);
    assert!(numbers.eq(EXITS - HELD..EXITS));
    assert!(records[..31].iter().all(|record| record.kind == "invd"));
    assert_eq!(
        (records[31].kind, records[31].outcome),
        ("triple-fault", "stop")
    );
    let last = lines
        .last()
        .and_then(|line| Written::parse(line))
        .expect("the end");
    assert_eq!((last.next, last.lost), (EXITS, EXITS - HELD));
}

#[test]
fn outside_64_bit_mode_the_low_halves_count() {
    let exits = [Exit::Hypercall].into();
    let registers = Registers {
        rax: 0xdead_0000_0000 | call::PING,
        ..Registers::default()
    };
    let size = CodeSize::Bits32;
    let mut cpu = Cpu::new(FakeVtx {
        exits,
        registers,
        size,
        ..FakeVtx::default()
    });
    run(&vm(Presence::Leaf), &mut cpu);
    assert_eq!(cpu.vcpu.registers.rax, 1);
}

#[test]
fn names_resolve_to_their_rows() {
    let vm = vm(Presence::Leaf);
    for service in SERVICES {
        let name = [service.name.as_bytes(), b"\0"].concat();
        succeeded(&named(&vm, 0x8000, &name), service.number);
    }
    succeeded(&named(&vm, 0x8000, b"nothing\0"), 0);
    succeeded(&named(&vm, 0x8000, b"pin\0"), 0);
    succeeded(&named(&vm, 0x8000, b"\0"), 0);
}

#[test]
fn a_name_may_straddle_pages_and_must_end() {
    let vm = vm(Presence::Leaf);
    succeeded(&named(&vm, 0x8ffe, b"ping\0"), call::PING);
    succeeded(
        &named(&vm, 0x8010, &[b'x'; 300]),
        Errno::NameTooLong.to_register(),
    );
}

#[test]
fn a_page_behind_the_names_end_is_not_touched() {
    let vm = vm(Presence::Leaf);
    vm.memory.unmap(0x9000);
    succeeded(&named(&vm, 0x9000 - 5, b"ping\0"), call::PING);
}

#[test]
fn a_program_gets_the_page_fault_of_its_own_access() {
    let vm = vm(Presence::Leaf);
    vm.memory.unmap(0x9000);
    let cpu = named(&vm, 0x9000 - 2, b"pi");
    let fault = Exception::PageFault {
        address: 0x9000,
        code: page_fault::USER,
    };
    assert_eq!(cpu.injected, [fault]);
    assert_eq!(
        (cpu.rip, cpu.registers.rax, cpu.registers.rbx),
        (0x1000, 0, 0x8ffe)
    );
}

#[test]
fn a_kernel_gets_an_error_with_the_address() {
    let vm = vm(Presence::Leaf);
    vm.memory.unmap(0x9000);
    let cpu = call(&vm, 0, call::RESOLVE, 0x9123);
    assert_eq!(cpu.registers.rax, Errno::BadAddress.to_register());
    assert_eq!((cpu.registers.rbx, cpu.rip), (0x9123, 0x1002));
    let cpu = call(&vm, 0, call::RESOLVE, 1 << 63);
    assert_eq!(
        (cpu.registers.rax, cpu.registers.rbx),
        (Errno::BadAddress.to_register(), 1 << 63)
    );
}

#[test]
fn a_kernel_that_asks_for_the_fault_gets_it() {
    let vm = vm(Presence::Leaf);
    vm.memory.unmap(0x9000);
    let number = call::RESOLVE | call::MAY_FAULT;
    let cpu = call(&vm, 0, number, 0x9123);
    let fault = Exception::PageFault {
        address: 0x9123,
        code: 0,
    };
    assert_eq!((cpu.injected, cpu.rip), (vec![fault], 0x1000));
    vm.memory.put(0x8000, b"ping\0");
    succeeded(&call(&vm, 0, number, 0x8000), call::PING);
    succeeded(&call(&vm, 3, call::PING | call::MAY_FAULT, 0), 1);
}

#[test]
fn the_hypervisors_memory_is_no_argument() {
    let vm = vm(Presence::Leaf);
    let own = FakeMemory::RESERVED.start.0;
    let cpu = call(&vm, 0, call::RESOLVE, own);
    assert_eq!(cpu.registers.rax, Errno::BadAddress.to_register());
    let cpu = call(&vm, 3, call::RESOLVE, own);
    assert_eq!(cpu.injected, [Exception::GeneralProtection(0)]);
}

#[test]
fn a_hidden_hypervisor_has_no_calls() {
    let cpu = call(&vm(Presence::Hidden), 0, call::PING, 0);
    assert_eq!(cpu.injected, [Exception::InvalidOpcode]);
    assert_eq!((cpu.rip, cpu.registers.rax), (0x1000, call::PING));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the registers hold, a call ends in a result or in one fault at
    /// its own instruction; if it failed it has written nothing but accessed
    /// and dirty bits, and the hypervisor's memory is written by none.
    #[test]
    fn any_registers_are_survived(
        number in 0u64..SERVICES.len() as u64 + 3,
        flags in prop::sample::select(vec![0, call::MAY_FAULT, call::AS_PROGRAM]),
        any: [u64; 5],
        low in prop::array::uniform5(0u64..5 << 20),
        cpl in 0u8..4,
        token: bool,
        narrow: bool,
    ) {
        let mut vm = vm(Presence::Leaf);
        vm.token = TOKEN;
        for arguments in [any, low, [any[0], low[1], low[2], low[3], any[4]]] {
            let before = vm.memory.snapshot();
            let guest = Guest {
                cpl,
                size: if narrow { CodeSize::Bits32 } else { CodeSize::Bits64 },
                token: if token { TOKEN.0 } else { [0; 2] },
            };
            let cpu = guest.calls(&vm, number | flags, arguments);
            prop_assert_eq!(cpu.rip == 0x1002, cpu.injected.is_empty());
            prop_assert!(cpu.injected.len() <= 1);
            let after = vm.memory.snapshot();
            let own = FakeMemory::RESERVED.start.0 as usize;
            prop_assert!(before[own..] == after[own..]);
            let failed = Errno::from_register(cpu.registers.rax).is_some();
            if failed || !cpu.injected.is_empty() {
                prop_assert!(same_but_for_marks(&before, &after));
            }
            vm.memory.restore();
        }
    }
}

/// Whether two snapshots differ at most in accessed and dirty bits of entries.
fn same_but_for_marks(before: &[u8], after: &[u8]) -> bool {
    let tables = FakeMemory::ROOT as usize..FakeMemory::ROOT as usize + 0x4000;
    let entries = before[tables.clone()].iter().zip(&after[tables.clone()]);
    before[..tables.start] == after[..tables.start]
        && before[tables.end..] == after[tables.end..]
        && entries.enumerate().all(|(at, (old, new))| {
            let marks = if at % 8 == 0 { 0x60 } else { 0 };
            old & !marks == new & !marks
        })
}
