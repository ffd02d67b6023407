//! The decoding of VT-x exits, on made-up fields.

use super::*;
use crate::vtx::field::{Field, Width};
use std::collections::HashMap;

struct Fake(HashMap<u64, u64>);

impl Fields for Fake {
    fn read<W: Width, D>(&self, field: Field<W, D>) -> W::Value {
        W::from_raw(self.0.get(&field.encoding()).copied().unwrap_or(0))
    }
}

fn fake<const N: usize>(values: [(u64, u64); N]) -> Fake {
    Fake(values.into_iter().collect())
}

/// `reason` with `qualification` and nothing else in the VMCS.
fn qualified(reason: u32, qualification: u64) -> Exit {
    let registers = Registers {
        rax: 0x1122_3344_5566_7788,
        ..Registers::default()
    };
    let fields = fake([(field::EXIT_QUALIFICATION.encoding(), qualification)]);
    decode(reason, &registers, &fields)
}

fn moved(register: u8, write: bool, general: u8) -> RegisterAccess {
    RegisterAccess {
        register,
        write,
        general: Some(general),
    }
}

/// The examples are made from the bit tables of the manual.
#[test]
fn control_register_accesses() {
    let control = |qualification| qualified(reason::CONTROL_REGISTER, qualification);
    let access = |access| Exit::Control(ControlAccess::Move(access));
    assert_eq!(control(0x204), access(moved(4, true, 2)));
    assert_eq!(control(0xf18), access(moved(8, false, 15)));
    assert_eq!(
        control(0x20),
        Exit::Control(ControlAccess::ClearTaskSwitched)
    );
    let value = 0xfff1;
    assert_eq!(
        control(0xfff1_0030),
        Exit::Control(ControlAccess::LoadMachineStatus { value })
    );
}

#[test]
fn debug_register_accesses() {
    let debug = |qualification| qualified(reason::DEBUG_REGISTER, qualification);
    assert_eq!(debug(0x307), Exit::Debug(moved(7, true, 3)));
    assert_eq!(debug(0x416), Exit::Debug(moved(6, false, 4)));
}

#[test]
fn port_accesses() {
    let port = |qualification| qualified(reason::IO, qualification);
    let plain = PortAccess {
        port: 0xcf8,
        size: 4,
        input: false,
        string: false,
        repeat: false,
        segment: None,
        value: 0x5566_7788,
        next: None,
    };
    assert_eq!(port(0x0cf8_0003), Exit::Port(plain));
    let string = PortAccess {
        port: 0x1f0,
        size: 2,
        input: true,
        string: true,
        repeat: true,
        ..plain
    };
    assert_eq!(port(0x01f0_0039), Exit::Port(string));
    let undefined = port(0x01f0_0002);
    assert!(matches!(undefined, Exit::Other { reason: 30, .. }));
}

#[test]
fn task_switches() {
    let switch = |qualification| qualified(reason::TASK_SWITCH, qualification);
    for (bits, source) in [
        (0, TaskSource::Call),
        (1, TaskSource::Iret),
        (2, TaskSource::Jump),
        (3, TaskSource::Gate),
    ] {
        let expected = TaskSwitch {
            selector: 0x2b,
            source,
            error: None,
        };
        assert_eq!(switch(bits << 30 | 0x2b), Exit::TaskSwitch(expected));
    }
}

#[test]
fn exceptions_and_interrupts() {
    let event = field::EXIT_EVENT.encoding();
    let code = field::EXIT_EVENT_CODE.encoding();
    let detail = field::EXIT_QUALIFICATION.encoding();
    let page_fault = fake([(event, 0x8000_0b0e), (code, 7), (detail, 0x1234)]);
    let expected = Event {
        kind: EventType::Exception,
        vector: 14,
        error: Some(7),
    };
    let registers = Registers::default();
    assert_eq!(
        decode(reason::EXCEPTION_OR_NMI, &registers, &page_fault),
        Exit::Exception {
            event: expected,
            detail: 0x1234
        }
    );
    let taken = fake([(event, 0x8000_0031)]);
    let vector = Some(0x31);
    assert_eq!(
        decode(reason::INTERRUPT, &registers, &taken),
        Exit::Interrupt { vector }
    );
    let pending = Exit::Interrupt { vector: None };
    assert_eq!(decode(reason::INTERRUPT, &registers, &fake([])), pending);
}

