//! Control registers, EFER and RFLAGS. Bit names are the manuals'.
//! Intel SDM volume 3, "Control Registers"; AMD APM volume 2, "System-Control
//! Registers".

use bitflags::bitflags;

/// DR6 after reset and INIT.
pub const DR6_RESET: u64 = 0xffff_0ff0;
/// DR7 after reset and INIT.
pub const DR7_RESET: u64 = 0x400;

bitflags! {
    /// CR0.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cr0: u64 {
        /// Protection enable.
        const PE = 1 << 0;
        /// Monitor coprocessor.
        const MP = 1 << 1;
        /// No coprocessor.
        const EM = 1 << 2;
        /// Task switched.
        const TS = 1 << 3;
        /// Numeric error.
        const NE = 1 << 5;
        /// Write protect.
        const WP = 1 << 16;
        /// Alignment mask: with RFLAGS.AC a user's accesses must be aligned.
        const AM = 1 << 18;
        /// Not write-through.
        const NW = 1 << 29;
        /// Cache disable.
        const CD = 1 << 30;
        /// Paging.
        const PG = 1 << 31;
        const _ = !0;
    }

    /// CR4.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cr4: u64 {
        /// Virtual-8086 mode extensions.
        const VME = 1 << 0;
        /// Protected-mode virtual interrupts.
        const PVI = 1 << 1;
        /// Time-stamp disable.
        const TSD = 1 << 2;
        /// Debugging extensions.
        const DE = 1 << 3;
        /// Page-size extensions.
        const PSE = 1 << 4;
        /// Physical-address extension.
        const PAE = 1 << 5;
        /// Machine-check enable.
        const MCE = 1 << 6;
        /// Page-global enable.
        const PGE = 1 << 7;
        /// Performance-counter enable.
        const PCE = 1 << 8;
        /// FXSAVE and FXRSTOR.
        const OSFXSR = 1 << 9;
        /// Unmasked SIMD exceptions.
        const OSXMMEXCPT = 1 << 10;
        /// User-mode instruction prevention.
        const UMIP = 1 << 11;
        /// 5-level paging.
        const LA57 = 1 << 12;
        /// VMX enable.
        const VMXE = 1 << 13;
        /// RDFSBASE and its like.
        const FSGSBASE = 1 << 16;
        /// Process-context identifiers.
        const PCIDE = 1 << 17;
        /// XSAVE and extended states.
        const OSXSAVE = 1 << 18;
        /// Supervisor-mode execution prevention.
        const SMEP = 1 << 20;
        /// Supervisor-mode access prevention.
        const SMAP = 1 << 21;
        /// Protection keys for user pages.
        const PKE = 1 << 22;
        /// Control-flow enforcement.
        const CET = 1 << 23;
        const _ = !0;
    }

    /// IA32_EFER.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Efer: u64 {
        /// SYSCALL enable.
        const SCE = 1 << 0;
        /// Long-mode enable.
        const LME = 1 << 8;
        /// Long mode active.
        const LMA = 1 << 10;
        /// No-execute enable.
        const NXE = 1 << 11;
        /// SVM enable (AMD).
        const SVME = 1 << 12;
        const _ = !0;
    }

    /// RFLAGS.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rflags: u64 {
        /// Carry.
        const CF = 1 << 0;
        /// Always 1.
        const FIXED = 1 << 1;
        /// Parity of the low byte.
        const PF = 1 << 2;
        /// Carry out of the low four bits.
        const AF = 1 << 4;
        /// Zero.
        const ZF = 1 << 6;
        /// Sign.
        const SF = 1 << 7;
        /// Trap: single step.
        const TF = 1 << 8;
        /// Interrupt enable.
        const IF = 1 << 9;
        /// String instructions go downwards.
        const DF = 1 << 10;
        /// Overflow.
        const OF = 1 << 11;
        /// Nested task: IRET goes back to the task that the link names.
        const NT = 1 << 14;
        /// Resume: no instruction breakpoint on the next instruction.
        const RF = 1 << 16;
        /// Virtual-8086 mode.
        const VM = 1 << 17;
        /// Alignment check; with SMAP: supervisor may touch user pages.
        const AC = 1 << 18;
        const _ = !0;
    }
}

/// Bits of DR7 that every task switch clears: the local enables. Intel SDM
/// volume 3, "Debug Control Register (DR7)".
pub const DR7_LOCAL: u64 = 0x155;
/// Bit of DR6: a task with the debug trap flag begins. Intel SDM volume 3,
/// "Debug Status Register (DR6)".
pub const DR6_TASK_SWITCH: u64 = 1 << 15;

impl Cr4 {
    /// Bits of a linear address in 64-bit mode.
    pub const fn linear_bits(self) -> u32 {
        if self.contains(Self::LA57) { 57 } else { 48 }
    }
}

/// Extended states, as in XCR0 and IA32_XSS, of hidden features: processor
/// trace, CET, user interrupts, architectural last-branch records. A guest that
/// could enable one could load its registers by XRSTORS.
pub const HIDDEN_STATES: u32 = 1 << 8 | 1 << 11 | 1 << 12 | 1 << 14 | 1 << 15;

/// The bits of CR4 that every 64-bit CPU has.
pub const COMMON_CR4: Cr4 = Cr4::VME
    .union(Cr4::PVI)
    .union(Cr4::TSD)
    .union(Cr4::DE)
    .union(Cr4::PSE)
    .union(Cr4::PAE)
    .union(Cr4::MCE)
    .union(Cr4::PGE)
    .union(Cr4::PCE)
    .union(Cr4::OSFXSR)
    .union(Cr4::OSXMMEXCPT);

/// The bits of CR4 that a guest may own. A bit that is not here belongs to a
/// feature that would need the hypervisor's help (VMX, SMX, CET, protection
/// keys for supervisor pages, user interrupts, LASS, LAM, FRED) and is hidden.
pub const GUEST_CR4: Cr4 = COMMON_CR4
    .union(Cr4::UMIP)
    .union(Cr4::LA57)
    .union(Cr4::FSGSBASE)
    .union(Cr4::PCIDE)
    .union(Cr4::OSXSAVE)
    .union(Cr4::SMEP)
    .union(Cr4::SMAP)
    .union(Cr4::PKE);
