//! Children on the desk: through calls, as their programs make them.

use super::*;
use crate::fake::child::{CHILD_EXITS, JOURNAL};
use crate::fake::{FakeMemory, FakeVtx};
use crate::outcome::Stop;
use crate::run::run;
use crate::vm::Features;
use abi::call;
use abi::child::{entry, exit as flags, kind};
use abi::handoff::Presence;
use abi::record::{VmEntry, VmExit, VmRegisters};
use x86::exit::{Instruction, PortAccess};
use x86::{Exit, Registers};

const POOL: Range<u64> = 0x40_0000..0x60_0000;

fn vm() -> Vm<FakeMemory> {
    let mut vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    let slots = core::array::from_fn(|_| &*Box::leak(Box::new(Slot::new(None))));
    let pieces = Box::leak(Box::new(no_pieces()));
    let all = Children::<FakeVtx>::new(slots, pieces, POOL, [7, 8]);
    vm.children = Some(Box::leak(Box::new(all)));
    vm
}

/// A call of the kernel's: RAX and RBX after it. Nothing is traced, so that `run`
/// may answer at once what it answers so.
fn ask(vm: &Vm<FakeMemory>, number: u64, arguments: [u64; 5]) -> [u64; 2] {
    let mut cpu = Cpu::new(FakeVtx::default());
    cpu.counted.trace.switch(false);
    ask_on(&mut cpu, vm, number, arguments)
}

/// The same by this CPU.
fn ask_on(
    cpu: &mut Cpu<FakeVtx>,
    vm: &Vm<FakeMemory>,
    number: u64,
    [rbx, rcx, rdx, rsi, rdi]: [u64; 5],
) -> [u64; 2] {
    cpu.vcpu.exits = [Exit::Hypercall].into();
    cpu.vcpu.registers = Registers {
        rax: number,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        ..Registers::default()
    };
    assert_eq!(run(vm, cpu), Stop::Reset);
    [cpu.vcpu.registers.rax, cpu.vcpu.registers.rbx]
}

fn refused(answer: [u64; 2], errno: Errno) {
    assert_eq!(answer[0], errno.to_register(), "not {errno:?}");
}

const NAME: u64 = 0x5000;
const ENTRY: u64 = 0x6000;
const EXIT: u64 = 0x7000;

fn create(vm: &Vm<FakeMemory>, name: &str) -> [u64; 2] {
    vm.memory.put(NAME, name.as_bytes());
    ask(vm, call::VM_CREATE, [NAME, name.len() as u64, 0, 0, 0])
}

const IDLE: VmEntry = VmEntry {
    flags: 0,
    event: 0,
    error: 0,
    zero: 0,
    values: [0; 4],
};

fn enter(vm: &Vm<FakeMemory>, handle: u64, said: &VmEntry, exits: &[Exit]) -> Result<VmExit, u64> {
    let mut cpu = Cpu::new(FakeVtx::default());
    cpu.counted.trace.switch(false);
    enter_on(&mut cpu, vm, [handle, 0], said, exits)
}

/// The same by this CPU, for one of the child's vCPUs.
fn enter_on(
    cpu: &mut Cpu<FakeVtx>,
    vm: &Vm<FakeMemory>,
    [handle, vcpu]: [u64; 2],
    said: &VmEntry,
    exits: &[Exit],
) -> Result<VmExit, u64> {
    CHILD_EXITS.with_borrow_mut(|list| list.extend(exits));
    vm.memory.put(ENTRY, &said.to_bytes());
    let [rax, _] = ask_on(cpu, vm, call::VM_RUN, [handle, vcpu, ENTRY, EXIT, 0]);
    let mut bytes = [0; VmExit::SIZE];
    let at = EXIT as usize;
    bytes.copy_from_slice(&vm.memory.snapshot()[at..at + VmExit::SIZE]);
    let exit = VmExit::from_bytes(&bytes);
    match rax as i64 {
        0.. => {
            assert_eq!(rax, u64::from(exit.kind));
            Ok(exit)
        }
        _ => Err(rax),
    }
}

