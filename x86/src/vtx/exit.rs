//! Decoding of VT-x exits: reason and qualification into [`Exit`]. Fields are
//! read only where the exit needs them. Intel SDM volume 3, appendix "VMX
//! Basic Exit Reasons" and "Information for VM Exits".

use super::field::{self, Fields};
use crate::event::{Event, EventType};
use crate::exit::{
    Access, ControlAccess, EntryFailure, Exit, Frequent, Instruction, NestedFault, PortAccess,
    RegisterAccess, TaskSource, TaskSwitch,
};
use crate::{Gpa, Gva, Registers};

/// In an exit reason: the guest was not entered.
pub const ENTRY_FAILED: u32 = 1 << 31;

/// In place of an exit reason: VMRESUME or VMLAUNCH did nothing, for the reason
/// that the VM-instruction error says. No CPU gives this one.
pub const NOT_ENTERED: u32 = u32::MAX;

/// Basic exit reasons.
#[allow(missing_docs)]
pub mod reason {
    pub const EXCEPTION_OR_NMI: u32 = 0;
    pub const INTERRUPT: u32 = 1;
    pub const TRIPLE_FAULT: u32 = 2;
    pub const INIT: u32 = 3;
    pub const STARTUP: u32 = 4;
    pub const IO_SMI: u32 = 5;
    pub const SMI: u32 = 6;
    pub const INTERRUPT_WINDOW: u32 = 7;
    pub const NMI_WINDOW: u32 = 8;
    pub const TASK_SWITCH: u32 = 9;
    pub const CPUID: u32 = 10;
    pub const GETSEC: u32 = 11;
    pub const HLT: u32 = 12;
    pub const INVD: u32 = 13;
    pub const INVLPG: u32 = 14;
    pub const RDPMC: u32 = 15;
    pub const RDTSC: u32 = 16;
    pub const RSM: u32 = 17;
    pub const VMCALL: u32 = 18;
    pub const VMCLEAR: u32 = 19;
    pub const VMXON: u32 = 27;
    pub const CONTROL_REGISTER: u32 = 28;
    pub const DEBUG_REGISTER: u32 = 29;
    pub const IO: u32 = 30;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const INVALID_GUEST_STATE: u32 = 33;
    pub const MSR_LOADING: u32 = 34;
    pub const MWAIT: u32 = 36;
    pub const MONITOR_TRAP: u32 = 37;
    pub const MONITOR: u32 = 39;
    pub const PAUSE: u32 = 40;
    pub const MACHINE_CHECK: u32 = 41;
    pub const TPR_THRESHOLD: u32 = 43;
    pub const APIC_ACCESS: u32 = 44;
    pub const VIRTUAL_EOI: u32 = 45;
    pub const GDTR_OR_IDTR: u32 = 46;
    pub const LDTR_OR_TR: u32 = 47;
    pub const EPT_VIOLATION: u32 = 48;
    pub const EPT_MISCONFIGURATION: u32 = 49;
    pub const INVEPT: u32 = 50;
    pub const RDTSCP: u32 = 51;
    pub const PREEMPTION_TIMER: u32 = 52;
    pub const INVVPID: u32 = 53;
    pub const WBINVD: u32 = 54;
    pub const XSETBV: u32 = 55;
    pub const APIC_WRITE: u32 = 56;
    pub const RDRAND: u32 = 57;
    pub const INVPCID: u32 = 58;
    pub const VMFUNC: u32 = 59;
    pub const ENCLS: u32 = 60;
    pub const RDSEED: u32 = 61;
    pub const XSAVES: u32 = 63;
    pub const XRSTORS: u32 = 64;
    pub const PCONFIG: u32 = 65;
    pub const UMWAIT: u32 = 67;
    pub const TPAUSE: u32 = 68;
    pub const LOADIWKEY: u32 = 69;
    pub const ENCLV: u32 = 70;
    pub const ENQCMD: u32 = 72;
    pub const ENQCMDS: u32 = 73;
    pub const SEAMCALL: u32 = 76;
    pub const TDCALL: u32 = 77;
    pub const RDMSRLIST: u32 = 78;
    pub const WRMSRLIST: u32 = 79;
    pub const RDMSR_IMMEDIATE: u32 = 84;
    pub const WRMSRNS_IMMEDIATE: u32 = 85;
}

/// Bits of the exit reason beside the basic one say more (that the CPU was in
/// an enclave, a pending MTF) and change nothing here, but for the highest.
const BASIC: u32 = 0xffff;

/// Which frequent exit it is that happened for `reason`, if it is one.
#[inline(always)]
pub fn decode_frequent(reason: u32) -> Option<Frequent> {
    match reason {
        reason::CPUID => Some(Frequent::Cpuid),
        reason::VMCALL => Some(Frequent::Hypercall),
        reason::RDMSR => Some(Frequent::ReadMsr),
        _ => None,
    }
}

