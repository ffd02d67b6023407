//! The client library of Underlay for programs in the guest, at any privilege
//! level: find the hypervisor beneath, call its services, understand its
//! answers.
//!
//! ```no_run
//! match underlay::Underlay::find() {
//!     Ok(underlay) => println!("ABI version {}", underlay.ping()?),
//!     Err(absent) => println!("{absent}"),
//! }
//! # Ok::<(), underlay::Failure>(())
//! ```
//!
//! Without the feature `std` the library needs neither an operating system nor
//! memory of its own. With it, [`probe`] can try a call where nothing announced
//! itself, and survives the #UD of a CPU that knows no such instruction.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("calls are instructions of x86-64: build for an x86_64 target");

pub mod call;
#[cfg(all(feature = "std", target_os = "linux"))]
pub mod device;
pub mod discovery;
#[cfg(all(feature = "std", target_os = "linux"))]
pub mod probe;

use core::ffi::CStr;

pub use abi::Errno;
pub use call::{Failure, Instruction, Reply};
pub use discovery::NotPresent;

/// An Underlay that was found beneath this program.
///
/// Holding one is the proof that the call instruction is there, which is why
/// the typed calls are safe.
#[derive(Clone, Copy, Debug)]
pub struct Underlay {
    instruction: Instruction,
}

impl Underlay {
    /// Looks for Underlay in the CPUID leaves, executing nothing but CPUID.
    ///
    /// # Errors
    ///
    /// Why there is no Underlay to talk to. A hypervisor whose config says
    /// `presence = hidden` looks exactly like none.
    pub fn find() -> Result<Self, NotPresent> {
        discovery::find().map(|instruction| Self { instruction })
    }

    /// The instruction that calls use on this CPU.
    pub fn instruction(self) -> Instruction {
        self.instruction
    }

    /// The cheapest call: returns the version of the call interface.
    ///
    /// # Errors
    ///
    /// Any [`Failure`] that the hypervisor answers with; none is expected.
    pub fn ping(self) -> Result<u32, Failure> {
        // SAFETY: `ping` takes no arguments and touches no memory of ours.
        let reply = unsafe { self.call(abi::call::PING, [0; 5]) };
        // The version has 32 bits; the rest of RAX is zero.
        reply.result().map(|rax| rax as u32)
    }

    /// Makes the hypervisor write its greeting to its log; returns how many
    /// greetings it has written since it started.
    ///
    /// # Errors
    ///
    /// Any [`Failure`] that the hypervisor answers with; none is expected.
    pub fn hello(self) -> Result<u64, Failure> {
        // SAFETY: `hello` takes no arguments and touches no memory of ours.
        let reply = unsafe { self.call(abi::call::HELLO, [0; 5]) };
        reply.result()
    }

    /// Makes the hypervisor write what this CPU's exits cost to its log.
    ///
    /// # Errors
    ///
    /// Any [`Failure`] that the hypervisor answers with; none is expected.
    pub fn statistics(self) -> Result<(), Failure> {
        let mut line = 0;
        loop {
            // SAFETY: `statistics` takes a number and touches no memory of ours.
            let reply = unsafe { self.call(abi::call::STATISTICS, [line, 0, 0, 0, 0]) };
            line = reply.result()?;
            if line == 0 {
                return Ok(());
            }
        }
    }

    /// Switches the trace of this CPU's exits.
    ///
    /// # Errors
    ///
    /// [`Errno::NotPermitted`] where the hypervisor's config asks for none.
    pub fn switch_trace(self, on: bool) -> Result<(), Failure> {
        // SAFETY: `trace` takes a number and touches no memory of ours.
        let reply = unsafe { self.call(abi::call::TRACE, [on.into(), 0, 0, 0, 0]) };
        reply.result().map(drop)
    }

    /// Makes the hypervisor write some of this CPU's trace to the port of its
    /// log; returns how many records are left. If they do not become fewer, the
    /// port is busy, or there is none.
    ///
    /// # Errors
    ///
    /// [`Errno::NotPermitted`] where the hypervisor's config asks for none.
    pub fn write_trace(self) -> Result<u64, Failure> {
        // SAFETY: `trace` takes a number and touches no memory of ours.
        let reply = unsafe { self.call(abi::call::TRACE, [2, 0, 0, 0, 0]) };
        reply.result()
    }

    /// The number of the service called `name`, or `None` if this hypervisor
    /// has no such service.
    ///
    /// # Errors
    ///
    /// [`Errno::NameTooLong`] for more than [`abi::call::NAME_MAX`] bytes.
    pub fn resolve(self, name: &CStr) -> Result<Option<u64>, Failure> {
        let address = name.as_ptr() as u64;
        // SAFETY: the hypervisor only reads, and only up to the NUL that `CStr`
        // guarantees, within the lifetime of the borrow.
        let reply = unsafe { self.call(abi::call::RESOLVE, [address, 0, 0, 0, 0]) };
        let number = reply.result()?;
        // 0 says "none", and is at once the number of `resolve` itself.
        let is_resolve = name.to_bytes() == b"resolve";
        Ok((number != 0 || is_resolve).then_some(number))
    }

    /// Calls any service by its number; for services that this library has no
    /// typed function for.
    ///
    /// # Safety
    ///
    /// Where the service takes addresses, they must name memory that it may
    /// read or write as its description says, as for a system call.
    pub unsafe fn call(self, number: u64, arguments: [u64; 5]) -> Reply {
        // SAFETY: the instruction is there, as `self` proves; the caller
        // answers for the arguments.
        unsafe { call::call(self.instruction, number, arguments) }
    }
}