/// A guest with a child that has a vCPU.
fn child() -> (Vm<FakeMemory>, u64) {
    let vm = vm();
    let [handle, _] = create(&vm, "one");
    assert_eq!(ask(&vm, call::VM_VCPU, [handle, 0, 0, 0, 0])[0], 0);
    (vm, handle)
}

fn input(port: u16) -> PortAccess {
    PortAccess {
        port,
        size: 1,
        input: true,
        string: false,
        repeat: false,
        segment: None,
        value: 0x1ff,
        next: None,
    }
}

fn registers(vm: &Vm<FakeMemory>, handle: u64) -> VmRegisters {
    let [rax, _] = ask(vm, call::VM_REGISTERS_READ, [handle, 0, 0x8000, 0, 0]);
    assert_eq!(rax, 0);
    let mut bytes = [0; VmRegisters::SIZE];
    bytes.copy_from_slice(&vm.memory.snapshot()[0x8000..0x8000 + VmRegisters::SIZE]);
    VmRegisters::from_bytes(&bytes)
}

#[test]
fn names_are_unique_and_handles_are_secrets() {
    let vm = vm();
    let [one, first] = create(&vm, "one");
    let [other, second] = create(&vm, "other");
    assert_eq!([first, second], [1, 2]);
    assert_ne!(one, other);
    assert!(one & HANDLE != 0 && other & HANDLE != 0);
    refused(create(&vm, "one"), Errno::Exists);
    refused(create(&vm, ""), Errno::InvalidArgument);
    refused(create(&vm, "a\n"), Errno::InvalidArgument);
    refused(create(&vm, &"x".repeat(33)), Errno::NameTooLong);
    // A number is enough to end a child, and not to use it.
    refused(
        ask(&vm, call::VM_VCPU, [first, 0, 0, 0, 0]),
        Errno::NotFound,
    );
    assert_eq!(ask(&vm, call::VM_DESTROY, [first, 0, 0, 0, 0])[0], 0);
    refused(ask(&vm, call::VM_VCPU, [one, 0, 0, 0, 0]), Errno::NotFound);
    let [_, third] = create(&vm, "one");
    assert_eq!(third, 3);
}

#[test]
fn there_are_no_more_children_than_there_is_room_for() {
    let vm = vm();
    for number in 0..CHILDREN_MAX {
        assert_eq!(create(&vm, &format!("n{number}"))[1], number as u64 + 1);
    }
    refused(create(&vm, "more"), Errno::NoSpace);
    let [written, all] = ask(&vm, call::VM_LIST, [0x9000, 4096, 0, 0, 0]);
    assert_eq!([written, all], [CHILDREN_MAX as u64; 2]);
}

#[test]
fn a_port_is_written_and_read_by_the_program() {
    let (vm, handle) = child();
    let before = registers(&vm, handle);
    let write = Exit::Port(PortAccess {
        input: false,
        value: 0x61,
        ..input(0x42)
    });
    let exit = enter(&vm, handle, &IDLE, &[write]).unwrap();
    assert_eq!((exit.kind, exit.port, exit.size), (kind::PORT, 0x42, 1));
    assert_eq!((exit.data, exit.flags & flags::READ), (0x61, 0));
    assert_eq!(exit.rip, before.rip + 2);

    let exit = enter(&vm, handle, &IDLE, &[Exit::Port(input(0x43))]).unwrap();
    assert_eq!((exit.port, exit.flags & flags::READ), (0x43, flags::READ));
    assert_eq!(exit.rip, before.rip + 2);
    let said = VmEntry {
        flags: entry::ANSWER,
        values: [0x7a, 0, 0, 0],
        ..IDLE
    };
    let halt = [Exit::Instruction(Instruction::Hlt)];
    let exit = enter(&vm, handle, &said, &halt).unwrap();
    assert_eq!((exit.kind, exit.rip), (kind::HALT, before.rip + 6));
    assert_eq!(registers(&vm, handle).general[0] & 0xff, 0x7a);
}

