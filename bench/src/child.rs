//! A child of the guest's, whose turns are timed: in 64-bit mode, with paging, as
//! a system in it would be.

use crate::timer::Cost;
use abi::call;
use abi::child::{EXIT_OFFSET, PIECE, rights};
use abi::record::{VmExit, VmRegisters};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::global_asm;
use core::slice;
use tests::call::call;
use tests::cpu::{self, Register, feature};
use x86::control::Cr4;

/// Turns of a program that times itself.
const TURNS: usize = 400;
const NAME: &[u8] = b"bench";

/// Where the child has its tables, its programs and their records, in its own memory.
const TABLES: usize = 0x1000;
const PROGRAMS: usize = 0x8000;
const RECORDS: usize = 0xc000;
const PAGE: usize = 4096;
/// A device's register, in the second GiB of the child's memory, where there is
/// none.
const DEVICE: u64 = 0x4000_0000;
/// The first page that nobody has touched, but the last turn.
const UNTOUCHED: u64 = 0x1_0000;

/// Present and writable; a large page; both were used, which the CPU need not
/// note then.
const TABLE: u64 = 0b11;
const LARGE: u64 = 1 << 7 | 0b11 << 5 | TABLE;

const CR0: u64 = 1 << 31 | 1 << 16 | 1 << 5 | 1;
const CR4_PAE: u64 = 1 << 5;
const EFER: u64 = 1 << 11 | 1 << 10 | 1 << 8;
const RFLAGS: u64 = 2;
/// A 64-bit code segment, and a data segment, as registers hold their rights.
const CODE_64: u64 = 0xa09b;
const DATA: u64 = 0xc093;
/// Numbers of CS in the arrays, and of general registers.
const CS: usize = 1;
const RBX: usize = 3;
const RDI: usize = 7;
const R11: usize = 11;

/// OUT 0x42, AL; or MOV [RBX], AL; and again.
const OUT: &[u8] = &[0xe6, 0x42, 0xeb, 0xfc];
const STORE: &[u8] = &[0x88, 0x03, 0xeb, 0xfc];
/// XOR EAX, EAX; CPUID. What is timed without it is the first alone.
const CPUID: &[u8] = &[0x31, 0xc0, 0x0f, 0xa2];
const NOTHING: &[u8] = &[0x31, 0xc0];
/// MOV BYTE [RDI], AL.
const TOUCH: &[u8] = &[0x88, 0x07];
const XCHG_BX_BX: &[u8] = &[0x66, 0x87, 0xdb];

/// What a program of the child's does between two turns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// OUT of a byte.
    Port,
    /// MOV of a byte to a device's register.
    Memory,
    /// It times CPUID.
    Cpuid,
    /// It times the first write to a page.
    Touch,
}

impl Program {
    const ALL: [Self; 4] = [Self::Port, Self::Memory, Self::Cpuid, Self::Touch];

    /// Those that time themselves, with the names of what they time.
    pub const TIMED: [(&'static str, Self); 2] = [
        ("child_cpuid", Self::Cpuid),
        ("child_first_touch", Self::Touch),
    ];

    const fn instruction(self) -> &'static [u8] {
        match self {
            Self::Cpuid => CPUID,
            Self::Touch => TOUCH,
            Self::Port | Self::Memory => NOTHING,
        }
    }

    fn code(self) -> Vec<u8> {
        match self {
            Self::Port => OUT.to_vec(),
            Self::Memory => STORE.to_vec(),
            Self::Cpuid | Self::Touch => timed(self.instruction()),
        }
    }
}

/// The child.
pub struct Child {
    handle: u64,
    memory: *mut u8,
    /// XCR0 of both sides.
    extended: u64,
}

impl Child {
    /// Makes it; None if the config sets no memory aside for children.
    pub fn new() -> Option<Self> {
        let extended = switch_all_on();
        let handle = service(call::VM_CREATE, [address(NAME), NAME.len() as u64, 0, 0, 0])?;
        let memory = service(call::VM_MEMORY, [handle, 0, 0, 0, 0])?;
        let all = rights::READ | rights::WRITE | rights::EXECUTE;
        let child = Self {
            handle,
            memory: memory as *mut u8,
            extended,
        };
        child.write(TABLES, &tables());
        service(call::VM_MAP, [handle, 0, memory, PIECE, all])?;
        for program in Program::ALL {
            child.place(program)?;
        }
        Some(child)
    }

    /// What `vm_turn` needs to know of `program`: its vCPU.
    pub const fn arguments(&self, program: Program) -> [u64; 2] {
        [self.handle, program as u64]
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        // SAFETY: within the child's 2 MiB, which the firmware maps where they
        // are, and which nobody else uses.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.add(at), bytes.len()) };
    }

    /// Makes the vCPU of `program`, which is the next.
    fn place(&self, program: Program) -> Option<()> {
        let vcpu = service(call::VM_VCPU, [self.handle, 0, 0, 0, 0])?;
        let records = self.memory as u64 + records(program) as u64;
        service(call::VM_RECORDS, [self.handle, vcpu, records, 0, 0])?;
        self.begin(program, &program.code())
    }

