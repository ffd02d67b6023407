//! What is timed.

use crate::child::{Child, Program};
use crate::timer::{Cost, DEVICE, Registers, Timer};
use abi::call;
use abi::child::kind;
use abi::record::Info;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;
use tests::print::Offer;
use tests::sandbox::{DATA, Ending};
use tests::{Report, cpu};

/// One operation.
pub struct Operation {
    name: &'static str,
    /// In ring 3.
    user: bool,
    instruction: &'static [u8],
    registers: Registers,
    /// RAX afterwards.
    gives: Option<u64>,
}

/// The sandbox's breakpoint behind the instruction.
const BREAKPOINT: u8 = 3;
const PAGE: u64 = 4096;
/// A service that nobody offers, in six letters: all names are compared.
const NO_SERVICE: [u8; 8] = *b"nobody\0\0";

const XCHG_BX_BX: &[u8] = &[0x66, 0x87, 0xdb];
const CPUID: &[u8] = &[0x0f, 0xa2];
const RDMSR: &[u8] = &[0x0f, 0x32];
const OUT_DX_AL: &[u8] = &[0xee];
const MOV_AT_RBX_AL: &[u8] = &[0x88, 0x03];
const MOV_AT_RBX_RAX: &[u8] = &[0x48, 0x89, 0x03];
const VMCALL: &[u8] = &[0x0f, 0x01, 0xc1];
const VMMCALL: &[u8] = &[0x0f, 0x01, 0xd9];

/// What can be timed without Underlay as well.
pub fn everywhere() -> Vec<Operation> {
    // A register that Underlay answers for: it locks virtualisation off.
    let locking = if cpu::is_intel() { 0x3a } else { 0xc001_0114 };
    vec![
        Operation {
            name: "cpuid",
            user: true,
            instruction: CPUID,
            registers: [0; 6],
            gives: Some(u64::from(cpu::cpuid(0).eax)),
        },
        Operation {
            name: "rdmsr",
            user: false,
            instruction: RDMSR,
            registers: [0, 0, locking, 0, 0, 0],
            gives: None,
        },
    ]
}

/// What there is with Underlay only.
pub fn beneath(timer: &mut Timer, offer: Offer) -> Vec<Operation> {
    timer.place(NO_SERVICE);
    timer.map(offer.page);
    let physical = Box::leak(Box::new(Page([0; 4096])));
    let physical = core::ptr::from_mut(physical) as u64;
    let [second, letter] = [DATA + PAGE, u64::from(b'.')];
    let call = |name, number, user, [rbx, rcx, rdx]: [u64; 3], gives| Operation {
        name,
        user,
        instruction: call_instruction(),
        registers: [number, rbx, rcx, rdx, 0, 0],
        gives: Some(gives),
    };
    let copy = |name, bytes| {
        let arguments = [second, DATA, bytes];
        call(name, call::MEMORY_COPY, true, arguments, bytes)
    };
    let version = u64::from(call::VERSION);
    let printed = |name, instruction, registers| Operation {
        name,
        user: false,
        instruction,
        registers,
        gives: None,
    };
    vec![
        call("ping", call::PING, true, [0; 3], version),
        call("resolve6", call::RESOLVE, true, [DATA, 0, 0], 0),
        call(
            "read4k",
            call::MEMORY_WRITE_PHYSICAL,
            false,
            [DATA, physical, PAGE],
            PAGE,
        ),
        call(
            "write4k",
            call::MEMORY_READ_PHYSICAL,
            false,
            [second, physical, PAGE],
            PAGE,
        ),
        copy("copy4k", PAGE),
        copy("copy8", 8),
        copy("copy0", 0),
        printed(
            "port_out",
            OUT_DX_AL,
            [letter, 0, 0, u64::from(offer.port), 0, 0],
        ),
        printed("mmio_write", MOV_AT_RBX_AL, [letter, DEVICE, 0, 0, 0, 0]),
        printed(
            "mmio_write8",
            MOV_AT_RBX_RAX,
            [letter * 0x0101_0101_0101_0101, DEVICE, 0, 0, 0, 0],
        ),
    ]
}

/// Turns of `child`.
pub fn turns(child: &Child) -> [Operation; 2] {
    let turn = |name, program, gives: u32| {
        let [handle, vcpu] = child.arguments(program);
        Operation {
            name,
            user: false,
            instruction: call_instruction(),
            registers: [call::VM_TURN, handle, vcpu, 0, 0, 0],
            gives: Some(gives.into()),
        }
    };
    [
        turn("child_port_out", Program::Port, kind::PORT),
        turn("child_mmio_write", Program::Memory, kind::MEMORY),
    ]
}

fn call_instruction() -> &'static [u8] {
    if cpu::is_intel() { VMCALL } else { VMMCALL }
}

#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// Times `operation`, which has to do what it shall.
pub fn measure(report: &mut Report, timer: &mut Timer, operation: &Operation) {
    let Operation {
        name,
        user,
        instruction,
        registers,
        gives,
    } = *operation;
    let Ending {
        vector, general, ..
    } = timer.once(user, instruction, registers);
    let expected = (BREAKPOINT, gives.unwrap_or(general[0]));
    report.equal(name, (vector, general[0]), expected);
    let cost = timer.cost(user, instruction, registers);
    say(report, name, cost, "ticks");
}

/// What programs in `child` time by themselves.
pub fn measure_within(report: &mut Report, child: &mut Child) {
    for (name, program) in Program::TIMED {
        let cost = child.cost(program);
        report.holds(name, cost.is_some());
        if let Some(cost) = cost {
            say(report, name, cost, "ticks");
        }
    }
}

/// Does the operation called `name` between two instructions at which Bochs
/// stops. It was done before: what happens only once is not on its path.
pub fn mark(
    report: &mut Report,
    timer: &mut Timer,
    operations: &[Operation],
    child: Option<&mut Child>,
    name: &str,
) {
    let within = Program::TIMED.iter().find(|(timed, _)| *timed == name);
    if let (Some((_, program)), Some(child)) = (within, child) {
        return report.holds(name, child.mark(*program).is_some());
    }
    let named = operations.iter().find(|operation| operation.name == name);
    report.holds(format_args!("{name} is an operation"), named.is_some());
    let Some(operation) = named else {
        return;
    };
    timer.cost(operation.user, operation.instruction, operation.registers);
    let marked = [XCHG_BX_BX, operation.instruction, XCHG_BX_BX].concat();
    timer.once(operation.user, &marked, operation.registers);
}

/// What of the machine's memory is not the guest's.
pub fn memory(report: &mut Report) {
    let mut bytes = Box::new([0; Info::SIZE]);
    let place = core::ptr::from_mut(&mut *bytes) as u64;
    let reply = tests::call::call(call::INFO, [place, Info::SIZE as u64, 0, 0, 0]);
    let is_whole = reply.is_ok_and(|reply| reply.rax == Info::SIZE as u64);
    report.holds("info", is_whole);
    let all = Info::from_bytes(&bytes).memory;
    let cost = Cost {
        min: all,
        median: all,
    };
    say(report, "memory", cost, "bytes");
}

fn say(report: &mut Report, name: impl Display, cost: Cost, unit: &str) {
    let Cost { min, median } = cost;
    report.say_to_port(format_args!("cost: {name} {min} {median} {unit}"));
}
