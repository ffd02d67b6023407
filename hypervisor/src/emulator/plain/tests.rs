//! The plain instructions against the whole emulator.

use super::*;
use crate::caller::Caller;
use crate::emulator::emulate;
use crate::fake::{FakeMemory, FakeVtx};
use crate::vm::{Features, Vm};
use abi::handoff::Presence;
use x86::Gpa;
use x86::control::{Cr0, Cr4, Rflags};

const PAGE: u64 = 0x5000;
const CODE: u64 = 0x1000;
const REGISTERS: core::ops::Range<u8> = 0..16;

/// What was asked: write or read, where, size, value.
#[derive(Default)]
struct Recorder {
    asked: Vec<(char, u64, u8, u64)>,
    /// What is read is not known yet.
    waits: bool,
}

impl Device for Recorder {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        let value = 0x8182_8384_8586_8788 ^ at;
        self.asked.push(('r', at, size, value));
        value
    }

    fn write(&mut self, at: u64, size: u8, value: u64) {
        self.asked.push(('w', at, size, value));
    }

    fn is_waiting(&self) -> bool {
        self.waits && matches!(self.asked[..], [('r', ..)])
    }
}

/// Numbers below what each call says.
fn generator(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) % below
    }
}

/// MOVs to and from memory, most of whose operands lie in the page: their
/// prefixes, registers, forms of address and displacements are of all kinds.
fn random_move(random: &mut impl FnMut(u64) -> u64) -> [u8; 16] {
    let mut code = [0; 16].map(|_: u8| random(256) as u8);
    let mut at = 0;
    if random(4) == 0 {
        (code[at], at) = (OPERAND_SIZE, at + 1);
    }
    if random(2) == 0 {
        (code[at], at) = (REX | random(16) as u8, at + 1);
    }
    code[at] = [0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7][random(6) as usize];
    if code[at] >= 0xc6 && random(8) != 0 {
        code[at + 1] &= 0xc7;
    }
    let behind = at + 2 + usize::from(code[at + 1] & 7 == RSP);
    let within = [0, 0xf80][random(2) as usize] + random(0x90);
    let displacement = ([0, PAGE, PAGE - CODE][random(3) as usize] + within) as i32;
    if random(8) != 0 && code[at + 1] >> 6 != 1 {
        code[behind..behind + 4].copy_from_slice(&displacement.to_le_bytes());
    }
    code
}

/// A CPU with some of the bits that decide over an access, in the page of code or
/// close to its end.
fn random_cpu(random: &mut impl FnMut(u64) -> u64) -> FakeVtx {
    let mut vcpu = FakeVtx::default();
    let mut some = |of: u64| if random(4) == 0 { of } else { 0 };
    vcpu.cr0 |= Cr0::from_bits_retain(some(Cr0::AM.bits()) | some(Cr0::WP.bits()));
    vcpu.cr4 |= Cr4::from_bits_retain(some(Cr4::SMAP.bits()) | some(Cr4::SMEP.bits()));
    vcpu.rflags |= Rflags::from_bits_retain(some(Rflags::AC.bits()));
    vcpu.cpl = some(3) as u8;
    vcpu.rip = CODE + [0, 0xfe0][random(2) as usize] + random(0x18);
    for number in REGISTERS {
        let value = [0, 8, PAGE + 0x80, u64::MAX - 7][random(4) as usize];
        vcpu.set_general(number, value);
    }
    vcpu
}

/// Those of a page-table entry: most often all.
fn random_rights(random: &mut impl FnMut(u64) -> u64) -> u64 {
    const PRESENT: u64 = 1 << 0;
    const WRITABLE: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    const NO_EXECUTE: u64 = 1 << 63;
    const MARKED: u64 = 3 << 5;
    let flip = [0, 0, 0, 0, MARKED, WRITABLE, USER, NO_EXECUTE][random(8) as usize];
    (PRESENT | WRITABLE | USER | MARKED) ^ flip
}

/// An outcome, the registers afterwards, and what the device was asked.
type Ending = (Option<Outcome>, [u64; 16], Vec<(char, u64, u8, u64)>);

fn run(vm: &Vm<FakeMemory>, mut vcpu: FakeVtx, waits: bool, is_plain: bool) -> Ending {
    let mut device = Recorder {
        waits,
        ..Recorder::default()
    };
    let mut emulator = Emulator {
        caller: Caller::new(vm, &vcpu),
        vcpu: &mut vcpu,
        watched: Gpa(PAGE)..Gpa(PAGE + PAGE_SIZE),
        port: None,
        device: &mut device,
        reached: false,
    };
    let outcome = match is_plain {
        true => emulator.plain(),
        false => Some(emulate(vm, emulator)),
    };
    let mut after = [0; 16];
    for (number, value) in REGISTERS.zip(&mut after) {
        *value = vcpu.general(number);
    }
    (outcome, after, device.asked)
}

/// The whole emulator comes first: it marks the entries of the tables.
#[test]
fn a_plain_move_does_what_the_whole_emulator_does() {
    let mut random = generator(1);
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    vm.memory.unmap(CODE + PAGE_SIZE);
    let [mut loads, mut stores, mut others, mut faults, mut waiting] = [0; 5];
    for _ in 0..100_000 {
        let code = random_move(&mut random);
        let seed = random(1 << 31);
        let cpu = || random_cpu(&mut generator(seed));
        vm.memory.put(cpu().rip, &code);
        for page in [CODE, PAGE] {
            vm.memory.remap(page, page | random_rights(&mut random));
        }
        let waits = random(2) == 0;
        let expected = run(&vm, cpu(), waits, false);
        let found = run(&vm, cpu(), waits, true);
        faults += u32::from(matches!(expected.0, Some(Outcome::Fault(_))));
        if found.0.is_none() {
            assert!(found.2.is_empty(), "{code:02x?}");
            others += 1;
            continue;
        }
        assert_eq!(found, expected, "{code:02x?}");
        waiting += u32::from(found.0 == Some(Outcome::HandUp));
        match found.2[..] {
            [('r', ..)] => loads += 1,
            _ => stores += 1,
        }
    }
    assert!(
        [loads, stores, others, faults, waiting]
            .iter()
            .all(|count| *count > 1000),
        "{loads} {stores} {others} {faults} {waiting}"
    );
}

#[test]
fn what_is_not_plain_is_left_alone() {
    // An index byte without a base, AH, another segment, 32-bit addresses, LOCK,
    // AH, FS, 32-bit addresses, LOCK, REP, XABORT, XBEGIN, a reserved form, registers
    // only, a segment register, REX before another prefix and REX, a prefix twice.
    for code in [
        &[0x88, 0x23][..],
        &[0x64, 0x89, 0x03],
        &[0x67, 0x89, 0x03],
        &[0xf0, 0x89, 0x03],
        &[0xf3, 0x89, 0x03],
        &[0xc6, 0xf8, 0x00],
        &[0xc7, 0xf8, 0, 0, 0, 0],
        &[0xc7, 0x0b, 0, 0, 0, 0],
        &[0x89, 0xc3],
        &[0x8e, 0x03],
        &[0x48, 0x66, 0x89, 0x03],
        &[0x48, 0x48, 0x89, 0x03],
        &[0x66, 0x66, 0x89, 0x03],
    ] {
        let mut bytes = [0; 16];
        bytes[..code.len()].copy_from_slice(code);
        assert_eq!(Move::decode(u128::from_le_bytes(bytes)), None, "{code:x?}");
    }
}
