//! Controllers on the desk, one exit each.

use crate::fake::{FakeMemory, FakeSvm, FakeVtx};
use crate::outcome::Stop;
use crate::run::run;
use crate::vm::{Cpu, Features, Vm};
use crate::watches::Watches;
use abi::handoff::Presence;
use machine::Vcpu;
use x86::control::Cr4;
use x86::event::EventType;
use x86::exit::{ControlAccess, EntryFailure, Instruction, Kind, RegisterAccess};
use x86::{Event, Exception, Exit, Gpa, msr};

/// Runs a CPU through one exit; the loop then ends by itself.
fn after(mut vcpu: FakeVtx, exit: Exit) -> FakeVtx {
    vcpu.exits.push_back(exit);
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    let mut cpu = Cpu::new(vcpu);
    assert_eq!(run(&vm, &mut cpu), Stop::Reset);
    cpu.vcpu
}

fn instruction(instruction: Instruction) -> FakeVtx {
    after(FakeVtx::default(), Exit::Instruction(instruction))
}

#[test]
fn halted_guests_wait_behind_the_instruction() {
    let vcpu = instruction(Instruction::Hlt);
    assert_eq!((vcpu.halted, vcpu.rip), (true, 0x1002));
    for waiting in [
        Instruction::Pause,
        Instruction::Monitor,
        Instruction::Mwait,
        Instruction::UserWait,
    ] {
        let vcpu = instruction(waiting);
        assert_eq!((vcpu.halted, vcpu.rip), (false, 0x1002));
    }
}

#[test]
fn counters_are_the_cpus_own() {
    let ticking = FakeVtx::default();
    ticking.ticks.set(0x5_0000_0007);
    let vcpu = after(ticking, Exit::Instruction(Instruction::Rdtsc));
    assert_eq!(vcpu.registers.rdx, 5);
    assert!(vcpu.registers.rax >= 7 && vcpu.registers.rax < 20);
    let mut named = FakeVtx::default();
    named.msrs.insert(msr::TSC_AUX, 0x1_0000_0003);
    let vcpu = after(named, Exit::Instruction(Instruction::Rdtscp));
    assert_eq!((vcpu.registers.rcx, vcpu.rip), (3, 0x1002));
    let mut counting = FakeVtx::default();
    counting.registers.rcx = 9;
    let vcpu = after(counting, Exit::Instruction(Instruction::Rdpmc));
    assert_eq!(vcpu.injected, [Exception::GeneralProtection(0)]);
}

#[test]
fn invalidations_forget_everything() {
    let vcpu = instruction(Instruction::Invlpg(None));
    assert_eq!((vcpu.flushes, vcpu.rip), (1, 0x1002));
}

fn debug(register: u8, write: bool) -> Exit {
    Exit::Debug(RegisterAccess {
        register,
        write,
        general: Some(3),
    })
}

#[test]
fn debug_registers_have_two_names_unless_extensions_are_on() {
    let mut vcpu = FakeVtx::default();
    vcpu.registers.rbx = 0x400;
    let vcpu = after(vcpu, debug(5, true));
    assert_eq!(vcpu.debug_registers[7], 0x400);
    let extended = FakeVtx {
        cr4: Cr4::DE,
        ..FakeVtx::default()
    };
    let vcpu = after(extended, debug(5, true));
    assert_eq!(vcpu.injected, [Exception::InvalidOpcode]);
}

#[test]
fn only_the_kernel_reaches_debug_registers() {
    for access in [
        debug(0, false),
        debug(0, true),
        debug(5, true),
        debug(7, true),
    ] {
        let program = FakeVtx {
            cpl: 3,
            ..FakeVtx::default()
        };
        let vcpu = after(program, access);
        assert_eq!(vcpu.injected, [Exception::GeneralProtection(0)]);
        assert_eq!(vcpu.debug_registers, FakeVtx::default().debug_registers);
    }
    let program = FakeVtx {
        cpl: 3,
        cr4: Cr4::DE,
        ..FakeVtx::default()
    };
    let vcpu = after(program, debug(4, false));
    assert_eq!(vcpu.injected, [Exception::InvalidOpcode]);
}

#[test]
fn general_detection_comes_before_the_access() {
    let mut vcpu = FakeVtx::default();
    vcpu.debug_registers[7] = 0x2400;
    vcpu.debug_registers[6] = 0xffff_0ff0;
    let vcpu = after(vcpu, debug(0, true));
    assert_eq!(vcpu.injected, [Exception::Debug]);
    assert_eq!(vcpu.debug_registers[6..], [0xffff_2ff0, 0x400]);
    assert_eq!(vcpu.debug_registers[0], 0);
}

#[test]
fn debug_status_and_control_have_no_upper_half() {
    let mut vcpu = FakeVtx::default();
    vcpu.registers.rbx = 1 << 32;
    let vcpu = after(vcpu, debug(6, true));
    assert_eq!(vcpu.injected, [Exception::GeneralProtection(0)]);
    let mut vcpu = FakeVtx::default();
    vcpu.registers.rbx = 1 << 32;
    let vcpu = after(vcpu, debug(0, true));
    assert_eq!((vcpu.debug_registers[0], vcpu.rip), (1 << 32, 0x1002));
    let mut vcpu = FakeVtx::default();
    vcpu.debug_registers[2] = 77;
    let vcpu = after(vcpu, debug(2, false));
    assert_eq!(vcpu.registers.rbx, 77);
}

fn exception(vector: u8, error: Option<u32>, detail: u64) -> Exit {
    let event = Event {
        kind: EventType::Exception,
        vector,
        error,
    };
    Exit::Exception { event, detail }
}

