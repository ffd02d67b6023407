//! A call: RAX holds the service's number, RBX, RCX, RDX, RSI and RDI its
//! arguments 1 to 5; the same registers return its results and all others are
//! preserved. Outside 64-bit mode the low 32 bits count.
//!
//! Number 0 and the registers are the convention of BitVisor's VMM calls, so
//! that clients written for those work unchanged.

/// Version of the call interface, as CPUID and `ping` report it.
pub const VERSION: u32 = 1;

/// `resolve`: RBX = gva of a NUL-terminated name; RAX = the service's number,
/// or 0 if there is no such service.
pub const RESOLVE: u64 = 0;
/// `ping`: RAX = [`VERSION`].
pub const PING: u64 = 1;
/// `hello`: writes a logo and a greeting to the log; RAX = greetings so far.
pub const HELLO: u64 = 2;
/// `print`: prints the byte in RBX to the log, which shows whole lines; RAX =
/// 0. Offered where `print = on`.
pub const PRINT: u64 = 3;
/// `statistics`: writes what this CPU's exits cost to the log, as lines of
/// [`crate::report`].
pub const STATISTICS: u64 = 4;
/// `trace`: RBX = 0 stops tracing this CPU's exits, 1 starts it, 2 writes some
/// of the records to the log's port, as lines of [`crate::report`]; RAX = how
/// many are still to be written. Not permitted unless the config asks for a
/// trace.
pub const TRACE: u64 = 5;

/// Added to a service's number: a memory argument that is not accessible raises
/// the exception of an ordinary access, as it always does for programs, instead
/// of being an error, as it else is for a kernel.
pub const MAY_FAULT: u64 = 1 << 31;

/// The most bytes of a buffer that one call uses; of a longer one it uses the
/// beginning, and says how much that was.
pub const TRANSFER_MAX: usize = 64 << 10;

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
}

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
}

/// Every service of this version, in the order of their numbers.
pub const SERVICES: &[Service] = &[
    Service {
        number: RESOLVE,
        name: "resolve",
        who: Who::Any,
        sentence: "gives the number of the service whose name RBX points at",
    },
    Service {
        number: PING,
        name: "ping",
        who: Who::Any,
        sentence: "returns the version of the call interface",
    },
    Service {
        number: HELLO,
        name: "hello",
        who: Who::Any,
        sentence: "writes a logo and a greeting to the log and counts the greetings",
    },
    Service {
        number: PRINT,
        name: "print",
        who: Who::Any,
        sentence: "prints the byte in RBX to the log, if the config says print = on",
    },
    Service {
        number: STATISTICS,
        name: "statistics",
        who: Who::Any,
        sentence: "writes to the log how many exits of each kind there were and what they took",
    },
    Service {
        number: TRACE,
        name: "trace",
        who: Who::Any,
        sentence: "stops (RBX 0), starts (1) or writes out (2) the trace that the config asks for",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_numbers_are_their_rows_and_names_are_unique() {
        for (row, service) in SERVICES.iter().enumerate() {
            assert_eq!(service.number, row as u64);
            assert!(service.name.len() <= NAME_MAX);
            let same_name = SERVICES.iter().filter(|s| s.name == service.name);
            assert_eq!(same_name.count(), 1, "{}", service.name);
        }
    }
}
