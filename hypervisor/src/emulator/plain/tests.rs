//! The plain instructions against the whole emulator.

use super::*;
use crate::caller::Caller;
use crate::emulator::emulate;
use crate::fake::{FakeMemory, FakeVtx};
use crate::vm::{Features, Vm};
use abi::handoff::Presence;
use x86::control::Efer;

const PAGE: u64 = 0x5000;
const CODE: u64 = 0x1000;
const REGISTERS: core::ops::Range<u8> = 0..16;

/// What was asked: write or read, where, size, value.
#[derive(Default)]
struct Recorder(Vec<(char, u64, u8, u64)>);

impl Device for Recorder {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        let value = 0x8182_8384_8586_8788 ^ at;
        self.0.push(('r', at, size, value));
        value
    }

    fn write(&mut self, at: u64, size: u8, value: u64) {
        self.0.push(('w', at, size, value));
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
    let displacement = [0, PAGE, PAGE - CODE][random(3) as usize] as i32 + random(256) as i32;
    if random(8) != 0 && code[at + 1] >> 6 != 1 {
        code[behind..behind + 4].copy_from_slice(&displacement.to_le_bytes());
    }
    code
}

/// An outcome, the registers afterwards, and what the device was asked.
type Ending = (Option<Outcome>, [u64; 16], Vec<(char, u64, u8, u64)>);

fn run(vm: &Vm<FakeMemory>, values: &[u64; 16], is_plain: bool) -> Ending {
    let mut vcpu = FakeVtx::default();
    vcpu.efer |= Efer::NXE;
    for (number, value) in REGISTERS.zip(values) {
        vcpu.set_general(number, *value);
    }
    let mut device = Recorder::default();
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
    (outcome, after, device.0)
}

/// The whole emulator comes first: it marks the entries of the tables.
#[test]
fn a_plain_move_does_what_the_whole_emulator_does() {
    let mut state = 1u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) % below
    };
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    let (mut loads, mut stores, mut others) = (0, 0, 0);
    for _ in 0..20_000 {
        let code = random_move(&mut random);
        vm.memory.put(CODE, &code);
        let values = [(); 16].map(|()| [0, 8, PAGE + 0x80, u64::MAX - 7][random(4) as usize]);
        let expected = run(&vm, &values, false);
        let found = run(&vm, &values, true);
        if found.0.is_none() {
            assert!(found.2.is_empty(), "{code:02x?}");
            others += 1;
            continue;
        }
        assert_eq!(found, expected, "{code:02x?}");
        match found.2[..] {
            [('r', ..)] => loads += 1,
            _ => stores += 1,
        }
    }
    assert!(
        loads.min(stores).min(others) > 1000,
        "{loads} {stores} {others}"
    );
}

#[test]
fn what_is_not_plain_is_left_alone() {
    // An index byte without a base, AH, another segment, 32-bit addresses, LOCK,
    // AH, FS, 32-bit addresses, LOCK, REP, XABORT, a reserved form, registers only,
    // a segment register, and REX before another prefix.
    for code in [
        &[0x88, 0x23][..],
        &[0x64, 0x89, 0x03],
        &[0x67, 0x89, 0x03],
        &[0xf0, 0x89, 0x03],
        &[0xf3, 0x89, 0x03],
        &[0xc6, 0xf8, 0x00],
        &[0xc7, 0x0b, 0, 0, 0, 0],
        &[0x89, 0xc3],
        &[0x8e, 0x03],
        &[0x48, 0x66, 0x89, 0x03],
    ] {
        let mut bytes = [0; 16];
        bytes[..code.len()].copy_from_slice(code);
        assert_eq!(Move::decode(u128::from_le_bytes(bytes)), None, "{code:x?}");
    }
}
