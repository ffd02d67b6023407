//! What guest, loader and hypervisor agree on: the call interface (ABI 1), the
//! handoff from the loader to the hypervisor, and the lines of the log that
//! tools read. Numbers, layouts and words only; nothing here can go wrong at
//! run time.
#![no_std]
#![forbid(unsafe_code)]

pub mod call;
pub mod child;
pub mod device;
pub mod discovery;
pub mod errno;
pub mod greeting;
pub mod handoff;
pub mod record;
pub mod refusal;
pub mod report;
pub mod token;

pub use errno::Errno;
pub use handoff::Handoff;
pub use refusal::Refusal;
