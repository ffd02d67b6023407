//! Decoding of VT-x exits: reason and qualification into [`Exit`]. Fields are
//! read only where the exit needs them. Intel SDM volume 3, appendix "VMX
//! Basic Exit Reasons" and "Information for VM Exits".

use super::field::{self, Fields};
use crate::exception::event;
use crate::exit::{Access, EntryFailure, Exit, NestedFault};
use crate::{Gpa, Gva, Registers};

/// In an exit reason: the guest was not entered.
pub const ENTRY_FAILED: u32 = 1 << 31;

/// Basic exit reasons.
#[allow(missing_docs)]
pub mod reason {
    pub const EXCEPTION_OR_NMI: u32 = 0;
    pub const TRIPLE_FAULT: u32 = 2;
    pub const INIT: u32 = 3;
    pub const STARTUP: u32 = 4;
    pub const NMI_WINDOW: u32 = 8;
    pub const TASK_SWITCH: u32 = 9;
    pub const CPUID: u32 = 10;
    pub const GETSEC: u32 = 11;
    pub const INVD: u32 = 13;
    pub const VMCALL: u32 = 18;
    pub const VMCLEAR: u32 = 19;
    pub const VMXON: u32 = 27;
    pub const CONTROL_REGISTER: u32 = 28;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const INVALID_GUEST_STATE: u32 = 33;
    pub const MSR_LOADING: u32 = 34;
    pub const MACHINE_CHECK: u32 = 41;
    pub const EPT_VIOLATION: u32 = 48;
    pub const INVEPT: u32 = 50;
    pub const INVVPID: u32 = 53;
    pub const XSETBV: u32 = 55;
    pub const SEAMCALL: u32 = 76;
    pub const TDCALL: u32 = 77;
    pub const RDMSR_IMMEDIATE: u32 = 84;
    pub const WRMSRNS_IMMEDIATE: u32 = 85;
}

/// Bits of the exit reason beside the basic one say more (that the CPU was in
/// an enclave, a pending MTF) and change nothing here, but for the highest.
const BASIC: u32 = 0xffff;

/// The exit that just happened, from its reason, the guest's registers and
/// whatever fields it needs.
#[inline]
pub fn decode(reason: u32, registers: &Registers, fields: &impl Fields) -> Exit {
    if reason & ENTRY_FAILED != 0 {
        return entry_failed(reason, fields);
    }
    match reason & BASIC {
        reason::CPUID => Exit::Cpuid {
            leaf: registers.rax as u32,
            subleaf: registers.rcx as u32,
        },
        reason::VMCALL => Exit::Hypercall,
        reason::RDMSR => Exit::ReadMsr {
            number: registers.rcx as u32,
        },
        reason::WRMSR => Exit::WriteMsr {
            number: registers.rcx as u32,
            value: registers.edx_eax(),
        },
        reason::EPT_VIOLATION => nested_fault(fields),
        basic => decode_rare(basic, registers, fields),
    }
}

#[cold]
fn decode_rare(reason: u32, registers: &Registers, fields: &impl Fields) -> Exit {
    match reason {
        reason::XSETBV => Exit::SetExtendedControl {
            index: registers.rcx as u32,
            value: registers.edx_eax(),
        },
        reason::CONTROL_REGISTER => control_register(registers, fields),
        reason::EXCEPTION_OR_NMI => exception(fields),
        reason::NMI_WINDOW => Exit::NmiWindow,
        reason::TRIPLE_FAULT => Exit::TripleFault,
        reason::INIT => Exit::Init,
        reason::STARTUP => Exit::Startup {
            vector: fields.read(field::EXIT_QUALIFICATION) as u8,
        },
        reason::TASK_SWITCH => Exit::TaskSwitch {
            selector: fields.read(field::EXIT_QUALIFICATION) as u16,
        },
        reason::INVD => Exit::InvalidateCaches,
        reason::GETSEC
        | reason::VMCLEAR..=reason::VMXON
        | reason::INVEPT
        | reason::INVVPID
        | reason::SEAMCALL
        | reason::TDCALL
        | reason::RDMSR_IMMEDIATE
        | reason::WRMSRNS_IMMEDIATE => Exit::Virtualisation,
        other => other_exit(other, fields),
    }
}

fn other_exit(reason: u32, fields: &impl Fields) -> Exit {
    Exit::Other {
        reason: u64::from(reason),
        detail: fields.read(field::EXIT_QUALIFICATION),
    }
}

#[cold]
fn entry_failed(reason: u32, fields: &impl Fields) -> Exit {
    let qualification = fields.read(field::EXIT_QUALIFICATION);
    Exit::EntryFailed(match reason & BASIC {
        reason::INVALID_GUEST_STATE => EntryFailure::GuestState(qualification),
        reason::MSR_LOADING => EntryFailure::MsrLoad(qualification),
        reason::MACHINE_CHECK => EntryFailure::MachineCheck,
        _ => return other_exit(reason, fields),
    })
}

