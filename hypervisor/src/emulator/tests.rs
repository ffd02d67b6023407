//! The emulator on the desk: what the comparison with a CPU cannot show. Faults,
//! modes, what a device is asked, how repeated instructions stop.

use super::*;
use crate::fake::{FakeMemory, FakeVtx};
use crate::vm::Features;
use abi::handoff::Presence;
use machine::CodeSize;
use x86::control::{Cr0, Cr4};
use x86::event::EventType;
use x86::exception::page_fault;
use x86::exit::Access;
use x86::segment::{Segment, SegmentName, UNUSABLE};
use x86::{Event, Gva};

const PAGE: u64 = 0x5000;
const WATCHED: Range<Gpa> = Gpa(PAGE)..Gpa(PAGE + 0x1000);
const CODE: u64 = 0x1000;

/// Bytes, and what was asked of them: write or read, where, size.
struct Recorder {
    bytes: [u8; 4096],
    asked: Vec<(char, u64, u8)>,
}

impl Recorder {
    fn new() -> Self {
        Self {
            bytes: [0; 4096],
            asked: Vec::new(),
        }
    }
    fn with(at: usize, bytes: &[u8]) -> Self {
        let mut device = Self::new();
        device.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        device
    }
}

impl Device for Recorder {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        self.asked.push(('r', at, size));
        let mut value = [0xee; 8];
        let from = &self.bytes[at as usize & 0xfff..][..usize::from(size)];
        value[..from.len()].copy_from_slice(from);
        u64::from_le_bytes(value)
    }
    fn write(&mut self, at: u64, size: u8, value: u64) {
        self.asked.push(('w', at, size));
        let to = &mut self.bytes[at as usize & 0xfff..][..usize::from(size)];
        to.copy_from_slice(&value.to_le_bytes()[..usize::from(size)]);
    }
}

fn vm() -> Vm<FakeMemory> {
    Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL)
}

fn fault() -> NestedFault {
    NestedFault {
        gpa: WATCHED.start,
        gva: Some(Gva(PAGE)),
        access: Access::default(),
        walk: false,
    }
}

fn run_in(
    vm: &Vm<FakeMemory>,
    code: &[u8],
    vcpu: FakeVtx,
    device: &mut Recorder,
) -> (Outcome, FakeVtx) {
    vm.memory.put(vcpu.rip, code);
    let mut cpu = Cpu::new(vcpu);
    let outcome = memory(vm, &mut cpu, fault(), WATCHED, device);
    (outcome, cpu.vcpu)
}

fn run(code: &[u8], vcpu: FakeVtx, device: &mut Recorder) -> (Outcome, FakeVtx) {
    run_in(&vm(), code, vcpu, device)
}

/// What happens to `code` with no device to speak of.
fn outcome(code: &[u8], vcpu: FakeVtx) -> Outcome {
    let mut device = Recorder::new();
    let (outcome, after) = run(code, vcpu, &mut device);
    if let Outcome::Fault(_) = outcome {
        assert!(device.asked.is_empty(), "a fault asked the device");
        assert_eq!(after.rip, CODE);
    }
    outcome
}

fn cpu() -> FakeVtx {
    FakeVtx::default()
}

/// With RBX at `rbx`.
fn pointing(rbx: u64) -> FakeVtx {
    let mut vcpu = cpu();
    vcpu.registers.rbx = rbx;
    vcpu
}

fn with_segment(mut vcpu: FakeVtx, name: SegmentName, segment: Segment) -> FakeVtx {
    vcpu.segments[name as usize] = segment;
    vcpu
}

fn narrow(bits: CodeSize) -> FakeVtx {
    FakeVtx {
        size: bits,
        ..pointing(PAGE)
    }
}

const DONE_2: Outcome = Outcome::Emulated { length: 2 };
const GP: Outcome = Outcome::Fault(Exception::GeneralProtection(0));
const SS: Outcome = Outcome::Fault(Exception::StackFault(0));
const UD: Outcome = Outcome::Fault(Exception::InvalidOpcode);

/// MOV [RBX], EAX; also [EBX] in 32-bit code.
const STORE: [u8; 2] = [0x89, 0x03];
/// MOV EAX, [RBX].
const LOAD: [u8; 2] = [0x8b, 0x03];
/// REP MOVSB, REP STOSB.
const REP_MOVSB: [u8; 2] = [0xf3, 0xa4];
const REP_STOSB: [u8; 2] = [0xf3, 0xaa];

