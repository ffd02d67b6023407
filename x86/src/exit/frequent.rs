//! Exits that guests cause often and that need nothing but registers: they are told
//! apart before anything of them is read.

use super::Exit;
use crate::Registers;

/// Which of them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frequent {
    /// CPUID.
    Cpuid,
    /// VMCALL or VMMCALL.
    Hypercall,
    /// RDMSR.
    ReadMsr,
}

impl Frequent {
    /// The exit, with what the guest has in its registers.
    #[inline(always)]
    pub fn exit(self, registers: &Registers) -> Exit {
        match self {
            Self::Cpuid => Exit::Cpuid {
                leaf: registers.rax as u32,
                subleaf: registers.rcx as u32,
            },
            Self::Hypercall => Exit::Hypercall,
            Self::ReadMsr => Exit::ReadMsr {
                number: registers.rcx as u32,
            },
        }
    }
}
