//! The controllers: each looks at the exits it knows and passes the rest.

pub mod caches;
pub mod control_registers;
pub mod cpuid;
pub mod hypercall;
pub mod interrupts;
pub mod msr;
pub mod nested_fault;
pub mod shutdown;
pub mod startup;
pub mod tasks;
pub mod virtualisation;
pub mod xsetbv;
