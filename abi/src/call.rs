//! A call: RAX holds the service's number, RBX, RCX, RDX, RSI and RDI its
//! arguments 1 to 5; the same registers return its results and all others are
//! preserved. Outside 64-bit mode the low 32 bits count.
//!
//! Number 0 and the registers are the convention of BitVisor's VMM calls, so
//! that clients written for those work unchanged.

mod services;

pub use services::*;

/// Version of the call interface, as CPUID and `ping` report it.
pub const VERSION: u32 = 1;

/// Added to a service's number: a memory argument that is not accessible raises
/// the exception of an ordinary access, as it always does for programs, instead
/// of being an error, as it else is for a kernel.
pub const MAY_FAULT: u64 = 1 << 31;

/// Added to a service's number by a kernel that calls in a program's name: the
/// call reaches the memory that a program at privilege level 3 reaches, and may
/// do what the owner may. What is the kernel's alone is refused, for it outlives
/// the program.
pub const AS_PROGRAM: u64 = 1 << 30;

/// The most bytes of a buffer that one call uses; of a longer one it uses the
/// beginning, and says how much that was.
pub const TRANSFER_MAX: usize = 64 << 10;

/// The most bytes of a line that a guest writes into the log.
pub const LOG_TEXT_MAX: usize = 200;

/// The most bytes of a line of the debug shell.
pub const SHELL_LINE_MAX: usize = 120;

/// The most bytes of text that one call of the debug shell returns.
pub const SHELL_TEXT_MAX: usize = 4096;

/// The most bytes of a buffer into which the log is copied as it grows.
pub const LOG_BUFFER_MAX: u64 = 1 << 20;

/// The longest name of a service, in bytes, without the NUL.
pub const NAME_MAX: usize = 255;

/// Who may call a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Any program at any privilege level.
    Any,
    /// Code that runs at privilege level 0.
    Kernel,
    /// Privilege level 0, or any level with the owner token.
    Owner,
    /// The owner, and any program if the config says `compat = bitvisor`:
    /// clients that were written for BitVisor know no token.
    Compat,
}

impl Who {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Kernel => "kernel",
            Self::Owner => "owner",
            Self::Compat => "compat",
        }
    }
}

/// What an argument or a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number, as its sentence says.
    Number,
    /// A count of bytes.
    Bytes,
    /// A linear address, which is used with the caller's own rights.
    Gva,
    /// A guest-physical address.
    Gpa,
}

impl Kind {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Bytes => "bytes",
            Self::Gva => "gva",
            Self::Gpa => "gpa",
        }
    }
}

/// An argument or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it means.
    pub sentence: &'static str,
}

/// The registers of arguments, in their order.
pub const ARGUMENTS: [&str; 5] = ["RBX", "RCX", "RDX", "RSI", "RDI"];
/// The registers of results, in their order.
pub const RESULTS: [&str; 6] = ["RAX", "RBX", "RCX", "RDX", "RSI", "RDI"];

/// What a client may know of a service before it calls it.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The fixed number; never given to another service.
    pub number: u64,
    /// The name that `resolve` knows.
    pub name: &'static str,
    /// Who may call it.
    pub who: Who,
    /// What it does, in one sentence.
    pub sentence: &'static str,
    /// What it takes, in the order of [`ARGUMENTS`].
    pub arguments: &'static [Value],
    /// What it returns when it succeeds, in the order of [`RESULTS`]; registers
    /// behind the last one are preserved.
    pub results: &'static [Value],
}