/// The exit that just happened, if it is an access that a device may be waiting
/// for.
#[inline(always)]
pub fn decode_access(reason: u32, registers: &Registers, fields: &impl Fields) -> Option<Exit> {
    match reason & (BASIC | ENTRY_FAILED) {
        reason::IO => port(registers, fields).map(Exit::Port),
        reason::EPT_VIOLATION => Some(Exit::NestedFault(nested_fault(fields))),
        _ => None,
    }
}

/// The exit that just happened, whichever it is.
pub fn decode(reason: u32, registers: &Registers, fields: &impl Fields) -> Exit {
    let access = decode_access(reason, registers, fields);
    access.unwrap_or_else(|| decode_other(reason, registers, fields))
}

fn decode_other(reason: u32, registers: &Registers, fields: &impl Fields) -> Exit {
    let qualification = || fields.read(field::EXIT_QUALIFICATION);
    if reason & ENTRY_FAILED != 0 {
        return entry_failed(reason, fields);
    }
    let basic = reason & BASIC;
    if let Some(frequent) = decode_frequent(basic) {
        return frequent.exit(registers);
    }
    match basic {
        reason::WRMSR => Exit::WriteMsr {
            number: registers.rcx as u32,
            value: registers.edx_eax(),
        },
        reason::XSETBV => Exit::SetExtendedControl {
            index: registers.rcx as u32,
            value: registers.edx_eax(),
        },
        reason::CONTROL_REGISTER => control_register(qualification(), fields),
        reason::DEBUG_REGISTER => debug_register(qualification()),
        reason::EXCEPTION_OR_NMI => exception(fields),
        reason::INTERRUPT => Exit::Interrupt {
            vector: acknowledged(fields),
        },
        reason::INTERRUPT_WINDOW => Exit::InterruptWindow,
        reason::NMI_WINDOW => Exit::NmiWindow,
        reason::TRIPLE_FAULT => Exit::TripleFault,
        reason::INIT => Exit::Init,
        reason::STARTUP => Exit::Startup {
            vector: qualification() as u8,
        },
        reason::IO_SMI | reason::SMI => Exit::SystemManagement,
        reason::TASK_SWITCH => task_switch(qualification()),
        reason::MONITOR_TRAP => Exit::MonitorTrap,
        reason::PREEMPTION_TIMER => Exit::PreemptionTimer,
        reason::EPT_MISCONFIGURATION => Exit::NestedTables {
            gpa: Gpa(fields.read(field::GUEST_PHYSICAL_ADDRESS)),
        },
        reason::TPR_THRESHOLD | reason::APIC_ACCESS | reason::VIRTUAL_EOI | reason::APIC_WRITE => {
            Exit::Apic {
                reason: u64::from(reason),
                detail: qualification(),
            }
        }
        reason::GETSEC
        | reason::VMCLEAR..=reason::VMXON
        | reason::INVEPT
        | reason::INVVPID
        | reason::VMFUNC
        | reason::ENCLS
        | reason::ENCLV
        | reason::PCONFIG
        | reason::LOADIWKEY
        | reason::ENQCMD
        | reason::ENQCMDS
        | reason::SEAMCALL..=reason::WRMSRLIST
        | reason::RDMSR_IMMEDIATE
        | reason::WRMSRNS_IMMEDIATE => Exit::Virtualisation,
        other => match instruction(other, fields) {
            Some(instruction) => Exit::Instruction(instruction),
            None => other_exit(other, fields),
        },
    }
}

fn instruction(reason: u32, fields: &impl Fields) -> Option<Instruction> {
    Some(match reason {
        reason::HLT => Instruction::Hlt,
        reason::INVD => Instruction::Invd,
        reason::INVLPG => Instruction::Invlpg(Some(Gva(fields.read(field::EXIT_QUALIFICATION)))),
        reason::RDPMC => Instruction::Rdpmc,
        reason::RDTSC => Instruction::Rdtsc,
        reason::RDTSCP => Instruction::Rdtscp,
        reason::RSM => Instruction::Rsm,
        reason::MWAIT => Instruction::Mwait,
        reason::MONITOR => Instruction::Monitor,
        reason::PAUSE => Instruction::Pause,
        reason::GDTR_OR_IDTR | reason::LDTR_OR_TR => Instruction::DescriptorTable,
        reason::WBINVD => Instruction::Wbinvd,
        reason::RDRAND => Instruction::Rdrand,
        reason::RDSEED => Instruction::Rdseed,
        reason::INVPCID => Instruction::Invpcid,
        reason::XSAVES => Instruction::Xsaves,
        reason::XRSTORS => Instruction::Xrstors,
        reason::UMWAIT | reason::TPAUSE => Instruction::UserWait,
        _ => return None,
    })
}

