//! What guest, loader and hypervisor agree on: the call interface (ABI 1) and
//! the handoff from the loader to the hypervisor. Numbers and layouts only;
//! nothing here can go wrong at run time.
#![no_std]
#![forbid(unsafe_code)]

pub mod call;
pub mod discovery;
pub mod errno;
pub mod greeting;
pub mod handoff;
pub mod refusal;
pub mod token;

pub use errno::Errno;
pub use handoff::Handoff;
pub use refusal::Refusal;