#[test]
fn an_exception_that_nobody_wants_is_the_guests() {
    let vcpu = after(FakeVtx::default(), exception(14, Some(6), 0x1234));
    let address = 0x1234;
    assert_eq!(vcpu.injected, [Exception::PageFault { address, code: 6 }]);
}

#[test]
fn traps_cannot_be_watched_and_faults_can() {
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    let mut vcpu = FakeVtx::default();
    let mut watches = Watches::new(&vm, &mut vcpu);
    for vector in 0..32 {
        watches.fault(vector);
    }
    let traps: Vec<u8> = (0..32)
        .filter(|vector| !vcpu.exceptions.contains(vector))
        .collect();
    assert_eq!(traps, [1, 3, 4]);
}

#[test]
fn an_exception_in_a_delivery_is_merged() {
    let vcpu = FakeVtx {
        event: Some(Event {
            kind: EventType::Exception,
            vector: 14,
            error: Some(0),
        }),
        ..FakeVtx::default()
    };
    let vcpu = after(vcpu, exception(13, Some(0), 0));
    assert_eq!(vcpu.injected, [Exception::DoubleFault]);
}

#[test]
fn a_machine_check_in_the_hypervisor_is_told_to_a_guest_that_wants_it() {
    let vcpu = FakeVtx {
        machine_check: true,
        cr4: Cr4::MCE,
        ..FakeVtx::default()
    };
    let vcpu = after(vcpu, Exit::NmiWindow);
    assert_eq!(vcpu.injected[0].vector(), 18);
    let unwilling = FakeVtx {
        machine_check: true,
        exits: [Exit::NmiWindow, Exit::Hypercall].into(),
        ..FakeVtx::default()
    };
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    let mut cpu = Cpu::new(unwilling);
    assert_eq!(run(&vm, &mut cpu), Stop::Reset);
    assert_eq!(cpu.vcpu.exits.len(), 1);
}

#[test]
fn a_machine_check_at_the_entry_is_told_to_a_guest_that_wants_it() {
    let willing = FakeVtx {
        cr4: Cr4::MCE,
        ..FakeVtx::default()
    };
    let vcpu = after(willing, Exit::EntryFailed(EntryFailure::MachineCheck));
    assert_eq!(vcpu.injected[0].vector(), 18);
}

#[test]
fn events_that_nobody_asked_for_change_nothing() {
    for exit in [
        Exit::Interrupt { vector: None },
        Exit::InterruptWindow,
        Exit::SystemManagement,
        Exit::PreemptionTimer,
        Exit::MonitorTrap,
    ] {
        let vcpu = after(FakeVtx::default(), exit);
        assert_eq!((vcpu.redelivered, vcpu.rip), (1, 0x1000), "{exit:?}");
        assert!(vcpu.injected.is_empty());
    }
}

#[test]
fn instructions_that_nobody_asked_for_are_unknown() {
    let clts = Exit::Control(ControlAccess::ClearTaskSwitched);
    let table = Exit::Instruction(Instruction::DescriptorTable);
    for exit in [clts, table] {
        let vcpu = after(FakeVtx::default(), exit);
        assert_eq!(vcpu.injected, [Exception::InvalidOpcode], "{exit:?}");
    }
}

/// Whoever adds a kind of exit decides how it ends: only what means that the
/// hypervisor itself is wrong may stop the machine.
#[test]
fn every_exit_has_an_end_that_goes_on() {
    let stops = [
        Kind::Other,
        Kind::NestedTables,
        Kind::Apic,
        Kind::EntryFailed,
        Kind::TripleFault,
    ];
    for exit in crate::fake::exits::one_of_each() {
        let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
        let mut cpu = Cpu::new(FakeSvm {
            exits: [exit].into(),
            ..FakeSvm::default()
        });
        let stop = run(&vm, &mut cpu);
        let went_on = cpu.counted.statistics.total() == 2;
        assert_eq!(went_on, !stops.contains(&exit.kind()), "{exit:?}: {stop:?}");
    }
    assert_eq!(FakeSvm::default().debug_register(0), 0);
}

#[test]
fn malformed_nested_tables_stop_the_machine_by_name() {
    let exit = Exit::NestedTables { gpa: Gpa(0x1000) };
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    let mut cpu = Cpu::new(FakeVtx {
        exits: [exit].into(),
        ..FakeVtx::default()
    });
    assert_eq!(run(&vm, &mut cpu), Stop::Unhandled(exit));
}

/// Code at the default RIP that raised #GP(0), on AMD-V.
fn general_protection(code: &[u8], error: u32) -> FakeSvm {
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    vm.memory.put(0x1000, code);
    let mut cpu = Cpu::new(FakeSvm {
        exits: [exception(13, Some(error), 0)].into(),
        ..FakeSvm::default()
    });
    assert_eq!(run(&vm, &mut cpu), Stop::Reset);
    cpu.vcpu
}

#[test]
fn instructions_of_svm_are_unknown_even_where_the_cpu_says_forbidden() {
    for last in [0xd8, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf] {
        let vcpu = general_protection(&[0x0f, 0x01, last], 0);
        assert_eq!(vcpu.injected, [Exception::InvalidOpcode], "{last:#x}");
    }
    let hlt = general_protection(&[0xf4], 0);
    assert_eq!(hlt.injected[0].vector(), 13);
    let selector = general_protection(&[0x0f, 0x01, 0xd8], 8);
    assert_eq!(selector.injected[0].error_code(), Some(8));
}
