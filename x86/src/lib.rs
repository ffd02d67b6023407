//! The x86 architecture as data: registers, control registers, exceptions,
//! model-specific registers, page tables, memory types, VMCS fields, the VMCB,
//! and the decoding of exits. Pure values and functions, tested on the desk.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unreachable,
    clippy::indexing_slicing
)]

pub mod address;
pub mod apic;
pub mod broken;
pub mod control;
pub mod cpuid;
pub mod event;
pub mod exception;
pub mod exit;
pub mod msr;
pub mod mtrr;
pub mod registers;
pub mod segment;
pub mod startup;
pub mod state;
pub mod svm;
pub mod task;
pub mod vtx;
pub mod walk;

pub use address::{Gpa, Gva, Hpa, PAGE_SIZE};
pub use broken::Broken;
pub use event::Event;
pub use exception::Exception;
pub use exit::Exit;
pub use registers::Registers;
pub use state::State;
