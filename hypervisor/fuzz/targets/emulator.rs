//! No bytes, in no state of the CPU, upset the emulator; what it writes is where
//! the decoder says that the instruction's operands are, and a fault changes
//! nothing.
#![no_main]

#[allow(dead_code)]
#[path = "../../src/fake.rs"]
mod fake;
mod numbers;

use abi::handoff::Presence;
use fake::{FakeMemory, FakeVtx};
use hypervisor::counted::Counted;
use hypervisor::emulator::{self, Device};
use hypervisor::outcome::Outcome;
use hypervisor::statistics::Statistics;
use hypervisor::trace::Trace;
use hypervisor::vm::{Cpu, Features, Vm};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use libfuzzer_sys::fuzz_target;
use machine::CodeSize;
use numbers::Numbers;
use std::ops::Range;
use std::sync::LazyLock;
use x86::control::{Cr0, Cr4, Rflags};
use x86::exit::{Access, NestedFault, PortAccess};
use x86::segment::SegmentName;
use x86::{Exception, Gpa, Registers};

const CODE: u64 = 0x1ff8;
const WATCHED: Range<Gpa> = Gpa(0x5000)..Gpa(0x6000);
/// At most so many rounds of a string instruction belong to one exit.
const ROUNDS: u64 = 256;

/// Answers anything, and counts.
struct Asked {
    at_port: bool,
    times: u64,
}

impl Device for Asked {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        self.write(at, size, 0);
        at.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
    fn write(&mut self, at: u64, size: u8, value: u64) {
        self.times += 1;
        assert!((1..=8).contains(&size));
        assert!(self.at_port || at + u64::from(size) <= 0x1000);
        assert!(size == 8 || value >> (8 * size) == 0);
    }
}

/// An address that reaches something more often than not.
fn address(numbers: &mut Numbers) -> u64 {
    let number = numbers.quad();
    match numbers.byte() & 3 {
        0 => number,
        1 => WATCHED.start.0 + (number & 0xfff),
        2 => 0x4ff0 + (number & 0x1f),
        _ => 0x5ff0 + (number & 0x1f),
    }
}

fn cpu(numbers: &mut Numbers) -> FakeVtx {
    let mode = numbers.byte();
    let mut vcpu = FakeVtx {
        rip: CODE,
        size: match mode & 3 {
            0 => CodeSize::Bits16,
            1 => CodeSize::Bits32,
            _ => CodeSize::Bits64,
        },
        cpl: if mode & 4 != 0 { 3 } else { 0 },
        rsp: address(numbers),
        rflags: Rflags::from_bits_retain(u64::from(numbers.double())),
        registers: Registers::default(),
        ..FakeVtx::default()
    };
    if mode & 8 != 0 {
        vcpu.cr0 |= Cr0::AM;
    }
    if mode & 16 != 0 {
        vcpu.cr4 |= Cr4::SMAP;
    }
    if mode & 32 != 0 {
        for segment in &mut vcpu.segments {
            segment.base = numbers.quad();
            segment.limit = numbers.double();
            segment.rights = numbers.double();
        }
        // The code is where it is put.
        vcpu.segments[SegmentName::Cs as usize].base = 0;
    }
    for number in 0..16 {
        let value = address(numbers);
        if let Some(register) = vcpu.registers.general_mut(number) {
            *register = value;
        }
    }
    vcpu
}

fn bits(size: CodeSize) -> u32 {
    match size {
        CodeSize::Bits16 => 16,
        CodeSize::Bits32 => 32,
        CodeSize::Bits64 => 64,
    }
}