#[test]
fn a_read_that_the_program_refuses_is_a_fault_and_asked_no_more() {
    let (vm, handle) = child();
    let before = registers(&vm, handle).rip;
    let exit = enter(&vm, handle, &IDLE, &[Exit::Port(input(0x43))]).unwrap();
    assert_eq!(exit.flags & flags::READ, flags::READ);
    let refused = VmEntry {
        flags: entry::FAULT,
        ..IDLE
    };
    let exit = enter(&vm, handle, &refused, &[Exit::Nmi]).unwrap();
    assert_eq!((exit.kind, exit.rip), (kind::INTERRUPTED, before));
    assert_eq!(exit.flags & flags::READ, 0);
}

#[test]
fn an_answer_of_a_read_that_nobody_waits_for_means_nothing() {
    let (vm, handle) = child();
    let said = VmEntry {
        flags: entry::ANSWER,
        values: [0x7a, 0, 0, 0],
        ..IDLE
    };
    let exit = enter(&vm, handle, &said, &[Exit::Interrupt { vector: None }]).unwrap();
    assert_eq!(exit.kind, kind::INTERRUPTED);
    assert_eq!(registers(&vm, handle).general[0], 0);
}

#[test]
fn each_turn_exchanges_registers_once_and_leaves_nothing_loaded() {
    let (vm, handle) = child();
    JOURNAL.with_borrow_mut(Vec::clear);
    enter(&vm, handle, &IDLE, &[Exit::Nmi]).unwrap();
    let journal = JOURNAL.with_borrow_mut(std::mem::take);
    let whole = ["load", "board", "alight", "note for the guest", "unload"];
    assert_eq!(journal, whole);
}

#[test]
fn what_shuts_down_stays_so_until_its_registers_are_set() {
    let (vm, handle) = child();
    let kinds = |exits: &[Exit]| enter(&vm, handle, &IDLE, exits).unwrap().kind;
    assert_eq!(kinds(&[Exit::TripleFault]), kind::SHUTDOWN);
    assert_eq!(kinds(&[]), kind::SHUTDOWN);
    registers(&vm, handle);
    let arguments = [handle, 0, 0x8000, 0, 0];
    assert_eq!(ask(&vm, call::VM_REGISTERS_WRITE, arguments)[0], 0);
    assert_eq!(kinds(&[Exit::Nmi]), kind::INTERRUPTED);
}

#[test]
fn a_call_brings_its_registers_and_takes_rax() {
    let (vm, handle) = child();
    let exit = enter(&vm, handle, &IDLE, &[Exit::Hypercall]).unwrap();
    assert_eq!((exit.kind, exit.data), (kind::CALL, 0));
    let said = VmEntry {
        flags: entry::ANSWER,
        values: [0x1234, 0, 0, 0],
        ..IDLE
    };
    enter(&vm, handle, &said, &[Exit::Nmi]).unwrap();
    assert_eq!(registers(&vm, handle).general[0], 0x1234);
}

#[test]
fn cpuid_and_msrs_are_the_programs_only_if_it_asks() {
    let (vm, handle) = child();
    let cpuid = Exit::Cpuid {
        leaf: 4,
        subleaf: 2,
    };
    let msr = Exit::ReadMsr { number: 0x1b };
    let exit = enter(&vm, handle, &IDLE, &[cpuid, msr, Exit::Nmi]).unwrap();
    assert_eq!(exit.kind, kind::INTERRUPTED);
    let said = VmEntry {
        flags: entry::CPUID | entry::MSRS,
        ..IDLE
    };
    let exit = enter(&vm, handle, &said, &[cpuid]).unwrap();
    assert_eq!((exit.kind, exit.data), (kind::CPUID, 4));
    let [subleaf, offer @ ..] = exit.values;
    assert_eq!(subleaf, 2);
    let seen = FakeVtx::default().cpuid(4, 2);
    assert_eq!(
        offer,
        [seen.eax, seen.ebx, seen.ecx, seen.edx].map(u64::from)
    );
    let exit = enter(&vm, handle, &said, &[msr]).unwrap();
    assert_eq!((exit.kind, exit.port), (kind::MSR, 0x1b));
}