#[test]
fn a_load_asks_once_with_the_operands_size_and_clears_the_upper_half() {
    let mut device = Recorder::with(8, &[0x78, 0x56, 0x34, 0x92]);
    let mut vcpu = pointing(PAGE + 8);
    vcpu.registers.rax = u64::MAX;
    let (outcome, after) = run(&LOAD, vcpu, &mut device);
    assert_eq!(outcome, DONE_2);
    assert_eq!(after.registers.rax, 0x9234_5678);
    assert_eq!(device.asked, [('r', 8, 4)]);
}

#[test]
fn an_operand_across_two_pages_is_parted_at_the_edge() {
    let vm = vm();
    let mut device = Recorder::new();
    let mut vcpu = pointing(PAGE + 0xffd);
    vcpu.registers.rax = 0x4433_2211;
    let (outcome, _) = run_in(&vm, &STORE, vcpu, &mut device);
    assert_eq!(outcome, DONE_2);
    assert_eq!(device.asked, [('w', 0xffd, 3)]);
    assert_eq!(device.bytes[0xffd..], [0x11, 0x22, 0x33]);
    assert_eq!(vm.memory.snapshot()[0x6000], 0x44);
}

/// Devices may watch less than a page.
#[test]
fn a_part_of_a_page_can_be_watched() {
    let vm = vm();
    vm.memory.put(CODE, &STORE);
    let mut device = Recorder::new();
    let mut vcpu = pointing(PAGE + 0x0e);
    vcpu.registers.rax = 0x4433_2211;
    let mut cpu = Cpu::new(vcpu);
    let watched = Gpa(PAGE + 0xf)..Gpa(PAGE + 0x11);
    let outcome = memory(&vm, &mut cpu, fault(), watched, &mut device);
    assert_eq!(outcome, DONE_2);
    assert_eq!(device.asked, [('w', 0, 2)]);
    let memory = vm.memory.snapshot();
    assert_eq!(memory[0x500e..0x5012], [0x11, 0, 0, 0x44]);
}

#[test]
fn a_straddling_write_that_faults_in_its_second_page_writes_nothing() {
    let vm = vm();
    vm.memory.unmap(0x6000);
    let mut device = Recorder::new();
    let (outcome, _) = run_in(&vm, &STORE, pointing(PAGE + 0xffe), &mut device);
    let second = Exception::PageFault {
        address: 0x6000,
        code: page_fault::WRITE,
    };
    assert_eq!(outcome, Outcome::Fault(second));
    assert!(device.asked.is_empty());
}

/// ADD [RBX], EAX reads first, but its page fault is that of a write.
#[test]
fn a_read_modify_write_faults_as_a_write() {
    let vm = vm();
    vm.memory.unmap(PAGE);
    let vcpu = FakeVtx {
        cpl: 3,
        ..pointing(PAGE)
    };
    let (outcome, _) = run_in(&vm, &[0x01, 0x03], vcpu, &mut Recorder::new());
    let fault = Exception::PageFault {
        address: PAGE,
        code: page_fault::WRITE | page_fault::USER,
    };
    assert_eq!(outcome, Outcome::Fault(fault));
}

#[test]
fn an_instruction_across_two_pages_is_fetched_from_both() {
    let vcpu = FakeVtx {
        rip: 0x1fff,
        ..pointing(PAGE)
    };
    let mut device = Recorder::new();
    assert_eq!(run(&STORE, vcpu, &mut device).0, DONE_2);
    let vm = vm();
    vm.memory.unmap(0x2000);
    let vcpu = FakeVtx {
        rip: 0x1fff,
        ..pointing(PAGE)
    };
    let (outcome, _) = run_in(&vm, &STORE, vcpu, &mut device);
    let code = page_fault::FETCH;
    let address = 0x2000;
    assert_eq!(
        outcome,
        Outcome::Fault(Exception::PageFault { address, code })
    );
}

#[test]
fn an_address_that_is_not_canonical_is_gp_and_on_the_stack_ss() {
    let hole = 0x0000_8000_0000_0000;
    assert_eq!(outcome(&STORE, pointing(hole)), GP);
    // The last byte counts as well.
    assert_eq!(outcome(&STORE, pointing(hole - 2)), GP);
    let mut vcpu = cpu();
    vcpu.registers.rbp = hole;
    // MOV [RBP + 0], EAX
    assert_eq!(outcome(&[0x89, 0x45, 0], vcpu), SS);
}

