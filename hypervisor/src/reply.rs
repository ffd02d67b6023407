//! What a call that succeeded returns.

use x86::Registers;

/// The registers of the results; those that have none are preserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    rax: u64,
    rbx: Option<u64>,
    rcx: Option<u64>,
}

impl Reply {
    /// With a second result.
    pub fn rbx(self, value: u64) -> Self {
        Self {
            rbx: Some(value),
            ..self
        }
    }

    /// With a third.
    pub fn rcx(self, value: u64) -> Self {
        Self {
            rcx: Some(value),
            ..self
        }
    }

    /// Puts them into the registers.
    #[inline]
    pub fn apply(self, registers: &mut Registers) {
        registers.rax = self.rax;
        if let Some(value) = self.rbx {
            registers.rbx = value;
        }
        if let Some(value) = self.rcx {
            registers.rcx = value;
        }
    }
}

impl From<u64> for Reply {
    fn from(rax: u64) -> Self {
        Self {
            rax,
            rbx: None,
            rcx: None,
        }
    }
}
