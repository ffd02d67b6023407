//! The loop on the desk.

use super::*;
use crate::fake::{FakeCpu, FakeMemory, FakeSvm, FakeVtx};
use crate::trace::ring::Reader;
use crate::vm::Features;
use abi::handoff::Presence;
use x86::Exit;
use x86::control::Cr4;
use x86::event::EventType;
use x86::exception::page_fault;
use x86::exit::{
    Access, ControlAccess, Instruction, NestedFault, PortAccess, RegisterAccess, TaskSource,
    TaskSwitch,
};
use x86::{Event, Gpa, Gva, Registers};

const CPUID: Exit = Exit::Cpuid {
    leaf: 1,
    subleaf: 0,
};

const INVD: Exit = Exit::Instruction(Instruction::Invd);

/// MOV to a control register from RBX.
fn write_control(register: u8) -> Exit {
    Exit::Control(ControlAccess::Move(RegisterAccess {
        register,
        write: true,
        general: Some(3),
    }))
}

fn task_switch(selector: u16) -> Exit {
    Exit::TaskSwitch(TaskSwitch {
        selector,
        source: TaskSource::Gate,
        error: None,
    })
}

fn exception(vector: u8) -> Event {
    Event {
        kind: EventType::Exception,
        vector,
        error: Some(0),
    }
}

fn vm() -> Vm<FakeMemory> {
    Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL)
}

/// Runs a CPU through one exit; the loop then ends by itself.
fn after<const V: u8>(vm: &Vm<FakeMemory>, mut vcpu: FakeCpu<V>, exit: Exit) -> Cpu<FakeCpu<V>> {
    vcpu.exits.push_back(exit);
    let mut cpu = Cpu::new(vcpu);
    assert_eq!(run(vm, &mut cpu), Stop::Reset);
    cpu
}

#[test]
fn a_done_instruction_is_stepped_over_like_the_cpu_does() {
    let vcpu = FakeVtx {
        rflags: Rflags::FIXED | Rflags::TF | Rflags::RF,
        in_shadow: true,
        ..FakeVtx::default()
    };
    let cpu = after(&vm(), vcpu, CPUID);
    assert_eq!(cpu.vcpu.rip, 0x1002);
    assert_eq!(cpu.vcpu.rflags, Rflags::FIXED | Rflags::TF);
    assert!(!cpu.vcpu.in_shadow);
    assert!(cpu.vcpu.single_step);
    assert!(cpu.vcpu.injected.is_empty());
}

/// At a nested fault the hardware's length means nothing.
#[test]
fn an_emulated_instruction_is_stepped_over_by_its_own_length() {
    let out = PortAccess {
        port: 0x80,
        size: 1,
        input: false,
        string: false,
        repeat: false,
        segment: None,
        value: 0,
        next: Some(0x1003),
    };
    let vcpu = FakeVtx {
        rflags: Rflags::FIXED | Rflags::TF,
        in_shadow: true,
        length: Some(15),
        ..FakeVtx::default()
    };
    let cpu = after(&vm(), vcpu, Exit::Port(out));
    assert_eq!(cpu.vcpu.rip, 0x1003);
    assert!(!cpu.vcpu.in_shadow);
    assert!(cpu.vcpu.single_step);
}

#[test]
fn the_instruction_pointer_wraps_outside_64_bit_mode_only() {
    let at_the_end = FakeVtx {
        rip: 0xffff_ffff,
        size: CodeSize::Bits32,
        ..FakeVtx::default()
    };
    assert_eq!(after(&vm(), at_the_end, CPUID).vcpu.rip, 1);
    let in_the_middle = FakeVtx {
        rip: 0xffff_ffff,
        ..FakeVtx::default()
    };
    assert_eq!(after(&vm(), in_the_middle, CPUID).vcpu.rip, 0x1_0000_0001);
}

#[test]
fn without_a_length_from_the_hardware_the_bytes_are_decoded() {
    let vm = vm();
    vm.memory.put(0x1000, &[0xf3, 0x48, 0x0f, 0xa2]);
    assert_eq!(after(&vm, FakeSvm::default(), CPUID).vcpu.rip, 0x1004);
}

