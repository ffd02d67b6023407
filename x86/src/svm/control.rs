//! Intercepts and control words of the VMCB. AMD APM volume 2, appendix
//! "Layout of VMCB", "VMCB Layout, Control Area".
#![allow(missing_docs)]

/// Intercept vector 3, at offset 0x0C.
pub mod intercept3 {
    pub const INTR: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 1;
    pub const INIT: u32 = 1 << 3;
    pub const INTERRUPT_WINDOW: u32 = 1 << 4;
    pub const RDPMC: u32 = 1 << 15;
    pub const CPUID: u32 = 1 << 18;
    pub const IRET: u32 = 1 << 20;
    pub const INVD: u32 = 1 << 22;
    pub const HLT: u32 = 1 << 24;
    pub const INVLPGA: u32 = 1 << 26;
    pub const IO: u32 = 1 << 27;
    pub const MSR: u32 = 1 << 28;
    pub const SHUTDOWN: u32 = 1 << 31;
}

/// Intercept vector 4, at offset 0x10.
pub mod intercept4 {
    pub const VMRUN: u32 = 1 << 0;
    pub const VMMCALL: u32 = 1 << 1;
    pub const VMLOAD: u32 = 1 << 2;
    pub const VMSAVE: u32 = 1 << 3;
    pub const STGI: u32 = 1 << 4;
    pub const CLGI: u32 = 1 << 5;
    pub const SKINIT: u32 = 1 << 6;
    pub const RDTSCP: u32 = 1 << 7;
    pub const WRITE_BACKS: u32 = 1 << 9;
    pub const MONITOR: u32 = 1 << 10;
    pub const MWAIT: u32 = 1 << 11;
    pub const RDPRU: u32 = 1 << 14;
}

/// Intercept vector 5, at offset 0x14.
pub mod intercept5 {
    pub const INVLPGB: u32 = 1 << 0;
    pub const INVLPGB_ILLEGAL: u32 = 1 << 1;
    pub const MCOMMIT: u32 = 1 << 3;
    pub const TLBSYNC: u32 = 1 << 4;
}

/// Virtual interrupt: one is pending, to be taken as soon as the guest can.
pub const VIRTUAL_INTERRUPT: u64 = 1 << 8;
/// Virtual interrupt: its priority is not compared.
pub const IGNORE_PRIORITY: u64 = 1 << 20;
/// Virtual interrupt: RFLAGS.IF and CR8 of the guest do not mask physical
/// interrupts.
pub const VIRTUAL_MASKING: u64 = 1 << 24;

/// TLB_CONTROL: nothing is flushed.
pub const TLB_KEEP: u8 = 0;
/// TLB_CONTROL: everything is flushed; the way without flush by ASID.
pub const TLB_FLUSH_ALL: u8 = 1;
/// TLB_CONTROL: this guest's translations are flushed.
pub const TLB_FLUSH_GUEST: u8 = 3;

/// Nested control: nested paging is on.
pub const NESTED_PAGING: u64 = 1 << 0;

/// Interrupt shadow: the guest is in one.
pub const INTERRUPT_SHADOW: u64 = 1 << 0;
