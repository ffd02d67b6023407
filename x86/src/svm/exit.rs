//! Decoding of AMD-V exits: EXITCODE and its two words into [`Exit`]. AMD APM
//! volume 2, appendix "SVM Intercept Exit Codes".

use super::vmcb::Control;
use crate::event::{Event, EventType};
use crate::exit::{
    Access, ControlAccess, EntryFailure, Exit, Frequent, Instruction, NestedFault, PortAccess,
    RegisterAccess, TaskSource, TaskSwitch,
};
use crate::{Gpa, Gva, Registers};

/// Exit codes. Some are the first of a row: CR0 to CR15, DR0 to DR15, the 32
/// exceptions.
#[allow(missing_docs)]
pub mod code {
    pub const CR_READ: u64 = 0x00;
    pub const CR_WRITE: u64 = 0x10;
    pub const DR_READ: u64 = 0x20;
    pub const DR_WRITE: u64 = 0x30;
    pub const EXCEPTION: u64 = 0x40;
    pub const INTERRUPT: u64 = 0x60;
    pub const NMI: u64 = 0x61;
    pub const SMI: u64 = 0x62;
    pub const INIT: u64 = 0x63;
    pub const INTERRUPT_WINDOW: u64 = 0x64;
    pub const CR0_SELECTED_WRITE: u64 = 0x65;
    pub const IDTR_READ: u64 = 0x66;
    pub const TR_WRITE: u64 = 0x6d;
    pub const RDTSC: u64 = 0x6e;
    pub const RDPMC: u64 = 0x6f;
    pub const PUSHF: u64 = 0x70;
    pub const POPF: u64 = 0x71;
    pub const CPUID: u64 = 0x72;
    pub const RSM: u64 = 0x73;
    pub const IRET: u64 = 0x74;
    pub const SOFTWARE_INTERRUPT: u64 = 0x75;
    pub const INVD: u64 = 0x76;
    pub const PAUSE: u64 = 0x77;
    pub const HLT: u64 = 0x78;
    pub const INVLPG: u64 = 0x79;
    pub const INVLPGA: u64 = 0x7a;
    pub const IO: u64 = 0x7b;
    pub const MSR: u64 = 0x7c;
    pub const TASK_SWITCH: u64 = 0x7d;
    pub const FERR_FREEZE: u64 = 0x7e;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMRUN: u64 = 0x80;
    pub const VMMCALL: u64 = 0x81;
    pub const VMLOAD: u64 = 0x82;
    pub const SKINIT: u64 = 0x86;
    pub const RDTSCP: u64 = 0x87;
    pub const ICEBP: u64 = 0x88;
    pub const WBINVD: u64 = 0x89;
    pub const MONITOR: u64 = 0x8a;
    pub const MWAIT: u64 = 0x8b;
    pub const MWAIT_ARMED: u64 = 0x8c;
    pub const XSETBV: u64 = 0x8d;
    pub const RDPRU: u64 = 0x8e;
    pub const INVLPGB: u64 = 0xa0;
    pub const INVLPGB_ILLEGAL: u64 = 0xa1;
    pub const INVPCID: u64 = 0xa2;
    pub const MCOMMIT: u64 = 0xa3;
    pub const TLBSYNC: u64 = 0xa4;
    pub const IDLE_HLT: u64 = 0xa6;
    pub const NESTED_FAULT: u64 = 0x400;
    pub const AVIC_INCOMPLETE: u64 = 0x401;
    pub const AVIC_ACCESS: u64 = 0x402;
    /// The hypervisor's own: the guest was not entered. AMD leaves this code to
    /// it.
    pub const HELD: u64 = 0xf000_0000;
    pub const INVALID: u64 = u64::MAX;
    /// The same from QEMU 7.2, which writes only half of it.
    pub const INVALID_32: u64 = 0xffff_ffff;
}

/// The exit that just happened.
pub fn decode(control: &Control, registers: &Registers) -> Exit {
    match decode_frequent(control) {
        Some(frequent) => frequent.exit(registers),
        None => decode_rare(control, registers),
    }
}

/// Which frequent exit it is that just happened, if it is one.
#[inline(always)]
pub fn decode_frequent(control: &Control) -> Option<Frequent> {
    match control.exit_code {
        code::CPUID => Some(Frequent::Cpuid),
        code::VMMCALL => Some(Frequent::Hypercall),
        code::MSR if control.exit_info1 == 0 => Some(Frequent::ReadMsr),
        _ => None,
    }
}

/// The exit that just happened, if it is an access that a device may be waiting
/// for.
#[inline(always)]
pub fn decode_access(control: &Control, registers: &Registers) -> Option<Exit> {
    match control.exit_code {
        code::IO => Some(port(control, registers)),
        code::NESTED_FAULT => Some(nested_fault(control)),
        _ => None,
    }
}

