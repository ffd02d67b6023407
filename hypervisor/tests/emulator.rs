//! The emulator against the CPU that runs this test: random instructions with
//! an operand in memory, in 64-bit mode, run natively and emulated. Registers,
//! flags and memory must come out the same.
//!
//! `UNDERLAY_CASES` in the environment says how many, `UNDERLAY_SEED` which.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "../../tests/src/cases.rs"]
mod cases;
#[allow(dead_code)]
#[path = "../src/fake.rs"]
mod fake;
#[path = "../../tests/src/native.rs"]
mod native;

use abi::handoff::Presence;
use cases::{AREA, Case, Layout, Random};
use fake::{FakeMemory, FakeVtx};
use hypervisor::counted::Counted;
use hypervisor::emulator::{self, Device};
use hypervisor::outcome::Outcome;
use hypervisor::statistics::Statistics;
use hypervisor::trace::Trace;
use hypervisor::vm::{Cpu, Features, Vm};
use machine::Memory;
use native::State;
use std::ops::Range;
use std::sync::LazyLock;
use x86::control::Rflags;
use x86::exit::{Access, NestedFault};
use x86::segment::SegmentName;
use x86::{Gpa, Registers};

/// Memory that exists twice: in this process, and in the fake machine, whose
/// linear addresses are the same.
const BASE: u64 = 0x18_0000;
const SIZE: usize = 0x5000;
const PAGE: u64 = BASE + 0x1000;
const CODE: u64 = BASE + 0x4000;
const WATCHED: Range<Gpa> = Gpa(PAGE)..Gpa(PAGE + 0x1000);
const GS_BASE: u64 = BASE - 0x5678;

const LAYOUT: Layout = Layout {
    bits: 64,
    page: PAGE,
    code: CODE,
    bases: [0, 0, 0, 0, 0, GS_BASE],
    overrides: 0b10_1111,
    selectors: false,
    split_locks: false,
};

const CHECKED: u64 = cases::STATUS | 1 << 10;

/// What is left of a case.
#[derive(Debug, PartialEq)]
struct Result {
    registers: [u64; 16],
    flags: u64,
    memory: [u8; AREA],
}

/// A page of plain bytes, and how often it was asked.
struct Plain([u8; 4096], u64);

impl Device for Plain {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        self.1 += 1;
        let mut value = [0; 8];
        let size = usize::from(size);
        value[..size].copy_from_slice(&self.0[at as usize..][..size]);
        u64::from_le_bytes(value)
    }
    fn write(&mut self, at: u64, size: u8, value: u64) {
        self.1 += 1;
        let size = usize::from(size);
        self.0[at as usize..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn bytes_of(memory: &[u64; AREA / 8]) -> [u8; AREA] {
    let mut bytes = [0; AREA];
    for (chunk, word) in bytes.chunks_mut(8).zip(memory) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Maps [`SIZE`] bytes at [`BASE`] and points GS into them.
fn prepare() {
    // SAFETY: the addresses are free, or mmap fails; nothing uses GS here.
    unsafe {
        let mapped = libc::mmap(
            BASE as *mut libc::c_void,
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        );
        assert_eq!(mapped as u64, BASE, "the low addresses are taken");
        const ARCH_SET_GS: u64 = 0x1001;
        let set = libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, GS_BASE);
        assert_eq!(set, 0, "GS cannot be set");
    }
}

fn run_natively(case: &Case) -> Result {
    let area = case.area as *mut u8;
    let mut state = State {
        registers: case.registers,
        flags: case.flags,
        code: CODE,
    };
    let mut memory = [0; AREA];
    // SAFETY: `prepare` mapped the area and the code; only this thread uses
    // them. A case touches its area alone.
    unsafe {
        area.copy_from(bytes_of(&case.memory).as_ptr(), AREA);
        native::place(CODE as *mut u8, &case.code[..case.size]);
        native::run(&mut state);
        area.copy_to(memory.as_mut_ptr(), AREA);
    }
    Result {
        registers: state.registers,
        flags: state.flags & CHECKED & !case.undefined,
        memory,
    }
}

/// Which of the area's bytes are watched.
fn watched(case: &Case) -> impl Fn(usize) -> Option<usize> {
    let area = case.area;
    move |at| {
        let gpa = area + at as u64;
        WATCHED.contains(&Gpa(gpa)).then(|| (gpa - PAGE) as usize)
    }
}

/// Not looked at, as the loop does not run here.
static COUNTED: LazyLock<Counted> = LazyLock::new(|| Counted {
    statistics: Statistics::new(&[]),
    trace: Trace::new(&[]),
});

fn run_emulated(vm: &Vm<FakeMemory>, device: &mut Plain, case: &Case) -> Result {
    let watched = watched(case);
    for (at, byte) in bytes_of(&case.memory).iter().enumerate() {
        match watched(at) {
            Some(offset) => device.0[offset] = *byte,
            None => vm.memory.put(case.area + at as u64, &[*byte]),
        }
    }
    vm.memory.put(CODE, &case.code[..case.size]);
    let mut cpu = Cpu::watched(cpu_for(case), &COUNTED);
    run_to_the_end(vm, &mut cpu, device);
    let mut memory = [0; AREA];
    for (at, byte) in memory.iter_mut().enumerate() {
        match watched(at) {
            Some(offset) => *byte = device.0[offset],
            None => {
                let slice = std::slice::from_mut(byte);
                vm.memory.read(Gpa(case.area + at as u64), slice).unwrap();
            }
        }
    }
    let vcpu = &cpu.vcpu;
    let register = |n| vcpu.registers.general(n as u8).unwrap_or(vcpu.rsp);
    Result {
        registers: std::array::from_fn(register),
        flags: vcpu.rflags.bits() & CHECKED & !case.undefined,
        memory,
    }
}

fn cpu_for(case: &Case) -> FakeVtx {
    let mut vcpu = FakeVtx {
        rip: CODE,
        rflags: Rflags::from_bits_retain(case.flags),
        registers: Registers::default(),
        rsp: case.registers[4],
        ..FakeVtx::default()
    };
    vcpu.segments[SegmentName::Gs as usize].base = GS_BASE;
    for (number, value) in case.registers.iter().enumerate() {
        if let Some(register) = vcpu.registers.general_mut(number as u8) {
            *register = *value;
        }
    }
    vcpu
}

fn run_to_the_end(vm: &Vm<FakeMemory>, cpu: &mut Cpu<FakeVtx>, device: &mut Plain) {
    let fault = NestedFault {
        gpa: WATCHED.start,
        gva: None,
        access: Access::default(),
        walk: false,
    };
    loop {
        match emulator::memory(vm, cpu, fault, WATCHED, device) {
            Outcome::Again => {}
            Outcome::Emulated { .. } => return,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn emulated_is_as_native() {
    let cases = number("UNDERLAY_CASES", 200_000);
    let mut random = Random(number("UNDERLAY_SEED", 1));
    prepare();
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    let mut device = Plain([0; 4096], 0);
    for n in 0..cases {
        let case = Case::new(&mut random, LAYOUT);
        let native = run_natively(&case);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run_emulated(&vm, &mut device, &case)
        }));
        let code = &case.code[..case.size];
        let emulated = caught.unwrap_or_else(|_| panic!("case {n}: {code:02x?}"));
        assert_eq!(emulated, native, "case {n}: {code:02x?} {case:x?}");
    }
    // Some operands lie beside the page, many are read and written.
    assert!(device.1 > cases, "the device was asked {} times", device.1);
}
