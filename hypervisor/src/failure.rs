//! Why a call did not succeed, and who is told in which way.

use crate::caller::Caller;
use abi::Errno;
use machine::Unreachable;
use x86::walk::Denied;
use x86::{Exception, Gva};

/// Why a call did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The caller made a mistake.
    Refused(Errno),
    /// A memory argument is not accessible, and the caller is told so. The
    /// address is of the kind that the argument is.
    BadAddress(u64),
    /// A memory argument is not accessible, and the call raises what an
    /// ordinary instruction would have raised; it runs again afterwards.
    Fault(Exception),
}

impl Failure {
    /// A memory argument at `gva` was denied to `caller`: a program faults like
    /// any instruction of its own, so that its page can come in; a kernel gets
    /// an error unless it asked for the fault.
    pub fn denied<M>(caller: &Caller<M>, gva: Gva, denied: Denied) -> Self {
        if caller.faults {
            Self::Fault(denied.exception())
        } else {
            Self::BadAddress(gva.0)
        }
    }
}

/// A guest-physical argument is no memory of the guest's. No fault would help:
/// an ordinary instruction has no such operands.
impl From<Unreachable> for Failure {
    fn from(Unreachable(gpa): Unreachable) -> Self {
        Self::BadAddress(gpa.0)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}
