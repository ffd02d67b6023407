//! The controllers of children: what a child may do by itself is done here, all
//! else is put into words for its program.

pub mod calls;
pub mod cpuid;
pub mod debug;
pub mod ends;
pub mod faults;
pub mod interruptions;
pub mod memory;
pub mod msrs;
pub mod ports;
pub mod waits;
