//! The ways down: what carries a call to the hypervisor.

use crate::call::{self, Instruction, Reply};
use abi::token::Token;
use core::fmt;

/// A way down. The one place that knows how a call leaves this program.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// The instruction, executed by this program, with a token in R8 and R9.
    Instruction(Instruction, Token),
    /// Nothing: somebody answers on the desk.
    #[cfg(test)]
    Desk(fn(u64, [u64; 5]) -> Reply),
}

impl Way {
    /// The same, for the owner whose token this is.
    pub(crate) fn with_token(self, token: Token) -> Self {
        match self {
            Self::Instruction(instruction, _) => Self::Instruction(instruction, token),
            #[cfg(test)]
            desk => desk,
        }
    }

    /// Carries a call down and its reply up.
    ///
    /// # Safety
    ///
    /// As for [`call::call`].
    pub(crate) unsafe fn carry(self, number: u64, arguments: [u64; 5]) -> Reply {
        match self {
            // SAFETY: the caller's contract is the same.
            Self::Instruction(instruction, token) => unsafe {
                call::call(instruction, token, number, arguments)
            },
            #[cfg(test)]
            Self::Desk(answer) => answer(number, arguments),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instruction(instruction, Token::NONE) => instruction.fmt(f),
            Self::Instruction(instruction, _) => write!(f, "{instruction} with the owner token"),
            #[cfg(test)]
            Self::Desk(_) => f.write_str("desk"),
        }
    }
}
