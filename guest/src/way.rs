//! The ways down: what carries a call to the hypervisor.

use crate::call::{self, Instruction, Reply};
use abi::token::Token;
use core::fmt;

#[cfg(all(feature = "std", target_os = "linux"))]
use crate::device::Device;

/// A way down. The one place that knows how a call leaves this program.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// The instruction, executed by this program, with a token in R8 and R9.
    Instruction(Instruction, Token),
    /// The Linux module's device, which needs no token.
    #[cfg(all(feature = "std", target_os = "linux"))]
    Device(&'static Device),
    /// Nothing: somebody answers on the desk.
    #[cfg(test)]
    Desk(fn(u64, [u64; 5]) -> Reply),
}

impl Way {
    /// The same, for the owner whose token this is, where one is needed.
    pub(crate) fn with_token(self, token: Token) -> Self {
        match self {
            Self::Instruction(instruction, _) => Self::Instruction(instruction, token),
            #[cfg(all(feature = "std", target_os = "linux"))]
            Self::Device(_) => self,
            #[cfg(test)]
            Self::Desk(_) => self,
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
            #[cfg(all(feature = "std", target_os = "linux"))]
            // SAFETY: the caller's contract is the same.
            Self::Device(device) => unsafe { by_device(device, number, arguments) },
            #[cfg(test)]
            Self::Desk(answer) => answer(number, arguments),
        }
    }
}

/// What the device itself has to say is an errno like that of a call.
///
/// # Safety
///
/// As for [`Device::call`].
#[cfg(all(feature = "std", target_os = "linux"))]
unsafe fn by_device(device: &Device, number: u64, arguments: [u64; 5]) -> Reply {
    // SAFETY: the caller's contract is the same.
    let reply = unsafe { device.call(number, arguments) };
    reply.unwrap_or_else(|error| Reply {
        rax: i64::from(error.raw_os_error().unwrap_or(libc::EIO)).wrapping_neg() as u64,
        results: [0; 5],
    })
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instruction(instruction, Token::NONE) => instruction.fmt(f),
            Self::Instruction(instruction, _) => write!(f, "{instruction} with the owner token"),
            #[cfg(all(feature = "std", target_os = "linux"))]
            Self::Device(_) => f.write_str(abi::device::PATH),
            #[cfg(test)]
            Self::Desk(_) => f.write_str("desk"),
        }
    }
}
