//! Whether this CPU's AMD-V has what Underlay needs, and which of the optional
//! parts it offers.

use crate::instructions::{cpuid, read_msr};
use abi::refusal::Refusal;
use x86::{cpuid, msr};

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Support {
    /// The VMCB tells where the next instruction is.
    pub next_rip: bool,
    /// One guest's translations can be flushed alone.
    pub flush_by_asid: bool,
    /// The VMCB tells the bytes of an instruction that faulted.
    pub decode_assists: bool,
}

impl Support {
    /// Whether the nested tables may have 1 GiB pages.
    pub fn gib_pages(&self) -> bool {
        crate::boot::has_gib_pages()
    }
}

/// Checks everything.
pub fn support() -> Result<Support, Refusal> {
    let extended = cpuid(0x8000_0000, 0).eax;
    let svm = cpuid(cpuid::AMD_FEATURES, 0).ecx & cpuid::AMD_ECX_SVM != 0;
    if extended < cpuid::SVM || !svm {
        return Err(Refusal::NoVirtualisation);
    }
    // SAFETY: a CPU with SVM has VM_CR.
    let vm_cr = unsafe { read_msr(msr::AMD_VM_CR) };
    if vm_cr & msr::VM_CR_SVMDIS != 0 {
        return Err(Refusal::SvmDisabled { value: vm_cr });
    }
    let features = cpuid(cpuid::SVM, 0).edx;
    if features & cpuid::SVM_EDX_NESTED_PAGING == 0 {
        return Err(Refusal::NoNestedPaging);
    }
    Ok(Support {
        next_rip: features & cpuid::SVM_EDX_NEXT_RIP != 0,
        flush_by_asid: features & cpuid::SVM_EDX_FLUSH_BY_ASID != 0,
        decode_assists: features & cpuid::SVM_EDX_DECODE_ASSISTS != 0,
    })
}