#[test]
fn an_instruction_across_pages_is_fetched_from_both() {
    let vm = vm();
    vm.memory.put(0x1ffe, &[0x48, 0x0f, 0xa2]);
    let vcpu = FakeSvm {
        rip: 0x1ffe,
        ..FakeSvm::default()
    };
    assert_eq!(after(&vm, vcpu, CPUID).vcpu.rip, 0x2001);
}

#[test]
fn code_that_is_gone_faults_as_fetching_it_would_and_has_not_run() {
    let vm = vm();
    vm.memory.unmap(0x1000);
    let code = page_fault::USER | page_fault::FETCH;
    let fault = Exception::PageFault {
        address: 0x1000,
        code,
    };
    let registers = Registers {
        rax: abi::call::PING,
        rbx: 2,
        rcx: 3,
        rdx: 4,
        ..Registers::default()
    };
    for exit in [CPUID, Exit::Hypercall, Exit::ReadMsr { number: 0x1b }] {
        let vcpu = FakeSvm {
            cpl: 3,
            registers,
            ..FakeSvm::default()
        };
        let cpu = after(&vm, vcpu, exit);
        assert_eq!(cpu.vcpu.injected, [fault], "{exit:?}");
        assert_eq!(cpu.vcpu.registers, registers, "{exit:?}");
        assert_eq!(cpu.vcpu.rip, 0x1000);
        // It, and the one that ends the loop.
        assert_eq!(cpu.counted.statistics.total(), 2);
    }
}

#[test]
fn a_fault_stays_at_its_instruction() {
    let cpu = after(&vm(), FakeVtx::default(), Exit::Virtualisation);
    assert_eq!(cpu.vcpu.injected, [Exception::InvalidOpcode]);
    assert_eq!(cpu.vcpu.rip, 0x1000);
    assert!(cpu.vcpu.rflags.contains(Rflags::RF));
}

#[test]
fn an_exit_that_nobody_knows_stops_the_guest_by_name() {
    let exit = Exit::Other {
        reason: 99,
        detail: 7,
    };
    let mut cpu = Cpu::new(FakeVtx {
        exits: [exit].into(),
        ..FakeVtx::default()
    });
    assert_eq!(run(&vm(), &mut cpu), Stop::Unhandled(exit));
}

#[test]
fn exits_are_counted_by_kind() {
    let exits = [CPUID, CPUID, INVD].into();
    let mut cpu = Cpu::new(FakeVtx {
        exits,
        ..FakeVtx::default()
    });
    run(&vm(), &mut cpu);
    assert_eq!(cpu.counted.statistics.total(), 4);
    assert_eq!(
        cpu.counted.statistics.to_string(),
        "cpuid 2, invd 1, triple-fault 1"
    );
}

#[test]
fn an_exit_takes_the_time_between_two_looks_at_the_clock() {
    let cpu = after(&vm(), FakeVtx::default(), INVD);
    let row = cpu
        .counted
        .statistics
        .rows()
        .next()
        .expect("one kind happened");
    assert_eq!((row.kind, row.total, row.most), ("invd", 1, 1));
}

#[test]
fn a_traced_exit_is_recorded_as_it_came_and_as_it_was_answered() {
    let write = Exit::WriteMsr {
        number: 0x1_0000,
        value: 5,
    };
    let mut cpu = after(&vm(), FakeVtx::default(), CPUID);
    cpu.counted.trace.switch(false);
    cpu.vcpu.exits = [CPUID].into();
    run(&vm(), &mut cpu);
    cpu.counted.trace.switch(true);
    cpu.vcpu.exits = [write].into();
    run(&vm(), &mut cpu);
    let mut reader = Reader::default();
    let mut next = || cpu.counted.trace.read(&mut reader, 0).expect("a record");
    let first = next();
    assert_eq!(
        (first.kind, first.outcome, first.rip),
        ("cpuid", "done", 0x1000)
    );
    assert_eq!((first.payload, first.end - first.begin), ([1, 0], 1));
    assert_eq!(next().outcome, "stop");
    let second = next();
    assert_eq!(
        (second.number, second.kind, second.outcome),
        (2, "wrmsr", "fault")
    );
    assert_eq!((second.payload, second.rip), ([0x1_0000, 5], 0x1004));
}

#[test]
fn invd_writes_back_instead() {
    let cpu = after(&vm(), FakeVtx::default(), INVD);
    assert_eq!((cpu.vcpu.written_back, cpu.vcpu.rip), (1, 0x1002));
}

