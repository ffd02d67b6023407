//! One call: an instruction, five arguments in registers, a reply in the same
//! registers. See `abi::call` for the convention.

use abi::Errno;
use abi::token::Token;
use core::arch::asm;
use core::fmt;

/// The instruction that leaves the guest; each CPU vendor has its own, and the
/// other vendor's raises #UD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Intel VT-x.
    Vmcall,
    /// AMD-V.
    Vmmcall,
}

impl Instruction {
    /// Its mnemonic in lower case, as options and output spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vmcall => "vmcall",
            Self::Vmmcall => "vmmcall",
        }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The six registers after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The service's result, or a negative errno.
    pub rax: u64,
    /// Results 1 to 5: RBX, RCX, RDX, RSI, RDI.
    pub results: [u64; 5],
}

impl Reply {
    /// RAX as a result. The last 4095 values are errors, as for a Linux system
    /// call.
    ///
    /// # Errors
    ///
    /// The error that RAX names.
    pub fn result(&self) -> Result<u64, Failure> {
        match self.rax as i64 {
            errno @ -4095..=-1 => Err(Errno::from_register(self.rax)
                .map_or(Failure::Unknown(errno.unsigned_abs()), Failure::Errno)),
            _ => Ok(self.rax),
        }
    }
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An error of the call interface.
    Errno(Errno),
    /// An errno that this version of the library has no word for.
    Unknown(u64),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => errno.fmt(f),
            Self::Unknown(errno) => write!(f, "errno {errno}"),
        }
    }
}

impl core::error::Error for Failure {}

/// Executes the call instruction, whatever is beneath, with `token` in R8 and
/// R9.
///
/// # Safety
///
/// The instruction must be one that the hypervisor beneath answers (else the
/// CPU raises #UD, which usually ends the program), and addresses among the
/// arguments must suit the service.
pub unsafe fn call(
    instruction: Instruction,
    token: Token,
    number: u64,
    arguments: [u64; 5],
) -> Reply {
    // SAFETY: the caller's contract is the same.
    unsafe {
        match instruction {
            Instruction::Vmcall => vmcall(token, number, arguments),
            Instruction::Vmmcall => vmmcall(token, number, arguments),
        }
    }
}

macro_rules! call_instruction {
    ($name:ident, $mnemonic:literal) => {
        unsafe fn $name(
            Token([r8, r9]): Token,
            number: u64,
            [mut rbx, rcx, rdx, rsi, rdi]: [u64; 5],
        ) -> Reply {
            let mut reply = Reply::default();
            let [_, out_rcx, out_rdx, out_rsi, out_rdi] = &mut reply.results;
            // LLVM keeps RBX to itself, so it is exchanged around the call.
            // SAFETY: by the caller's contract the instruction is answered. It
            // changes the six registers only, and memory as the service says.
            unsafe {
                asm!(
                    "xchg {rbx}, rbx",
                    $mnemonic,
                    "xchg {rbx}, rbx",
                    rbx = inout(reg) rbx,
                    inout("rax") number => reply.rax,
                    inout("rcx") rcx => *out_rcx,
                    inout("rdx") rdx => *out_rdx,
                    inout("rsi") rsi => *out_rsi,
                    inout("rdi") rdi => *out_rdi,
                    in("r8") r8,
                    in("r9") r9,
                    options(nostack, preserves_flags),
                );
            }
            reply.results[0] = rbx;
            reply
        }
    };
}
call_instruction!(vmcall, "vmcall");
call_instruction!(vmmcall, "vmmcall");

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(rax: i64) -> Reply {
        Reply {
            rax: rax as u64,
            results: [0; 5],
        }
    }

    #[test]
    fn negative_errno_values_are_failures_and_everything_else_is_a_result() {
        assert_eq!(reply(7).result(), Ok(7));
        assert_eq!(reply(-38).result(), Err(Failure::Errno(Errno::NoService)));
        assert_eq!(reply(-4095).result(), Err(Failure::Unknown(4095)));
        assert_eq!(reply(-4096).result(), Ok(-4096i64 as u64));
        assert_eq!(reply(i64::MIN).result(), Ok(1 << 63));
    }

    #[test]
    fn failures_read_as_words() {
        let failures = [Failure::Errno(Errno::NoService), Failure::Unknown(5)];
        let texts = failures.map(|failure| failure.to_string());
        assert_eq!(texts, ["no such service", "errno 5"]);
    }
}
