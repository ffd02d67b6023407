//! The controllers: each looks at the exits it knows and passes the rest.

pub mod apic;
pub mod caches;
pub mod child;
pub mod control_registers;
pub mod counters;
pub mod cpuid;
pub mod debug_registers;
pub mod exceptions;
pub mod hypercall;
pub mod interrupts;
#[cfg(feature = "breakable")]
pub mod mirror;
pub mod msr;
pub mod nested_fault;
pub mod port;
pub mod print;
pub mod shutdown;
pub mod signs;
pub mod sleep;
pub mod startup;
pub mod tasks;
pub mod translations;
pub mod unasked;
pub mod virtualisation;
pub mod waiting;
pub mod xsetbv;

#[cfg(test)]
mod tests;
