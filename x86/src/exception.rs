//! Exceptions as a guest receives them.

use crate::Event;

/// An exception to be raised in the guest, with what is pushed or loaded.
/// Intel SDM volume 3, "Exception and Interrupt Reference".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #DB, vector 1: a debug trap. DR6 is written by who injects.
    Debug,
    /// #UD, vector 6: the instruction does not exist here.
    InvalidOpcode,
    /// #NM, vector 7: no floating-point state is at hand.
    DeviceNotAvailable,
    /// #DF, vector 8: an exception in the delivery of another.
    DoubleFault,
    /// #TS, vector 10, with its error code.
    InvalidTaskState(u32),
    /// #NP, vector 11, with its error code.
    SegmentNotPresent(u32),
    /// #SS, vector 12, with its error code.
    StackFault(u32),
    /// #GP, vector 13, with its error code.
    GeneralProtection(u32),
    /// #PF, vector 14.
    PageFault {
        /// The linear address that goes to CR2.
        address: u64,
        /// The error code, see [`page_fault`].
        code: u32,
    },
    /// #AC, vector 17: a user's access is not aligned.
    AlignmentCheck,
    /// Any other.
    Other {
        /// The vector.
        vector: u8,
        /// The error code that is pushed, where one is.
        code: Option<u32>,
    },
}

/// Bits of the error code of #PF.
pub mod page_fault {
    /// The page was present: a right was missing.
    pub const PRESENT: u32 = 1 << 0;
    /// The access was a write.
    pub const WRITE: u32 = 1 << 1;
    /// The access was made at user privilege.
    pub const USER: u32 = 1 << 2;
    /// A reserved bit was set in an entry.
    pub const RESERVED: u32 = 1 << 3;
    /// The access was an instruction fetch.
    pub const FETCH: u32 = 1 << 4;
    /// A protection key forbade the access.
    pub const KEY: u32 = 1 << 5;
}

impl Exception {
    /// The same, raised in the delivery of an event that the running program
    /// did not ask for: error codes that hold a selector say so in bit 0, EXT.
    /// Intel SDM volume 3, "Error Code".
    pub const fn external(self) -> Self {
        match self {
            Self::InvalidTaskState(code) => Self::InvalidTaskState(code | 1),
            Self::SegmentNotPresent(code) => Self::SegmentNotPresent(code | 1),
            Self::StackFault(code) => Self::StackFault(code | 1),
            Self::GeneralProtection(code) => Self::GeneralProtection(code | 1),
            other => other,
        }
    }

    /// The exception that `event` is, where `detail` is CR2 if it is #PF.
    pub const fn from_event(event: Event, detail: u64) -> Self {
        match (event.vector, event.error) {
            (14, Some(code)) => Self::PageFault {
                address: detail,
                code,
            },
            (vector, code) => Self::Other { vector, code },
        }
    }

    /// The vector.
    pub const fn vector(self) -> u8 {
        match self {
            Self::Debug => 1,
            Self::InvalidOpcode => 6,
            Self::DeviceNotAvailable => 7,
            Self::DoubleFault => 8,
            Self::InvalidTaskState(_) => 10,
            Self::SegmentNotPresent(_) => 11,
            Self::StackFault(_) => 12,
            Self::GeneralProtection(_) => 13,
            Self::PageFault { .. } => 14,
            Self::AlignmentCheck => 17,
            Self::Other { vector, .. } => vector,
        }
    }

    /// The error code that is pushed, where one is.
    pub const fn error_code(self) -> Option<u32> {
        match self {
            Self::Debug | Self::InvalidOpcode | Self::DeviceNotAvailable => None,
            Self::DoubleFault | Self::AlignmentCheck => Some(0),
            Self::InvalidTaskState(code)
            | Self::SegmentNotPresent(code)
            | Self::StackFault(code)
            | Self::GeneralProtection(code)
            | Self::PageFault { code, .. } => Some(code),
            Self::Other { code, .. } => code,
        }
    }
}