#[test]
fn instructions() {
    for (reason, instruction) in [
        (12, Instruction::Hlt),
        (13, Instruction::Invd),
        (14, Instruction::Invlpg(Some(Gva(0x77)))),
        (15, Instruction::Rdpmc),
        (16, Instruction::Rdtsc),
        (17, Instruction::Rsm),
        (36, Instruction::Mwait),
        (39, Instruction::Monitor),
        (40, Instruction::Pause),
        (46, Instruction::DescriptorTable),
        (47, Instruction::DescriptorTable),
        (51, Instruction::Rdtscp),
        (54, Instruction::Wbinvd),
        (57, Instruction::Rdrand),
        (58, Instruction::Invpcid),
        (61, Instruction::Rdseed),
        (63, Instruction::Xsaves),
        (64, Instruction::Xrstors),
        (67, Instruction::UserWait),
        (68, Instruction::UserWait),
    ] {
        assert_eq!(qualified(reason, 0x77), Exit::Instruction(instruction));
    }
}

#[test]
fn an_ept_violation_on_a_page_walk_is_told_from_one_on_the_access() {
    let address = (field::GUEST_PHYSICAL_ADDRESS.encoding(), 0x1234_5000);
    let linear = (
        field::GUEST_LINEAR_ADDRESS.encoding(),
        0xffff_8000_0000_1000,
    );
    let walk = fake([
        address,
        linear,
        (field::EXIT_QUALIFICATION.encoding(), 0x83),
    ]);
    let Exit::NestedFault(fault) = decode(48, &Registers::default(), &walk) else {
        panic!("not a nested fault")
    };
    assert!(fault.walk && fault.access.write && !fault.access.fetch);
    assert_eq!(fault.gpa, Gpa(0x1234_5000));
    assert_eq!(fault.gva, Some(Gva(0xffff_8000_0000_1000)));
    let access = fake([
        address,
        linear,
        (field::EXIT_QUALIFICATION.encoding(), 0x184),
    ]);
    let Exit::NestedFault(fault) = decode(48, &Registers::default(), &access) else {
        panic!("not a nested fault")
    };
    assert!(!fault.walk && fault.access.fetch);
}

#[test]
fn what_the_reason_says_beside_the_basic_one_changes_nothing() {
    let fields = fake([(field::EXIT_EVENT.encoding(), u64::from(crate::event::NMI))]);
    for flag in [26, 27, 28, 29] {
        let registers = Registers::default();
        assert_eq!(decode(1 << flag, &registers, &fields), Exit::Nmi);
        assert_eq!(decode(1 << flag | 18, &registers, &fields), Exit::Hypercall);
    }
}

#[test]
fn instructions_of_hidden_features_are_unknown() {
    for reason in [
        11, 19, 20, 21, 22, 23, 24, 25, 26, 27, 50, 53, 59, 60, 65, 69, 70, 72, 73, 76, 77, 78, 79,
        84, 85,
    ] {
        let exit = decode(reason, &Registers::default(), &fake([]));
        assert_eq!(exit, Exit::Virtualisation, "reason {reason}");
    }
}

#[test]
fn unknown_reasons_survive() {
    let named = 0..=70;
    let unknown = [35, 38, 42, 62, 66];
    for reason in named.filter(|reason| !unknown.contains(reason)) {
        let exit = qualified(reason, 0);
        let is_decoded = !matches!(exit, Exit::Other { .. }) || matches!(reason, 0 | 33 | 34 | 41);
        assert!(is_decoded, "reason {reason}");
    }
    for reason in unknown.into_iter().chain([71, 74, 75, 80, 86, 200, 0xffff]) {
        let kept = Exit::Other {
            reason: u64::from(reason),
            detail: 77,
        };
        assert_eq!(qualified(reason, 77), kept);
    }
}

#[test]
fn failed_entries() {
    let failed = |reason| qualified(reason | ENTRY_FAILED, 77);
    let state = EntryFailure::GuestState(77);
    assert_eq!(failed(33), Exit::EntryFailed(state));
    assert_eq!(failed(34), Exit::EntryFailed(EntryFailure::MsrLoad(77)));
    assert_eq!(failed(41), Exit::EntryFailed(EntryFailure::MachineCheck));
    assert!(matches!(
        failed(12),
        Exit::Other {
            reason: 0x8000_000c,
            ..
        }
    ));
}

#[test]
fn what_is_told_at_once_is_what_is_told_of_every_exit() {
    let registers = Registers {
        rax: 7,
        rcx: 9,
        ..Registers::default()
    };
    for reason in (0..=90).flat_map(|reason| [reason, reason | ENTRY_FAILED, reason | 1 << 27]) {
        let all = decode(reason, &registers, &fake([]));
        let frequent = decode_frequent(reason).map(|frequent| frequent.exit(&registers));
        assert_eq!(frequent.unwrap_or(all), all, "reason {reason:#x}");
        let access = decode_access(reason, &registers, &fake([]));
        assert_eq!(access.unwrap_or(all), all, "reason {reason:#x}");
    }
}