fn other_exit(reason: u32, fields: &impl Fields) -> Exit {
    Exit::Other {
        reason: u64::from(reason),
        detail: fields.read(field::EXIT_QUALIFICATION),
    }
}

#[cold]
fn entry_failed(reason: u32, fields: &impl Fields) -> Exit {
    if reason == NOT_ENTERED {
        let number = fields.read(field::INSTRUCTION_ERROR);
        return Exit::EntryFailed(EntryFailure::Instruction(number));
    }
    let qualification = fields.read(field::EXIT_QUALIFICATION);
    Exit::EntryFailed(match reason & BASIC {
        reason::INVALID_GUEST_STATE => EntryFailure::GuestState(qualification),
        reason::MSR_LOADING => EntryFailure::MsrLoad(qualification),
        reason::MACHINE_CHECK => EntryFailure::MachineCheck,
        _ => return other_exit(reason, fields),
    })
}

fn exit_event(fields: &impl Fields) -> Option<Event> {
    let code = fields.read(field::EXIT_EVENT_CODE);
    Event::from_words(fields.read(field::EXIT_EVENT), code)
}

fn exception(fields: &impl Fields) -> Exit {
    match exit_event(fields) {
        Some(Event {
            kind: EventType::Nmi,
            ..
        }) => Exit::Nmi,
        Some(event) => Exit::Exception {
            event,
            detail: fields.read(field::EXIT_QUALIFICATION),
        },
        None => other_exit(reason::EXCEPTION_OR_NMI, fields),
    }
}

/// The vector, where the control "acknowledge interrupt on exit" is set.
fn acknowledged(fields: &impl Fields) -> Option<u8> {
    exit_event(fields).map(|event| event.vector)
}

/// Intel SDM volume 3, "Exit Qualification for Control-Register Accesses".
fn control_register(qualification: u64, fields: &impl Fields) -> Exit {
    let moved = |write| {
        ControlAccess::Move(RegisterAccess {
            register: (qualification & 0xf) as u8,
            write,
            general: Some((qualification >> 8 & 0xf) as u8),
        })
    };
    Exit::Control(match qualification >> 4 & 3 {
        0 => moved(true),
        1 => moved(false),
        2 => ControlAccess::ClearTaskSwitched,
        3 => ControlAccess::LoadMachineStatus {
            value: (qualification >> 16) as u16,
        },
        _ => return other_exit(reason::CONTROL_REGISTER, fields),
    })
}

/// Intel SDM volume 3, "Exit Qualification for MOV DR".
fn debug_register(qualification: u64) -> Exit {
    Exit::Debug(RegisterAccess {
        register: (qualification & 7) as u8,
        write: qualification & (1 << 4) == 0,
        general: Some((qualification >> 8 & 0xf) as u8),
    })
}

/// Bit n: an access to ports may be n + 1 bytes wide.
const SIZES_LESS_1: u8 = 1 << 0 | 1 << 1 | 1 << 3;

/// Intel SDM volume 3, "Exit Qualification for I/O Instructions".
#[inline]
fn port(registers: &Registers, fields: &impl Fields) -> Option<PortAccess> {
    let qualification = fields.read(field::EXIT_QUALIFICATION);
    let size_less_1 = (qualification & 7) as u8;
    if SIZES_LESS_1 >> size_less_1 & 1 == 0 {
        return None;
    }
    Some(PortAccess {
        port: (qualification >> 16) as u16,
        size: size_less_1 + 1,
        input: qualification & (1 << 3) != 0,
        string: qualification & (1 << 4) != 0,
        repeat: qualification & (1 << 5) != 0,
        segment: None,
        value: registers.rax as u32,
        next: None,
    })
}

/// Intel SDM volume 3, "Exit Qualification for Task Switches".
fn task_switch(qualification: u64) -> Exit {
    Exit::TaskSwitch(TaskSwitch {
        selector: qualification as u16,
        source: match qualification >> 30 & 3 {
            0 => TaskSource::Call,
            1 => TaskSource::Iret,
            2 => TaskSource::Jump,
            _ => TaskSource::Gate,
        },
        error: None,
    })
}

/// Intel SDM volume 3, "Exit Qualification for EPT Violations".
#[inline]
fn nested_fault(fields: &impl Fields) -> NestedFault {
    let qualification = fields.read(field::EXIT_QUALIFICATION);
    let linear_valid = qualification & (1 << 7) != 0;
    let is_final_access = qualification & (1 << 8) != 0;
    NestedFault {
        gpa: Gpa(fields.read(field::GUEST_PHYSICAL_ADDRESS)),
        gva: linear_valid.then(|| Gva(fields.read(field::GUEST_LINEAR_ADDRESS))),
        access: Access {
            write: qualification & (1 << 1) != 0,
            fetch: qualification & (1 << 2) != 0,
        },
        walk: linear_valid && !is_final_access,
    }
}

#[cfg(test)]
mod tests;
