//! What a vCPU needs its program for.

use abi::child::{exit as flags, kind};
use abi::record::VmExit;

/// One exit. Those that read want an answer, by [`crate::Vcpu::answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// IN, OUT, INS or OUTS: the address is the port.
    Port(Access),
    /// An access to memory that was not mapped.
    Memory(Access),
    /// The call instruction. The answer is RAX.
    Call(Call),
    /// CPUID, where it was asked for.
    Cpuid(Cpuid),
    /// RDMSR or WRMSR, where it was asked for.
    Msr(Msr),
    /// HLT: the vCPU waits for an interrupt.
    Halt,
    /// It shut down, as by a triple fault.
    Shutdown,
    /// This CPU was wanted for something else.
    Interrupted,
    /// It can take an interrupt, which was waited for.
    Window,
    /// The event that was to be raised could not be, and it did not go on.
    NotRaised,
    /// The CPU refuses its registers; Underlay's log says why.
    EntryFailed {
        /// What kind of refusal it is.
        reason: u64,
        /// What the CPU says beside.
        detail: u64,
    },
    /// Anything else.
    Other {
        /// Underlay's number for it, or an address that could not be reached.
        reason: u64,
        /// What there is to say beside.
        detail: u64,
    },
}

/// An access to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The port or the child's physical address.
    pub address: u64,
    /// Bytes: 1, 2, 4 or 8.
    pub size: u32,
    /// What is written; None if it is read.
    pub written: Option<u64>,
    /// It is of a string instruction, whose parts come one by one.
    pub string: bool,
}

/// A call of the child's: its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// RAX.
    pub number: u64,
    /// RBX, RCX, RDX, RSI, RDI.
    pub arguments: [u64; 5],
}

/// CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// EAX.
    pub leaf: u32,
    /// ECX.
    pub subleaf: u32,
    /// EAX, EBX, ECX and EDX as Underlay would have answered: what the CPU says,
    /// without what no VM has.
    pub offer: [u32; 4],
}

/// RDMSR or WRMSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msr {
    /// Its number.
    pub number: u32,
    /// What is written; None if it is read.
    pub written: Option<u64>,
}

impl From<&VmExit> for Exit {
    fn from(record: &VmExit) -> Self {
        let has = |flag| record.flags & flag != 0;
        let written = (!has(flags::READ)).then_some(record.data);
        let access = |address| Access {
            address,
            size: record.size,
            written,
            string: has(flags::STRING),
        };
        let (reason, detail) = (record.address, record.data);
        match record.kind {
            kind::PORT => Self::Port(access(record.port.into())),
            kind::MEMORY => Self::Memory(access(record.address)),
            kind::CALL => Self::Call(Call {
                number: record.data,
                arguments: record.values,
            }),
            kind::CPUID => Self::Cpuid(Cpuid {
                leaf: record.data as u32,
                subleaf: record.values[0] as u32,
                offer: std::array::from_fn(|number| record.values[number + 1] as u32),
            }),
            kind::MSR => Self::Msr(Msr {
                number: record.port,
                written,
            }),
            kind::HALT => Self::Halt,
            kind::SHUTDOWN => Self::Shutdown,
            kind::INTERRUPTED if has(flags::NOT_RAISED) => Self::NotRaised,
            kind::INTERRUPTED => Self::Interrupted,
            kind::WINDOW => Self::Window,
            kind::ENTRY_FAILED => Self::EntryFailed { reason, detail },
            _ => Self::Other { reason, detail },
        }
    }
}