#[test]
fn fs_and_gs_have_bases_in_64_bit_mode_and_the_others_none() {
    let segment = Segment {
        base: PAGE,
        ..Segment::null(0)
    };
    for (prefix, name, at) in [
        (0x64, SegmentName::Fs, 0),
        (0x65, SegmentName::Gs, 0),
        (0x3e, SegmentName::Ds, PAGE),
        (0x26, SegmentName::Es, PAGE),
    ] {
        let vcpu = with_segment(pointing(at), name, segment);
        let code = [prefix, STORE[0], STORE[1]];
        assert_eq!(outcome(&code, vcpu), Outcome::Emulated { length: 3 });
    }
}

#[test]
fn a_segment_forbids_by_type_and_by_limit() {
    let data = narrow(CodeSize::Bits32).segments[SegmentName::Ds as usize];
    let with = |rights, limit| {
        let segment = Segment {
            rights,
            limit,
            ..data
        };
        with_segment(narrow(CodeSize::Bits32), SegmentName::Ds, segment)
    };
    let last = PAGE as u32 + 3;
    let (read_only, code, readable_code, down) = (0xc091, 0xc099, 0xc09b, 0xc097);
    assert_eq!(outcome(&STORE, with(data.rights, last)), DONE_2);
    assert_eq!(outcome(&STORE, with(data.rights, last - 1)), GP);
    assert_eq!(outcome(&STORE, with(read_only, last)), GP);
    assert_eq!(outcome(&LOAD, with(read_only, last)), DONE_2);
    assert_eq!(outcome(&LOAD, with(code, last)), GP);
    assert_eq!(outcome(&LOAD, with(readable_code, last)), DONE_2);
    assert_eq!(outcome(&STORE, with(readable_code, last)), GP);
    assert_eq!(outcome(&STORE, with(down, PAGE as u32 - 1)), DONE_2);
    assert_eq!(outcome(&STORE, with(down, PAGE as u32)), GP);
    assert_eq!(outcome(&LOAD, with(UNUSABLE, last)), GP);
    let null_stack = with_segment(narrow(CodeSize::Bits32), SegmentName::Ss, Segment::null(0));
    // MOV SS:[EBX], EAX
    assert_eq!(outcome(&[0x36, 0x89, 0x03], null_stack), SS);
}

/// Real mode looks at limits alone.
#[test]
fn real_mode_segments_have_no_types() {
    let code = Segment {
        selector: 0x500,
        base: PAGE,
        limit: 0xffff,
        rights: 0x9b,
    };
    let real = |offset| {
        let vcpu = FakeVtx {
            cr0: Cr0::empty(),
            size: CodeSize::Bits16,
            ..pointing(offset)
        };
        with_segment(vcpu, SegmentName::Ds, code)
    };
    // MOV [BX], AX
    assert_eq!(outcome(&[0x89, 0x07], real(0)), DONE_2);
    assert_eq!(outcome(&[0x89, 0x07], real(0xffff)), GP);
}

#[test]
fn addresses_wrap_at_their_width() {
    // MOV [BX + SI], AL in 16-bit code.
    let mut vcpu = narrow(CodeSize::Bits16);
    vcpu.registers.rbx = 0xdead_ffff;
    vcpu.registers.rsi = PAGE + 1;
    assert_eq!(outcome(&[0x88, 0x00], vcpu), DONE_2);
    // MOV [EBX + 1], AL in 64-bit mode.
    let vcpu = pointing(0xdead_beef_ffff_ffff);
    let mut device = Recorder::new();
    let vm = vm();
    let (outcome, _) = run_in(&vm, &[0x67, 0x88, 0x43, 1], vcpu, &mut device);
    assert_eq!(outcome, Outcome::Emulated { length: 4 });
    assert!(device.asked.is_empty());
}

#[test]
fn a_misaligned_access_by_a_user_is_ac_if_both_switches_are_on() {
    let user = |cr0, rflags| FakeVtx {
        cpl: 3,
        cr0: cpu().cr0 | cr0,
        rflags: Rflags::FIXED | rflags,
        ..pointing(PAGE + 2)
    };
    let on = user(Cr0::AM, Rflags::AC);
    assert_eq!(
        outcome(&STORE, on),
        Outcome::Fault(Exception::AlignmentCheck)
    );
    assert_eq!(outcome(&STORE, user(Cr0::AM, Rflags::empty())), DONE_2);
    assert_eq!(outcome(&STORE, user(Cr0::empty(), Rflags::AC)), DONE_2);
    let kernel = FakeVtx {
        cpl: 0,
        ..user(Cr0::AM, Rflags::AC)
    };
    assert_eq!(outcome(&STORE, kernel), DONE_2);
}