    /// Has `program` begin anew, with this code.
    fn begin(&self, program: Program, code: &[u8]) -> Option<()> {
        let [_, vcpu] = self.arguments(program);
        let at = PROGRAMS + program as usize * PAGE;
        self.write(at, code);
        let rip = at as u64;
        let mut bytes = Box::new([0; VmRegisters::SIZE]);
        let place = core::ptr::from_mut(&mut *bytes) as u64;
        service(call::VM_REGISTERS_READ, [self.handle, vcpu, place, 0, 0])?;
        let mut registers = VmRegisters::from_bytes(&bytes);
        registers.general[RBX] = DEVICE;
        registers.general[RDI] = UNTOUCHED;
        registers.general[R11] = rip;
        (registers.rip, registers.rflags) = (rip, RFLAGS);
        (registers.cr0, registers.cr3) = (CR0, TABLES as u64);
        (registers.cr4, registers.efer) = (CR4_PAE, EFER);
        registers.xcr0 = self.extended;
        for segment in 0..6 {
            registers.bases[segment] = 0;
            registers.limits[segment] = 0xffff_ffff;
            registers.rights[segment] = if segment == CS { CODE_64 } else { DATA };
        }
        *bytes = registers.to_bytes();
        service(call::VM_REGISTERS_WRITE, [self.handle, vcpu, place, 0, 0]).map(drop)
    }

    /// What `program` says that its instruction costs; None if something else came
    /// in between.
    pub fn cost(&mut self, program: Program) -> Option<Cost> {
        let instruction = program.instruction();
        let mut with = self.times(program, instruction)?;
        let mut without = self.times(program, NOTHING)?;
        with.sort_unstable();
        without.sort_unstable();
        let [empty, ..] = without[..] else {
            return None;
        };
        Some(Cost {
            min: with.first()?.saturating_sub(empty),
            median: with.get(with.len() / 2)?.saturating_sub(empty),
        })
    }

    /// Does `program` once, and once more between two instructions at which Bochs
    /// stops.
    pub fn mark(&mut self, program: Program) -> Option<()> {
        self.cost(program)?;
        let marked = [XCHG_BX_BX, program.instruction(), XCHG_BX_BX].concat();
        self.begin(program, &timed(&marked))?;
        self.turn(program).map(drop)
    }

    fn times(&mut self, program: Program, instruction: &[u8]) -> Option<Vec<u64>> {
        self.begin(program, &timed(instruction))?;
        // What is done once, as taking the page of the code, is no part of it.
        self.turn(program)?;
        (1..TURNS).map(|_| self.turn(program)).collect()
    }

    /// One turn, which ends with what the program writes to its port.
    fn turn(&mut self, program: Program) -> Option<u64> {
        let [handle, vcpu] = self.arguments(program);
        let kind = service(call::VM_TURN, [handle, vcpu, 0, 0, 0])?;
        let at = records(program) + EXIT_OFFSET as usize;
        // SAFETY: within the child's memory, where nothing is written now.
        let bytes = unsafe { self.memory.add(at).cast::<[u8; VmExit::SIZE]>().read() };
        let data = VmExit::from_bytes(&bytes).data;
        (kind == u64::from(abi::child::kind::PORT)).then_some(data)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        service(call::VM_DESTROY, [self.handle, 0, 0, 0, 0]);
    }
}

/// Where the records of a program's vCPU are in the child's memory.
const fn records(program: Program) -> usize {
    RECORDS + program as usize * PAGE
}

/// Switches all extended state on that this CPU has, as systems do. Returns XCR0.
fn switch_all_on() -> u64 {
    const XSAVE: u32 = 26;
    if !feature(1, Register::Ecx, XSAVE) {
        return 1;
    }
    let leaf = cpu::cpuid(0xd);
    let all = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    // SAFETY: CPUID says that the CPU has all of it, and this program uses none.
    unsafe {
        cpu::write_cr4(cpu::read_cr4() | Cr4::OSXSAVE.bits());
        cpu::xsetbv(0, all);
    }
    all
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

/// A call's result, if it was done.
fn service(number: u64, arguments: [u64; 5]) -> Option<u64> {
    let rax = call(number, arguments).ok()?.rax;
    (rax as i64 >= 0).then_some(rax)
}

/// Two GiB of linear memory are physical memory: of the first 2 MiB, of the second
/// as much.
fn tables() -> Vec<u8> {
    let mut words = [0u64; 4 * PAGE / 8];
    let table = |number: usize| (TABLES + number * PAGE) as u64 | TABLE;
    words[0] = table(1);
    (words[512], words[513]) = (table(2), table(3));
    (words[1024], words[1536]) = (LARGE, DEVICE | LARGE);
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A program that says again and again what `instruction` costs.
fn timed(instruction: &[u8]) -> Vec<u8> {
    // SAFETY: the symbols are the ends of the code below.
    let [before, after] = unsafe {
        let part = |start: &u8, end: &u8| {
            let length = core::ptr::from_ref(end).offset_from_unsigned(start);
            slice::from_raw_parts(start, length)
        };
        [
            part(&child_before, &child_between),
            part(&child_between, &child_end),
        ]
    };
    [before, instruction, after].concat()
}

unsafe extern "C" {
    static child_before: u8;
    static child_between: u8;
    static child_end: u8;
}

// R11 is where the program begins, RDI the next page.
global_asm!(
    "child_before:",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov r14, rax",
    "child_between:",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "sub rax, r14",
    "add rdi, 4096",
    "out 0x42, eax",
    "jmp r11",
    "child_end:",
);
