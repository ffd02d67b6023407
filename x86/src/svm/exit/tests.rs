//! The decoding of AMD-V exits, on made-up control areas.

use super::*;

fn control(code: u64, info1: u64, info2: u64) -> Control {
    let mut control = crate::svm::vmcb::blank().control;
    control.exit_code = code;
    control.exit_info1 = info1;
    control.exit_info2 = info2;
    control
}

#[test]
fn msr_direction_comes_from_the_first_word() {
    let registers = Registers {
        rcx: 0xc000_0080,
        rdx: 1,
        rax: 2,
        ..Registers::default()
    };
    let read = decode(&control(0x7c, 0, 0), &registers);
    assert_eq!(
        read,
        Exit::ReadMsr {
            number: 0xc000_0080
        }
    );
    let write = decode(&control(0x7c, 1, 0), &registers);
    assert_eq!(
        write,
        Exit::WriteMsr {
            number: 0xc000_0080,
            value: 0x1_0000_0002
        }
    );
}

#[test]
fn nested_faults_tell_walk_from_access() {
    let registers = Registers::default();
    let walk = decode(&control(0x400, 1 << 33 | 6, 0x5000), &registers);
    let Exit::NestedFault(fault) = walk else {
        panic!("not a nested fault")
    };
    assert!(fault.walk && fault.access.write && !fault.access.fetch);
    assert_eq!(fault.gpa, Gpa(0x5000));
}

fn decoded(code: u64, info1: u64, info2: u64) -> Exit {
    let registers = Registers {
        rax: 0x1122_3344_5566_7788,
        ..Registers::default()
    };
    decode(&control(code, info1, info2), &registers)
}

/// The examples are made from the bit tables of the manual.
#[test]
fn port_accesses() {
    let plain = PortAccess {
        port: 0xcf8,
        size: 4,
        input: false,
        string: false,
        repeat: false,
        segment: None,
        value: 0x5566_7788,
        next: Some(0x1001),
    };
    let word = 0x0cf8_0000 | 1 << 9 | 1 << 6;
    assert_eq!(decoded(0x7b, word, 0x1001), Exit::Port(plain));
    let string = PortAccess {
        port: 0x1f0,
        size: 2,
        input: true,
        string: true,
        repeat: true,
        ..plain
    };
    let word = 0x01f0_0000 | 1 << 5 | 1 << 3 | 1 << 2 | 1;
    assert_eq!(decoded(0x7b, word, 0x1001), Exit::Port(string));
}

#[test]
fn control_registers_with_decode_assists_and_without() {
    let plain = ControlAccess::Undecoded {
        register: 4,
        write: true,
    };
    assert_eq!(decoded(0x14, 0, 0), Exit::Control(plain));
    let assisted = ControlAccess::Move(RegisterAccess {
        register: 3,
        write: false,
        general: Some(0),
    });
    assert_eq!(decoded(0x03, 1 << 63, 0), Exit::Control(assisted));
}

#[test]
fn task_switches_name_their_source() {
    let switch = |source, error| {
        Exit::TaskSwitch(TaskSwitch {
            selector: 0x28,
            source,
            error,
        })
    };
    assert_eq!(decoded(0x7d, 0x28, 0), switch(TaskSource::Call, None));
    assert_eq!(decoded(0x7d, 0x28, 1 << 36), switch(TaskSource::Iret, None));
    assert_eq!(decoded(0x7d, 0x28, 1 << 38), switch(TaskSource::Jump, None));
    let mut gate = control(0x7d, 0x28, 1 << 44 | 5);
    gate.exit_event = 0x8000_0b0d;
    let exit = decode(&gate, &Registers::default());
    assert_eq!(exit, switch(TaskSource::Gate, Some(5)));
}

#[test]
fn exceptions_have_their_error_code_where_they_have_one() {
    let exception = |vector, error| Event {
        kind: EventType::Exception,
        vector,
        error,
    };
    let event = exception(14, Some(7));
    let detail = 0x1234;
    assert_eq!(decoded(0x4e, 7, 0x1234), Exit::Exception { event, detail });
    let event = exception(6, None);
    let detail = 0;
    assert_eq!(decoded(0x46, 0, 0), Exit::Exception { event, detail });
}

#[test]
fn instructions() {
    for (code, instruction) in [
        (0x66, Instruction::DescriptorTable),
        (0x6d, Instruction::DescriptorTable),
        (0x6e, Instruction::Rdtsc),
        (0x6f, Instruction::Rdpmc),
        (0x70, Instruction::Flow(0x70)),
        (0x71, Instruction::Flow(0x71)),
        (0x73, Instruction::Rsm),
        (0x74, Instruction::Iret),
        (0x75, Instruction::Flow(0x75)),
        (0x76, Instruction::Invd),
        (0x77, Instruction::Pause),
        (0x78, Instruction::Hlt),
        (0x79, Instruction::Invlpg(Some(Gva(0x4000)))),
        (0x87, Instruction::Rdtscp),
        (0x88, Instruction::Flow(0x88)),
        (0x89, Instruction::Wbinvd),
        (0x8a, Instruction::Monitor),
        (0x8b, Instruction::Mwait),
        (0x8c, Instruction::Mwait),
        (0x8e, Instruction::Rdpru),
        (0xa2, Instruction::Invpcid),
        (0xa6, Instruction::Hlt),
    ] {
        assert_eq!(decoded(code, 0x4000, 0), Exit::Instruction(instruction));
    }
}

#[test]
fn instructions_of_hidden_features_are_unknown() {
    for code in [
        0x7a, 0x80, 0x82, 0x83, 0x84, 0x85, 0x86, 0xa0, 0xa1, 0xa3, 0xa4,
    ] {
        assert_eq!(decoded(code, 0, 0), Exit::Virtualisation, "{code:#x}");
    }
}

#[test]
fn unknown_codes_survive() {
    let unknown = [
        0x7e,
        0x8f,
        0x90,
        0x9f,
        0xa5,
        0xa7,
        0x3ff,
        0x403,
        0x8000_0000,
    ];
    for reason in unknown {
        let detail = 77;
        assert_eq!(decoded(reason, 77, 0), Exit::Other { reason, detail });
    }
    for reason in (0..0x90)
        .chain(0xa0..0xa7)
        .filter(|code| !unknown.contains(code))
    {
        let exit = decoded(reason, 0x10, 0);
        assert!(!matches!(exit, Exit::Other { .. }), "{reason:#x}");
    }
}

#[test]
fn a_failed_entry() {
    let state = EntryFailure::GuestState(0);
    assert_eq!(decoded(u64::MAX, 0, 0), Exit::EntryFailed(state));
    // QEMU 7.2 writes half of it.
    assert_eq!(decoded(0xffff_ffff, 0, 0), Exit::EntryFailed(state));
}
