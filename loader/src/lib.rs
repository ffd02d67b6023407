//! What the loader decides without touching the machine: what its config says,
//! whether the hypervisor's file is sound, and where its pieces go. Compiled
//! and tested on the developer's machine; the program around it is `main.rs`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod config;
pub mod image;
pub mod memory;
pub mod sleep;
