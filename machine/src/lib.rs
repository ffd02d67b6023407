//! The unsafe part of the hypervisor: instructions, the way into the guest and
//! back, the page tables it runs on, nested tables, guest memory, per-CPU
//! state. Everything that can break memory safety is here and nowhere else.
//!
//! `vtx` and `svm` mirror each other and are chosen once, by type.
#![cfg_attr(not(test), no_std)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unreachable
)]

pub mod apic;
mod backtrace;
pub mod boot;
#[cfg(feature = "breakable")]
pub mod breakable;
mod call;
mod checked;
pub mod child;
mod descriptors;
pub mod exceptions;
pub mod firmware;
pub mod guarded;
mod heap;
pub mod instructions;
mod lengths;
mod log;
pub mod memory;
mod mtrrs;
pub mod nested;
pub mod percpu;
mod port;
pub mod region;
pub mod svm;
mod tables;
pub mod vcpu;
pub mod vtx;

pub use abi::handoff::Handoff;
pub use boot::{Boot, Main};
pub use checked::CheckedEntries;
pub use child::{ChildMemory, ChildVcpu};
pub use lengths::{Lengths, Word, Words};
pub use log::{LOG_LINE_MAX, LogBuffer, LogLine, read_log, write_to_log_port};
pub use memory::{GuestMemory, Memory, Unreachable};
pub use vcpu::{CodeSize, Vcpu};
