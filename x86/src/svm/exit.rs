//! Decoding of AMD-V exits: EXITCODE and its two words into [`Exit`]. AMD APM
//! volume 2, appendix "SVM Intercept Exit Codes".

use super::vmcb::Control;
use crate::exit::{Access, EntryFailure, Exit, NestedFault};
use crate::{Gpa, Registers};

/// Exit codes.
#[allow(missing_docs)]
pub mod code {
    pub const NMI: u64 = 0x61;
    pub const INIT: u64 = 0x63;
    pub const CPUID: u64 = 0x72;
    pub const INVD: u64 = 0x76;
    pub const INVLPGA: u64 = 0x7a;
    pub const MSR: u64 = 0x7c;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMRUN: u64 = 0x80;
    pub const VMMCALL: u64 = 0x81;
    pub const VMLOAD: u64 = 0x82;
    pub const SKINIT: u64 = 0x86;
    pub const NESTED_FAULT: u64 = 0x400;
    pub const INVALID: u64 = u64::MAX;
    /// The same from QEMU 7.2, which writes only half of it.
    pub const INVALID_32: u64 = 0xffff_ffff;
}

/// The exit that just happened.
#[inline]
pub fn decode(control: &Control, registers: &Registers) -> Exit {
    match control.exit_code {
        code::CPUID => Exit::Cpuid {
            leaf: registers.rax as u32,
            subleaf: registers.rcx as u32,
        },
        code::VMMCALL => Exit::Hypercall,
        code::MSR if control.exit_info1 == 0 => Exit::ReadMsr {
            number: registers.rcx as u32,
        },
        code::MSR => Exit::WriteMsr {
            number: registers.rcx as u32,
            value: registers.edx_eax(),
        },
        code::NESTED_FAULT => nested_fault(control),
        _ => decode_rare(control),
    }
}

#[cold]
fn decode_rare(control: &Control) -> Exit {
    match control.exit_code {
        code::NMI => Exit::Nmi,
        code::INIT => Exit::Init,
        code::INVD => Exit::InvalidateCaches,
        code::INVLPGA | code::VMRUN | code::VMLOAD..=code::SKINIT => Exit::Virtualisation,
        code::SHUTDOWN => Exit::TripleFault,
        code::INVALID | code::INVALID_32 => Exit::EntryFailed(EntryFailure::GuestState(0)),
        reason => Exit::Other {
            reason,
            detail: control.exit_info1,
        },
    }
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
mod tests {
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

    #[test]
    fn unknown_codes_survive() {
        for code in (0..0x500).chain([0x8000_0000, u64::MAX]) {
            if let Exit::Other { reason, .. } = decode(&control(code, 0, 0), &Registers::default())
            {
                assert_eq!(reason, code);
            }
        }
    }

    #[test]
    fn a_refused_entry_has_a_code_of_either_width() {
        for code in [u64::MAX, 0xffff_ffff] {
            let failed = decode(&control(code, 0, 0), &Registers::default());
            assert_eq!(failed, Exit::EntryFailed(EntryFailure::GuestState(0)));
        }
    }
}