#[test]
fn entries_that_make_no_sense_are_refused_and_nothing_runs() {
    let (vm, handle) = child();
    let event = |event| VmEntry {
        flags: entry::EVENT,
        event,
        ..IDLE
    };
    let flags = |flags| VmEntry { flags, ..IDLE };
    let wrong = [
        flags(128),
        flags(entry::ANSWER | entry::FAULT),
        VmEntry { zero: 1, ..IDLE },
        event(3),
        event(0x400 | 0x80),
        event(0x300 | 2),
        event(0x1_0000_0030_u64 as u32 | 1 << 12),
    ];
    for entry in wrong {
        let answer = enter(&vm, handle, &entry, &[]);
        assert_eq!(
            answer,
            Err(Errno::InvalidArgument.to_register()),
            "{entry:?}"
        );
    }
    // Interrupts are off after a reset.
    let exit = enter(&vm, handle, &event(0x30), &[Exit::Nmi]).unwrap();
    assert_eq!(exit.flags & flags::NOT_RAISED, flags::NOT_RAISED);
}

#[test]
fn a_child_is_shown_only_what_it_was_given() {
    let (vm, handle) = child();
    let [other, _] = create(&vm, "other");
    let [piece, bytes] = ask(&vm, call::VM_MEMORY, [handle, 0, 0, 0, 0]);
    assert_eq!([piece, bytes], [POOL.start, PIECE]);
    let map =
        |handle, at, from, bytes, rights| ask(&vm, call::VM_MAP, [handle, at, from, bytes, rights]);
    assert_eq!(map(handle, 0, piece, 0x2000, 7)[0], 0x2000);
    refused(map(other, 0, piece, 0x1000, 7), Errno::NotPermitted);
    refused(
        map(handle, 0, piece + PIECE, 0x1000, 1),
        Errno::InvalidArgument,
    );
    refused(
        map(handle, 0, piece - 0x1000, 0x1000, 1),
        Errno::InvalidArgument,
    );
    refused(map(handle, 0, 0x1000, 0x1000, 1), Errno::InvalidArgument);
    refused(map(handle, 0, !0xfff, 0x2000, 1), Errno::InvalidArgument);
    refused(map(handle, 1, piece, 0x1000, 1), Errno::InvalidArgument);
    refused(map(handle, 0, piece, 0x1001, 1), Errno::InvalidArgument);
    refused(map(handle, 0, piece, 0x1000, 2), Errno::InvalidArgument);
    refused(map(handle, 0, piece, 0x1000, 8), Errno::InvalidArgument);
    assert_eq!(map(handle, 0, 0, 0x1000, 0)[0], 0x1000);
    refused(
        ask(&vm, call::VM_MEMORY, [other, 0, 0, 0, 0]),
        Errno::NoSpace,
    );
    assert_eq!(ask(&vm, call::VM_DESTROY, [handle, 0, 0, 0, 0])[0], 0);
    assert_eq!(ask(&vm, call::VM_MEMORY, [other, 0, 0, 0, 0])[0], piece);
}

#[test]
fn without_a_pool_there_are_no_such_services() {
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    for number in call::VM_CREATE..=call::VM_STATISTICS {
        let answer = ask(&vm, number, [0x5000, 1, 0x5000, 0x6000, 0]);
        refused(answer, Errno::NoService);
    }
}

mod counted;
mod turns;