#[test]
fn cr0_is_left_to_the_cpu_once_the_shadow_agrees() {
    let mut vcpu = FakeVtx::default();
    vcpu.registers.rbx = 0x8000_0011;
    let cpu = after(&vm(), vcpu, write_control(0));
    assert_eq!(
        (cpu.vcpu.cr0_shadow, cpu.vcpu.rip),
        (Some(0x8000_0011), 0x1000)
    );
    assert!(cpu.vcpu.injected.is_empty());
}

#[test]
fn hidden_bits_of_cr4_cannot_be_set() {
    let mut vcpu = FakeVtx::default();
    vcpu.registers.rbx = Cr4::VMXE.bits();
    let cpu = after(&vm(), vcpu, write_control(4));
    assert_eq!(cpu.vcpu.injected, [Exception::GeneralProtection(0)]);
    assert_eq!(cpu.vcpu.rip, 0x1000);
}

#[test]
fn xsetbv_is_the_cpus_to_judge() {
    let good = Exit::SetExtendedControl { index: 0, value: 7 };
    let cpu = after(&vm(), FakeVtx::default(), good);
    assert_eq!(
        (cpu.vcpu.xcr.as_slice(), cpu.vcpu.rip),
        ([(0, 7)].as_slice(), 0x1002)
    );
    let bad = Exit::SetExtendedControl { index: 0, value: 2 };
    let cpu = after(&vm(), FakeVtx::default(), bad);
    assert_eq!(cpu.vcpu.injected, [Exception::GeneralProtection(0)]);
}

#[test]
fn a_touch_of_the_hypervisors_memory_opens_the_scrap_page() {
    let vm = vm();
    let fault = |fetch, walk| {
        Exit::NestedFault(NestedFault {
            gpa: Gpa(FakeMemory::RESERVED.start.0 + 0x123),
            gva: Some(Gva(0x5000)),
            access: Access {
                write: false,
                fetch,
            },
            walk,
        })
    };
    let cpu = after(&vm, FakeVtx::default(), fault(false, false));
    assert_eq!(
        (cpu.vcpu.flushes, cpu.vcpu.redelivered, cpu.vcpu.rip),
        (1, 1, 0x1000)
    );
    assert_eq!(vm.memory.scrap_opened.get(), 1);
    assert!(cpu.vcpu.injected.is_empty());
    let cpu = after(&vm, FakeVtx::default(), fault(true, false));
    assert_eq!(cpu.vcpu.injected, [Exception::GeneralProtection(0)]);
    // The walk for a fetch reads tables; nothing is executed from there.
    let cpu = after(&vm, FakeVtx::default(), fault(true, true));
    assert!(cpu.vcpu.injected.is_empty());
}

#[test]
fn a_fault_in_the_delivery_of_a_fault_is_a_double_fault() {
    let vcpu = FakeVtx {
        event: Some(exception(13)),
        ..FakeVtx::default()
    };
    let cpu = after(&vm(), vcpu, task_switch(8));
    assert_eq!(cpu.vcpu.injected, [Exception::DoubleFault]);
}

/// A fault raised again and again would hang the guest.
#[test]
fn a_fault_in_the_delivery_of_a_double_fault_ends_the_guest() {
    let mut cpu = Cpu::new(FakeVtx {
        exits: [task_switch(8), CPUID].into(),
        event: Some(exception(8)),
        ..FakeVtx::default()
    });
    assert_eq!(run(&vm(), &mut cpu), Stop::Reset);
    assert!(cpu.vcpu.injected.is_empty());
    assert_eq!(cpu.counted.statistics.total(), 1);
}

#[test]
fn an_nmi_is_noted_and_delivered_in_its_window() {
    let exits = [Exit::Nmi, Exit::NmiWindow].into();
    let mut cpu = Cpu::new(FakeVtx {
        exits,
        ..FakeVtx::default()
    });
    run(&vm(), &mut cpu);
    assert_eq!((cpu.vcpu.nmis, cpu.vcpu.redelivered), (0, 2));
}

#[test]
fn init_resets_the_boot_processor() {
    let cpu = after(&vm(), FakeVtx::default(), Exit::Init);
    assert_eq!(cpu.vcpu.resets, 1);
}