/// A register as the decoder's own address calculation asks for it.
fn value_of(vcpu: &FakeVtx, register: Register) -> u64 {
    if register.is_segment_register() {
        let number = register as usize - Register::ES as usize;
        let base = vcpu.segments[number].base;
        let long = vcpu.size == CodeSize::Bits64 && number < 4;
        return if long { 0 } else { base };
    }
    let full = register.full_register() as usize - Register::RAX as usize;
    let value = vcpu.registers.general(full as u8).unwrap_or(vcpu.rsp);
    match register.size() {
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
}

/// Where `instruction` may write: first address and bytes in both directions.
fn targets(vcpu: &FakeVtx, instruction: &Instruction) -> Vec<(u64, u64)> {
    let wide = vcpu.size == CodeSize::Bits64;
    let mask = if wide { u64::MAX } else { 0xffff_ffff };
    let mut targets = Vec::new();
    for operand in 0..instruction.op_count() {
        if instruction.op_kind(operand) == OpKind::Memory || instruction.is_string_instruction() {
            let value = |register, _, _| Some(value_of(vcpu, register));
            if let Some(at) = instruction.virtual_address(operand, 0, value) {
                let reach = if instruction.is_string_instruction() {
                    8 * ROUNDS
                } else {
                    16
                };
                targets.push((at & mask, reach));
            }
        }
    }
    let stack = value_of(vcpu, Register::SS).wrapping_add(vcpu.rsp);
    targets.push((stack & mask, 16));
    let narrow = value_of(vcpu, Register::SS).wrapping_add(vcpu.rsp & 0xffff);
    targets.push((narrow & mask, 16));
    targets
}

/// A bit's number may lead anywhere, and 16-bit addresses wrap.
fn may_reach_far(instruction: &Instruction) -> bool {
    let bits = [Mnemonic::Bts, Mnemonic::Btr, Mnemonic::Btc];
    let wraps = instruction.is_string_instruction();
    bits.contains(&instruction.mnemonic()) || wraps
}

fn check_writes(vm: &Vm<FakeMemory>, before: &FakeVtx, code: &[u8]) {
    let mut decoder = Decoder::with_ip(bits(before.size), code, CODE, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let written = vm.memory.written.borrow();
    assert!(written.len() as u64 <= 2 * ROUNDS);
    if may_reach_far(&instruction) {
        return;
    }
    let targets = targets(before, &instruction);
    for (at, size) in written.iter() {
        let near = |(target, reach): &(u64, u64)| {
            at.0.wrapping_sub(target.wrapping_sub(*reach)) < 2 * reach
        };
        assert!(
            targets.iter().any(near),
            "{code:02x?} wrote {size} bytes at {at:?}, not {targets:x?}"
        );
    }
}

static COUNTED: LazyLock<Counted> = LazyLock::new(|| Counted {
    statistics: Statistics::new(&[]),
    trace: Trace::new(&[]),
});

thread_local! {
    static VM: Vm<FakeMemory> = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
}

/// Makes the memory as it was before [`run`].
fn reset(vm: &Vm<FakeMemory>) {
    for (at, size) in vm.memory.written.take() {
        vm.memory.put(at.0, &vec![0; size]);
    }
    vm.memory.put(CODE, &[0; 15]);
    for page in [0x4000, 0x6000] {
        vm.memory.map(page);
    }
}

/// Runs one case.
fn run(vm: &Vm<FakeMemory>, data: &[u8]) {
    let mut numbers = Numbers(data);
    let code: [u8; 15] = numbers.bytes();
    let choice = numbers.byte();
    let before = cpu(&mut numbers);
    vm.memory.put(CODE, &code);
    if choice & 1 != 0 {
        vm.memory.unmap(0x6000);
    }
    if choice & 2 != 0 {
        vm.memory.unmap(0x4000);
    }
    let at_port = choice & 4 != 0;
    let mut device = Asked { at_port, times: 0 };
    let mut again = Numbers(data);
    let _: [u8; 16] = again.bytes();
    let mut cpu = Cpu::watched(cpu(&mut again), &COUNTED);
    let outcome = if at_port {
        let access = PortAccess {
            port: 0x3f8,
            size: 1 << (choice >> 3 & 1),
            input: choice & 16 != 0,
            string: choice & 32 != 0,
            repeat: false,
            segment: None,
            value: 0x42,
            next: None,
        };
        emulator::port(vm, &mut cpu, access, &mut device)
    } else {
        let fault = NestedFault {
            gpa: WATCHED.start,
            gva: None,
            access: Access::default(),
            walk: false,
        };
        emulator::memory(vm, &mut cpu, fault, WATCHED, &mut device)
    };
    check_writes(vm, &before, &code);
    match outcome {
        Outcome::Fault(exception) => {
            assert_ne!(exception, Exception::DoubleFault);
            assert_eq!(device.times, 0);
            assert!(vm.memory.written.borrow().is_empty());
            assert_eq!(cpu.vcpu.registers, before.registers);
            assert_eq!((cpu.vcpu.rsp, cpu.vcpu.rflags), (before.rsp, before.rflags));
        }
        Outcome::Emulated { length } => assert!((1..=15).contains(&length)),
        Outcome::Again => assert_ne!(cpu.vcpu.registers, before.registers),
        Outcome::Done => assert!(at_port),
        // The code has another instruction than the one that exited.
        Outcome::Resume => {
            assert!(at_port);
            assert_eq!(device.times, 0);
            assert!(vm.memory.written.borrow().is_empty());
            assert_eq!(cpu.vcpu.registers, before.registers);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(cpu.vcpu.rip, CODE);
}

fuzz_target!(|data: &[u8]| {
    VM.with(|vm| {
        run(vm, data);
        reset(vm);
    });
});