#[test]
fn a_users_page_is_not_the_kernels_with_smap() {
    let vcpu = FakeVtx {
        cr4: Cr4::SMAP,
        ..pointing(PAGE)
    };
    let fault = Exception::PageFault {
        address: PAGE,
        code: page_fault::PRESENT | page_fault::WRITE,
    };
    assert_eq!(outcome(&STORE, vcpu), Outcome::Fault(fault));
}

#[test]
fn memory_that_is_none_of_the_guests_is_gp() {
    let vm = vm();
    let mut device = Recorder::new();
    let mut vcpu = cpu();
    vcpu.registers.rsi = FakeMemory::RESERVED.start.0;
    vcpu.registers.rdi = PAGE;
    // MOVSB
    let (outcome, after) = run_in(&vm, &[0xa4], vcpu, &mut device);
    assert!(matches!(outcome, Outcome::Fault(_)));
    assert!(device.asked.is_empty());
    assert_eq!(after.registers.rdi, PAGE);
}

#[test]
fn what_the_cpu_does_by_itself_is_not_emulated() {
    let vm = vm();
    vm.memory.put(CODE, &STORE);
    let delivering = FakeVtx {
        event: Some(Event {
            kind: EventType::Interrupt,
            vector: 0x20,
            error: None,
        }),
        ..pointing(PAGE)
    };
    let mut device = Recorder::new();
    assert_eq!(run_in(&vm, &STORE, delivering, &mut device).0, GP);
    let walk = NestedFault {
        walk: true,
        ..fault()
    };
    let fetch = NestedFault {
        access: Access {
            write: false,
            fetch: true,
        },
        ..fault()
    };
    for fault in [walk, fetch] {
        let mut cpu = Cpu::new(pointing(PAGE));
        let outcome = memory(&vm, &mut cpu, fault, WATCHED, &mut device);
        assert_eq!(outcome, GP);
    }
    assert!(device.asked.is_empty());
}

#[test]
fn what_is_not_known_is_ud_and_changes_nothing() {
    let unknown: [&[u8]; 8] = [
        &[0x0f, 0x10, 0x03],       // MOVUPS XMM0, [RBX]
        &[0xd9, 0x03],             // FLD [RBX]
        &[0x8e, 0x1b],             // MOV DS, [RBX]
        &[0x48, 0x0f, 0xc7, 0x0b], // CMPXCHG16B [RBX]
        &[0xff, 0x23],             // JMP [RBX]
        &[0xf0, 0x89, 0x03],       // LOCK MOV [RBX], EAX
        &[0x6c],                   // INSB: no port is watched here
        &[0x90],                   // NOP: touches no memory
    ];
    for code in unknown {
        let mut vcpu = pointing(PAGE);
        vcpu.registers.rdi = PAGE;
        assert_eq!(outcome(code, vcpu), UD, "{code:02x?}");
    }
}

fn string(count: u64) -> FakeVtx {
    let mut vcpu = cpu();
    vcpu.registers.rsi = 0x8000;
    vcpu.registers.rdi = PAGE;
    vcpu.registers.rcx = count;
    vcpu
}

/// Whoever may print can make each round a line of the log.
#[test]
fn interrupts_wait_for_no_second_round_of_a_slow_device() {
    let mut device = Recorder::new();
    let slow = FakeVtx {
        pace: 1 << 20,
        ..string(3)
    };
    let (outcome, after) = run(&REP_STOSB, slow, &mut device);
    assert_eq!((outcome, after.registers.rcx), (Outcome::Again, 2));
    assert_eq!(device.asked.len(), 1);
}

#[test]
fn a_long_repetition_stops_for_interrupts_and_goes_on() {
    let mut device = Recorder::new();
    let vm = vm();
    let (first, after) = run_in(&vm, &REP_STOSB, string(300), &mut device);
    assert_eq!(first, Outcome::Again);
    let done = device.asked.len() as u64;
    assert!((1..300).contains(&done));
    assert_eq!(after.registers.rcx, 300 - done);
    assert_eq!(after.registers.rdi, PAGE + done);
    let (second, after) = run_in(&vm, &REP_STOSB, after, &mut device);
    assert_eq!(second, DONE_2);
    assert_eq!((after.registers.rcx, device.asked.len()), (0, 300));
}

