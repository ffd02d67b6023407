//! Exceptions as a guest receives them.

/// An exception to be raised in the guest, with what is pushed or loaded.
/// Intel SDM volume 3, "Exception and Interrupt Reference".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #DB, vector 1: a debug trap. DR6 is written by who injects.
    Debug,
    /// #UD, vector 6: the instruction does not exist here.
    InvalidOpcode,
    /// #TS, vector 10, with its error code.
    InvalidTaskState(u32),
    /// #GP, vector 13, with its error code.
    GeneralProtection(u32),
    /// #PF, vector 14.
    PageFault {
        /// The linear address that goes to CR2.
        address: u64,
        /// The error code, see [`page_fault`].
        code: u32,
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
    /// The vector.
    pub const fn vector(self) -> u8 {
        match self {
            Self::Debug => 1,
            Self::InvalidOpcode => 6,
            Self::InvalidTaskState(_) => 10,
            Self::GeneralProtection(_) => 13,
            Self::PageFault { .. } => 14,
        }
    }

    /// The error code that is pushed, where one is.
    pub const fn error_code(self) -> Option<u32> {
        match self {
            Self::Debug | Self::InvalidOpcode => None,
            Self::InvalidTaskState(code) | Self::GeneralProtection(code) => Some(code),
            Self::PageFault { code, .. } => Some(code),
        }
    }
}

/// How VT-x (VM-entry interruption information, IDT-vectoring information) and
/// AMD-V (EVENTINJ, EXITINTINFO) encode an event: the two agree on the low 12
/// bits and on the valid bit.
pub mod event {
    use super::Exception;

    /// The event is there.
    pub const VALID: u32 = 1 << 31;
    /// An error code comes with it.
    pub const ERROR_CODE: u32 = 1 << 11;
    /// Type: non-maskable interrupt.
    pub const TYPE_NMI: u32 = 2 << 8;
    /// Type: hardware exception.
    pub const TYPE_EXCEPTION: u32 = 3 << 8;
    /// All bits of the type.
    pub const TYPE_MASK: u32 = 7 << 8;

    /// The word that injects an NMI.
    pub const NMI: u32 = VALID | TYPE_NMI | 2;

    /// The word that injects `exception`; the error code goes beside it. In
    /// real mode (`protected` is false) none is pushed, and a VM entry that
    /// asks for one fails. Intel SDM volume 3, "Checks on VM-Entry Control
    /// Fields".
    pub const fn word(exception: Exception, protected: bool) -> u32 {
        let code = match exception.error_code() {
            Some(_) if protected => ERROR_CODE,
            _ => 0,
        };
        VALID | TYPE_EXCEPTION | code | exception.vector() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_mode_has_no_error_codes() {
        let fault = Exception::GeneralProtection(0);
        assert_eq!(event::word(fault, true), 0x8000_0b0d);
        assert_eq!(event::word(fault, false), 0x8000_030d);
        assert_eq!(event::word(Exception::InvalidOpcode, true), 0x8000_0306);
    }
}
