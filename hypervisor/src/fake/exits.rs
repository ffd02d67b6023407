//! Exits to try on the fake machine.

use super::FakeMemory;
use x86::event::EventType;
use x86::exit::{
    Access, ControlAccess, EntryFailure, Instruction, Kind, NestedFault, PortAccess,
    RegisterAccess, TaskSource, TaskSwitch,
};
use x86::{Event, Exit, Gpa};

/// An exit of each kind.
pub fn one_of_each() -> Vec<Exit> {
    let access = RegisterAccess {
        register: 0,
        write: true,
        general: Some(0),
    };
    let port = PortAccess {
        port: 0x80,
        size: 1,
        input: false,
        string: false,
        repeat: false,
        segment: None,
        value: 0,
        next: Some(0x1002),
    };
    let event = Event {
        kind: EventType::Exception,
        vector: 6,
        error: None,
    };
    let switch = TaskSwitch {
        selector: 8,
        source: TaskSource::Jump,
        error: None,
    };
    let fault = NestedFault {
        gpa: FakeMemory::RESERVED.start,
        gva: None,
        access: Access::default(),
        walk: false,
    };
    let (number, value, index, reason, detail) = (0x1b, 0, 0, 0, 0);
    let instructions = [
        Instruction::Hlt,
        Instruction::Pause,
        Instruction::Monitor,
        Instruction::Mwait,
        Instruction::Rdtsc,
        Instruction::Rdtscp,
        Instruction::Rdpmc,
        Instruction::Rdpru,
        Instruction::Rdrand,
        Instruction::Rdseed,
        Instruction::Invd,
        Instruction::Wbinvd,
        Instruction::Invlpg(None),
        Instruction::Invpcid,
        Instruction::Xsaves,
        Instruction::Xrstors,
        Instruction::UserWait,
        Instruction::Rsm,
        Instruction::DescriptorTable,
        Instruction::Iret,
    ];
    let mut all = vec![
        Exit::Cpuid {
            leaf: 0,
            subleaf: 0,
        },
        Exit::Hypercall,
        Exit::ReadMsr { number },
        Exit::WriteMsr { number, value },
        Exit::SetExtendedControl { index, value },
        Exit::Control(ControlAccess::Move(access)),
        Exit::Debug(access),
        Exit::Port(port),
        Exit::NestedFault(fault),
        Exit::NestedTables { gpa: Gpa(0) },
        Exit::Virtualisation,
        Exit::Exception { event, detail },
        Exit::Interrupt { vector: None },
        Exit::InterruptWindow,
        Exit::Nmi,
        Exit::NmiWindow,
        Exit::SystemManagement,
        Exit::Init,
        Exit::Startup { vector: 0 },
        Exit::TaskSwitch(switch),
        Exit::Apic { reason, detail },
        Exit::PreemptionTimer,
        Exit::MonitorTrap,
        Exit::TripleFault,
        Exit::EntryFailed(EntryFailure::GuestState(0)),
        Exit::Other { reason, detail },
    ];
    all.extend(instructions.map(Exit::Instruction));
    let mut kinds: Vec<Kind> = all.iter().map(Exit::kind).collect();
    kinds.sort();
    assert_eq!(kinds, Kind::ALL, "one of each");
    all
}