/// The exit that just happened, if it is no frequent one.
#[cold]
pub fn decode_rare(control: &Control, registers: &Registers) -> Exit {
    if let Some(access) = decode_access(control, registers) {
        return access;
    }
    match control.exit_code {
        code::MSR => Exit::WriteMsr {
            number: registers.rcx as u32,
            value: registers.edx_eax(),
        },
        code::CR_READ..code::DR_READ => control_register(control),
        code::DR_READ..code::EXCEPTION => Exit::Debug(register_access(control)),
        code::EXCEPTION..code::INTERRUPT => exception(control),
        code::INTERRUPT => Exit::Interrupt { vector: None },
        code::INTERRUPT_WINDOW => Exit::InterruptWindow,
        code::NMI => Exit::Nmi,
        code::SMI => Exit::SystemManagement,
        code::INIT => Exit::Init,
        code::HELD => Exit::PreemptionTimer,
        code::CR0_SELECTED_WRITE => Exit::Control(ControlAccess::Undecoded {
            register: 0,
            write: true,
        }),
        code::XSETBV => Exit::SetExtendedControl {
            index: registers.rcx as u32,
            value: registers.edx_eax(),
        },
        code::TASK_SWITCH => task_switch(control),
        code::INVLPGA
        | code::VMRUN
        | code::VMLOAD..=code::SKINIT
        | code::INVLPGB
        | code::INVLPGB_ILLEGAL
        | code::MCOMMIT
        | code::TLBSYNC => Exit::Virtualisation,
        code::SHUTDOWN => Exit::TripleFault,
        code::INVALID | code::INVALID_32 => Exit::EntryFailed(EntryFailure::GuestState(0)),
        reason @ (code::AVIC_INCOMPLETE | code::AVIC_ACCESS) => Exit::Apic {
            reason,
            detail: control.exit_info1,
        },
        reason => match instruction(control) {
            Some(instruction) => Exit::Instruction(instruction),
            None => Exit::Other {
                reason,
                detail: control.exit_info1,
            },
        },
    }
}

fn instruction(control: &Control) -> Option<Instruction> {
    Some(match control.exit_code {
        code::IDTR_READ..=code::TR_WRITE => Instruction::DescriptorTable,
        code::RDTSC => Instruction::Rdtsc,
        code::RDPMC => Instruction::Rdpmc,
        code::RSM => Instruction::Rsm,
        code::IRET => Instruction::Iret,
        flow @ (code::PUSHF | code::POPF | code::SOFTWARE_INTERRUPT | code::ICEBP) => {
            Instruction::Flow(flow as u8)
        }
        code::INVD => Instruction::Invd,
        code::PAUSE => Instruction::Pause,
        code::HLT | code::IDLE_HLT => Instruction::Hlt,
        code::INVLPG => Instruction::Invlpg(assisted(control.exit_info1)),
        code::RDTSCP => Instruction::Rdtscp,
        code::WBINVD => Instruction::Wbinvd,
        code::MONITOR => Instruction::Monitor,
        code::MWAIT | code::MWAIT_ARMED => Instruction::Mwait,
        code::RDPRU => Instruction::Rdpru,
        code::INVPCID => Instruction::Invpcid,
        _ => return None,
    })
}

/// Decode assists give the address; without them the word is 0, which is not
/// told from address 0. AMD APM volume 2, "Decode Assists".
fn assisted(address: u64) -> Option<Gva> {
    (address != 0).then_some(Gva(address))
}

/// Bit 63 says that it was MOV, which only decode assists tell.
const WAS_MOV: u64 = 1 << 63;

fn register_access(control: &Control) -> RegisterAccess {
    let assisted = control.exit_info1 & 0xf;
    RegisterAccess {
        register: (control.exit_code & 0xf) as u8,
        write: control.exit_code & 0x10 != 0,
        general: (assisted != 0).then_some(assisted as u8),
    }
}

fn control_register(control: &Control) -> Exit {
    let access = register_access(control);
    Exit::Control(if control.exit_info1 & WAS_MOV == 0 {
        ControlAccess::Undecoded {
            register: access.register,
            write: access.write,
        }
    } else {
        ControlAccess::Move(RegisterAccess {
            general: Some((control.exit_info1 & 0xf) as u8),
            ..access
        })
    })
}

/// AMD APM volume 2, "Exception Intercepts": the error code is in the first
/// word, the address of a page fault in the second.
fn exception(control: &Control) -> Exit {
    let vector = (control.exit_code & 0x1f) as u8;
    let has_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
    Exit::Exception {
        event: Event {
            kind: EventType::Exception,
            vector,
            error: has_code.then_some(control.exit_info1 as u32),
        },
        detail: control.exit_info2,
    }
}

/// AMD APM volume 2, "IOIO Intercept": the first word describes the access,
/// the second is the RIP of the next instruction.
fn port(control: &Control, registers: &Registers) -> Exit {
    let word = control.exit_info1;
    let size = match word >> 4 & 7 {
        1 => 1,
        2 => 2,
        4 => 4,
        _ => {
            return Exit::Other {
                reason: code::IO,
                detail: word,
            };
        }
    };
    Exit::Port(PortAccess {
        port: (word >> 16) as u16,
        size,
        input: word & 1 != 0,
        string: word & (1 << 2) != 0,
        repeat: word & (1 << 3) != 0,
        segment: None,
        value: registers.rax as u32,
        next: Some(control.exit_info2),
    })
}

/// AMD APM volume 2, "Task Switch Intercept".
fn task_switch(control: &Control) -> Exit {
    let word = control.exit_info2;
    let has_error = word & (1 << 44) != 0;
    let source = if word & (1 << 36) != 0 {
        TaskSource::Iret
    } else if word & (1 << 38) != 0 {
        TaskSource::Jump
    } else if Event::from_words(control.exit_event as u32, 0).is_some() {
        TaskSource::Gate
    } else {
        TaskSource::Call
    };
    Exit::TaskSwitch(TaskSwitch {
        selector: control.exit_info1 as u16,
        source,
        error: has_error.then_some(word as u32),
    })
}

/// AMD APM volume 2, "Nested versus Guest Page Faults, Fault Ordering".
fn nested_fault(control: &Control) -> Exit {
    let word = control.exit_info1;
    Exit::NestedFault(NestedFault {
        gpa: Gpa(control.exit_info2),
        gva: None,
        access: Access {
            write: word & (1 << 1) != 0,
            fetch: word & (1 << 4) != 0,
        },
        walk: word & (1 << 33) != 0,
    })
}

#[cfg(test)]
mod tests;
