//! The numbers in the records of children: kinds of exits, flags, rights. See
//! [`crate::record::VmEntry`] and [`crate::record::VmExit`].

/// The longest name of a child, in bytes.
pub const NAME_MAX: usize = 32;
/// How many children there can be.
pub const CHILDREN_MAX: usize = 8;
/// How many vCPUs a child can have.
pub const VCPUS_MAX: usize = 8;
/// What `vm_memory` gives, in bytes, and what it is a multiple of.
pub const PIECE: u64 = 2 << 20;
/// The most that one call of `vm_map` does, in bytes.
pub const MAP_MAX: u64 = 2 << 20;
/// Where in a page of `vm_records` the exit lies; the entry lies at its beginning.
pub const EXIT_OFFSET: u64 = 2048;
/// Handles have this bit set, numbers have not.
pub const HANDLE: u64 = 1 << 62;

/// Rights of `vm_map`.
pub mod rights {
    /// The child may read.
    pub const READ: u64 = 1;
    /// It may write.
    pub const WRITE: u64 = 2;
    /// It may execute.
    pub const EXECUTE: u64 = 4;
}

/// Kinds of exits.
pub mod kind {
    /// IN, OUT, INS or OUTS.
    pub const PORT: u32 = 1;
    /// An access to memory that the child does not see.
    pub const MEMORY: u32 = 2;
    /// The call instruction.
    pub const CALL: u32 = 3;
    /// CPUID, if the program asked for it.
    pub const CPUID: u32 = 4;
    /// RDMSR or WRMSR, if the program asked for it.
    pub const MSR: u32 = 5;
    /// HLT. The vCPU is behind it.
    pub const HALT: u32 = 6;
    /// A triple fault: the vCPU cannot go on before its registers are set.
    pub const SHUTDOWN: u32 = 7;
    /// The CPU is wanted for something else.
    pub const INTERRUPTED: u32 = 8;
    /// The vCPU can take an interrupt, which the program waited for.
    pub const WINDOW: u32 = 9;
    /// The CPU refuses the vCPU's registers.
    pub const ENTRY_FAILED: u32 = 10;
    /// What nobody knows what to do with.
    pub const OTHER: u32 = 11;
}

/// Flags of an exit.
pub mod exit {
    /// It reads, and wants an answer.
    pub const READ: u32 = 1;
    /// Of a string instruction.
    pub const STRING: u32 = 2;
    /// Of a repeated one.
    pub const REPEATED: u32 = 4;
    /// The vCPU can take an interrupt now.
    pub const INTERRUPTIBLE: u32 = 8;
    /// An event is due already.
    pub const EVENT_DUE: u32 = 16;
    /// The event of the entry could not be raised, and the vCPU did not go on.
    pub const NOT_RAISED: u32 = 32;
}

/// Flags of an entry.
pub mod entry {
    /// The last exit is answered.
    pub const ANSWER: u32 = 1;
    /// It is answered by a general-protection fault.
    pub const FAULT: u32 = 2;
    /// An event is raised.
    pub const EVENT: u32 = 4;
    /// An exit comes when an interrupt can be taken.
    pub const WINDOW: u32 = 8;
    /// CPUID exits.
    pub const CPUID: u32 = 16;
    /// MSRs that the child may not use exit.
    pub const MSRS: u32 = 32;
    /// The vCPU does not go on.
    pub const RETURN: u32 = 64;
    /// All of them.
    pub const ALL: u32 = 127;
}