fn exception(fields: &impl Fields) -> Exit {
    let word = fields.read(field::EXIT_EVENT);
    if word & event::TYPE_MASK == event::TYPE_NMI {
        return Exit::Nmi;
    }
    Exit::Other {
        reason: u64::from(reason::EXCEPTION_OR_NMI),
        detail: u64::from(word),
    }
}

/// Only MOV to CR0 or CR4 can exit: the masked bits are out of reach of CLTS
/// and LMSW, and CR3 and CR8 exits are off. Intel SDM volume 3, "Exit
/// Qualification for Control-Register Accesses".
fn control_register(registers: &Registers, fields: &impl Fields) -> Exit {
    let qualification = fields.read(field::EXIT_QUALIFICATION);
    let is_mov_to = qualification & 0x30 == 0;
    let source = (qualification >> 8 & 0xf) as u8;
    if !is_mov_to {
        return other_exit(reason::CONTROL_REGISTER, fields);
    }
    let value = match source {
        0 => registers.rax,
        1 => registers.rcx,
        2 => registers.rdx,
        3 => registers.rbx,
        4 => fields.read(field::GUEST_RSP),
        5 => registers.rbp,
        6 => registers.rsi,
        7 => registers.rdi,
        8 => registers.r8,
        9 => registers.r9,
        10 => registers.r10,
        11 => registers.r11,
        12 => registers.r12,
        13 => registers.r13,
        14 => registers.r14,
        _ => registers.r15,
    };
    Exit::WriteControl {
        register: (qualification & 0xf) as u8,
        value,
    }
}

/// Intel SDM volume 3, "Exit Qualification for EPT Violations".
fn nested_fault(fields: &impl Fields) -> Exit {
    let qualification = fields.read(field::EXIT_QUALIFICATION);
    let linear_valid = qualification & (1 << 7) != 0;
    let is_final_access = qualification & (1 << 8) != 0;
    Exit::NestedFault(NestedFault {
        gpa: Gpa(fields.read(field::GUEST_PHYSICAL_ADDRESS)),
        gva: linear_valid.then(|| Gva(fields.read(field::GUEST_LINEAR_ADDRESS))),
        access: Access {
            write: qualification & (1 << 1) != 0,
            fetch: qualification & (1 << 2) != 0,
        },
        walk: linear_valid && !is_final_access,
    })
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn mov_to_cr4_names_the_value_and_not_the_register_number() {
        let registers = Registers {
            rdx: 0x2020,
            ..Registers::default()
        };
        let fields = fake([(field::EXIT_QUALIFICATION.encoding(), 0x204)]);
        let exit = decode(reason::CONTROL_REGISTER, &registers, &fields);
        assert_eq!(
            exit,
            Exit::WriteControl {
                register: 4,
                value: 0x2020
            }
        );
    }

    #[test]
    fn mov_from_rsp_reads_the_guests_stack_pointer() {
        let fields = fake([
            (field::EXIT_QUALIFICATION.encoding(), 0x404),
            (field::GUEST_RSP.encoding(), 0x8_0000),
        ]);
        let exit = decode(reason::CONTROL_REGISTER, &Registers::default(), &fields);
        assert_eq!(
            exit,
            Exit::WriteControl {
                register: 4,
                value: 0x8_0000
            }
        );
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
        let fields = fake([(field::EXIT_EVENT.encoding(), u64::from(event::NMI))]);
        for flag in [26, 27, 28, 29] {
            let registers = Registers::default();
            assert_eq!(decode(1 << flag, &registers, &fields), Exit::Nmi);
            assert_eq!(decode(1 << flag | 18, &registers, &fields), Exit::Hypercall);
        }
    }

    #[test]
    fn instructions_of_hidden_features_are_unknown() {
        for reason in [
            11, 19, 20, 21, 22, 23, 24, 25, 26, 27, 50, 53, 76, 77, 84, 85,
        ] {
            let exit = decode(reason, &Registers::default(), &fake([]));
            assert_eq!(exit, Exit::Virtualisation, "reason {reason}");
        }
    }

    #[test]
    fn every_reason_decodes_and_unknown_ones_survive() {
        let fields = fake([(field::EXIT_QUALIFICATION.encoding(), 77)]);
        for reason in 0..=200 {
            let exit = decode(reason, &Registers::default(), &fields);
            if let Exit::Other { reason: kept, .. } = exit {
                assert_eq!(kept, u64::from(reason));
            }
        }
        assert_eq!(
            decode(12, &Registers::default(), &fields),
            Exit::Other {
                reason: 12,
                detail: 77
            }
        );
        assert_eq!(
            decode(33 | ENTRY_FAILED, &Registers::default(), &fields),
            Exit::EntryFailed(EntryFailure::GuestState(77))
        );
    }
}
