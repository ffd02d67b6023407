//! The policy of the hypervisor, in safe Rust: what an exit means and what is
//! done about it. It knows the machine through traits, so that all of it runs
//! in plain tests on a fake one.
//!
//! Start at [`run`]: one file shows the whole cycle of an exit.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unreachable,
    clippy::indexing_slicing
)]

extern crate alloc;

pub mod buffer;
pub mod caller;
pub mod chain;
pub mod children;
pub mod controllers;
pub mod counted;
pub mod debug;
pub mod emulator;
pub mod failure;
pub mod instruction;
pub mod names;
pub mod oddities;
pub mod outcome;
pub mod peers;
pub mod printer;
pub mod ration;
pub mod reply;
pub mod run;
pub mod services;
pub mod shared;
pub mod start;
pub mod statistics;
pub mod text;
pub mod trace;
pub mod visible;
pub mod vm;
pub mod watches;

#[cfg(test)]
mod fake;