#[test]
fn single_stepping_takes_one_round_at_a_time() {
    let vcpu = FakeVtx {
        rflags: Rflags::FIXED | Rflags::TF,
        ..string(2)
    };
    let vm = vm();
    let mut device = Recorder::new();
    let (first, after) = run_in(&vm, &REP_MOVSB, vcpu, &mut device);
    assert_eq!((first, after.registers.rcx), (Outcome::Again, 1));
    let (second, after) = run_in(&vm, &REP_MOVSB, after, &mut device);
    assert_eq!((second, after.registers.rcx), (DONE_2, 0));
}

#[test]
fn a_fault_in_the_middle_keeps_the_rounds_before_it() {
    let vm = vm();
    vm.memory.unmap(0x9000);
    let mut device = Recorder::new();
    let mut vcpu = string(8);
    vcpu.registers.rsi = 0x8ffd;
    let (first, after) = run_in(&vm, &REP_MOVSB, vcpu, &mut device);
    assert_eq!((first, after.registers.rcx), (Outcome::Again, 5));
    assert_eq!(after.registers.rsi, 0x9000);
    let (second, after) = run_in(&vm, &REP_MOVSB, after, &mut device);
    let fault = Exception::PageFault {
        address: 0x9000,
        code: 0,
    };
    assert_eq!(second, Outcome::Fault(fault));
    assert_eq!((after.registers.rcx, after.registers.rdi), (5, PAGE + 3));
}

#[test]
fn a_repetition_leaves_the_watched_page_to_the_cpu() {
    let mut device = Recorder::new();
    let mut vcpu = string(100);
    vcpu.registers.rdi = PAGE + 0xffe;
    let (outcome, after) = run(&REP_STOSB, vcpu, &mut device);
    assert_eq!(outcome, Outcome::Again);
    assert_eq!(device.asked.len(), 2);
    assert!(after.registers.rcx >= 97);
}

#[test]
fn a_repetition_of_nothing_is_done_at_once() {
    let mut device = Recorder::new();
    let (outcome, after) = run(&REP_MOVSB, string(0), &mut device);
    assert_eq!(outcome, DONE_2);
    assert_eq!(after.registers.rdi, PAGE);
    assert!(device.asked.is_empty());
}

/// MOVSD downwards in 16-bit code: SI, DI and CX alone change.
#[test]
fn strings_go_down_and_wrap_in_16_bits() {
    let mut vcpu = FakeVtx {
        rflags: Rflags::FIXED | Rflags::DF,
        ..narrow(CodeSize::Bits16)
    };
    vcpu.registers.rsi = 0xaaaa_0000;
    vcpu.registers.rdi = 0xbbbb_5004;
    vcpu.registers.rcx = 0xcccc_0001;
    let mut device = Recorder::new();
    let (outcome, after) = run(&[0xf3, 0x66, 0xa5], vcpu, &mut device);
    assert_eq!(outcome, Outcome::Emulated { length: 3 });
    assert_eq!(after.registers.rsi, 0xaaaa_fffc);
    assert_eq!(after.registers.rdi, 0xbbbb_5000);
    assert_eq!(after.registers.rcx, 0xcccc_0000);
    assert_eq!(device.asked, [('w', 4, 4)]);
}

const PORT: u16 = 0x5658;

fn access(input: bool, string: bool, size: u8) -> PortAccess {
    PortAccess {
        port: PORT,
        size,
        input,
        string,
        repeat: false,
        segment: None,
        value: 0x4433_2211,
        next: None,
    }
}

fn run_port(
    vm: &Vm<FakeMemory>,
    code: &[u8],
    vcpu: FakeVtx,
    access: &PortAccess,
    device: &mut Recorder,
) -> (Outcome, FakeVtx) {
    vm.memory.put(CODE, code);
    let mut cpu = Cpu::new(vcpu);
    let outcome = port(vm, &mut cpu, *access, device);
    (outcome, cpu.vcpu)
}

