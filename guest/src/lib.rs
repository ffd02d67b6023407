//! The client library of Underlay for programs in the guest, at any privilege
//! level: find the hypervisor beneath, call its services, understand its
//! answers.
//!
//! ```no_run
//! # #[cfg(all(feature = "std", target_os = "linux"))]
//! # fn look() -> Result<(), Box<dyn std::error::Error>> {
//! let underlay = underlay::Underlay::find()?; // asks CPUID; an error if there is none
//! println!("ABI version {}", underlay.ping()?);
//!
//! let owner = underlay.as_owner()?; // root, on Linux
//! let mut bytes = [0; 64];
//! let done = owner.memory_read_physical(&mut bytes, 0x10_0000)?;
//! println!("{:x?}", &bytes[..done]);
//! for exits in owner.exits(0)? {
//!     println!("{} {}", exits.kind.as_str(), exits.count);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every service of `abi::call::SERVICES` has a function of [`Underlay`] with
//! its name, safe where the compiler knows the memory that the service uses.
//! What is for the machine's owner needs a kernel, or root with
//! `Underlay::as_owner`.
//!
//! Without the feature `std` the library needs neither an operating system nor
//! memory of its own. With it, `probe` can try a call where nothing announced
//! itself, and survives the #UD of a CPU that knows no such instruction.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("calls are instructions of x86-64: build for an x86_64 target");

pub mod call;
#[cfg(all(feature = "std", target_os = "linux"))]
pub mod device;
pub mod discovery;
mod error;
#[cfg(all(feature = "std", target_os = "linux"))]
pub mod owner;
#[cfg(all(feature = "std", target_os = "linux"))]
pub mod probe;
pub mod records;
mod row;
pub mod services;
mod way;

pub use abi::Errno;
pub use abi::token::Token;
pub use call::{Failure, Instruction, Reply};
pub use discovery::NotPresent;
pub use error::Error;
pub use way::Way;

/// An Underlay that was found beneath this program.
///
/// Holding one is the proof that there is a way down, which is why the typed
/// calls are safe.
#[derive(Clone, Copy, Debug)]
pub struct Underlay {
    way: Way,
}

impl Underlay {
    /// Looks for Underlay in the CPUID leaves, executing nothing but CPUID.
    ///
    /// # Errors
    ///
    /// Why there is no Underlay to talk to. A hypervisor whose config says
    /// `presence = hidden` looks exactly like none.
    pub fn find() -> Result<Self, NotPresent> {
        discovery::find().map(Self::by)
    }

    fn by(instruction: Instruction) -> Self {
        Self {
            way: Way::Instruction(instruction, Token::NONE),
        }
    }

    /// The same, for calls that only the machine's owner may make, whose token
    /// this is.
    pub fn with_token(self, token: Token) -> Self {
        Self {
            way: self.way.with_token(token),
        }
    }

    /// How calls get down.
    pub fn way(self) -> Way {
        self.way
    }

    /// Calls any service by its number; for services that this library has no
    /// typed function for.
    ///
    /// # Safety
    ///
    /// Where the service takes addresses, they must name memory that it may
    /// read or write as its description says, as for a system call.
    pub unsafe fn call(self, number: u64, arguments: [u64; 5]) -> Reply {
        // SAFETY: `self` proves that there is a way; the caller answers for
        // the arguments.
        unsafe { self.way.carry(number, arguments) }
    }
}