#[test]
fn in_changes_as_much_of_rax_as_it_reads() {
    for (size, expected) in [
        (1, 0xffff_ffff_ffff_ff11),
        (2, 0xffff_ffff_ffff_2211),
        (4, 0x4433_2211),
    ] {
        let at = usize::from(PORT & 0xfff);
        let mut device = Recorder::with(at, &[0x11, 0x22, 0x33, 0x44]);
        let mut vcpu = cpu();
        vcpu.registers.rax = u64::MAX;
        let access = access(true, false, size);
        let (outcome, after) = run_port(&vm(), &[0xec], vcpu, &access, &mut device);
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(after.registers.rax, expected);
    }
}

#[test]
fn out_writes_its_value_and_a_known_end_is_used() {
    let mut device = Recorder::new();
    let access = PortAccess {
        next: Some(CODE + 1),
        ..access(false, false, 2)
    };
    let (outcome, _) = run_port(&vm(), &[0xef], cpu(), &access, &mut device);
    assert_eq!(outcome, Outcome::Emulated { length: 1 });
    assert_eq!(device.asked, [('w', u64::from(PORT), 2)]);
}

#[test]
fn rep_outs_writes_memory_to_the_port_round_by_round() {
    let vm = vm();
    vm.memory.put(0x8000, b"below");
    let mut device = Recorder::new();
    let access = access(false, true, 1);
    let (outcome, after) = run_port(&vm, &[0xf3, 0x6e], string(5), &access, &mut device);
    assert_eq!(outcome, DONE_2);
    assert_eq!(device.asked, [('w', u64::from(PORT), 1); 5]);
    assert_eq!((after.registers.rsi, after.registers.rcx), (0x8005, 0));
    assert_eq!(device.bytes[usize::from(PORT & 0xfff)], b'w');
}

/// The port is not read if there is nowhere to put what it says.
#[test]
fn ins_finds_its_memory_first() {
    let vm = vm();
    vm.memory.unmap(PAGE);
    let mut device = Recorder::new();
    let access = access(true, true, 1);
    let (outcome, _) = run_port(&vm, &[0x6c], string(0), &access, &mut device);
    assert!(matches!(
        outcome,
        Outcome::Fault(Exception::PageFault { .. })
    ));
    assert!(device.asked.is_empty());
}

/// The code can have changed since the CPU ran it.
#[test]
fn a_string_at_a_port_that_is_no_longer_there_is_ud() {
    let mut device = Recorder::new();
    let access = access(true, true, 1);
    let (outcome, _) = run_port(&vm(), &STORE, cpu(), &access, &mut device);
    assert_eq!(outcome, UD);
}

/// A user's INSB that another CPU turns into INSD reaches ports beside the one
/// that the task's map of ports allows.
#[test]
fn a_string_that_is_not_the_one_that_exited_runs_again() {
    const INSD: [u8; 1] = [0x6d];
    const OUTSB: [u8; 1] = [0x6e];
    for code in [INSD, OUTSB] {
        let mut device = Recorder::new();
        let before = string(3);
        let registers = before.registers;
        let access = access(true, true, 1);
        let (outcome, after) = run_port(&vm(), &code, before, &access, &mut device);
        assert_eq!(outcome, Outcome::Resume, "{code:02x?}");
        assert!(device.asked.is_empty());
        assert_eq!((after.rip, after.registers), (CODE, registers));
    }
}

/// A failed comparison writes what it read, as the bus sees it from a CPU.
#[test]
fn cmpxchg_always_writes() {
    let mut device = Recorder::with(0, &[5, 0, 0, 0]);
    let mut vcpu = pointing(PAGE);
    vcpu.registers.rax = 7;
    // LOCK CMPXCHG [RBX], ECX
    let (_, after) = run(&[0xf0, 0x0f, 0xb1, 0x0b], vcpu, &mut device);
    assert_eq!(device.asked, [('r', 0, 4), ('w', 0, 4)]);
    assert_eq!(device.bytes[0], 5);
    assert_eq!(after.registers.rax, 5);
    assert!(!after.rflags.contains(Rflags::ZF));
}

/// POP [RSP + 8]: the address is that after the pop.
#[test]
fn pop_addresses_by_the_new_stack_pointer() {
    let vm = vm();
    vm.memory.put(PAGE - 0x10, &[0x99]);
    let vcpu = FakeVtx {
        rsp: PAGE - 0x10,
        ..cpu()
    };
    let mut device = Recorder::new();
    let (_, after) = run_in(&vm, &[0x8f, 0x44, 0x24, 0x08], vcpu, &mut device);
    assert_eq!(device.asked, [('w', 0, 8)]);
    assert_eq!((device.bytes[0], after.rsp), (0x99, PAGE - 8));
}
