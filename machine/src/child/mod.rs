//! What runs beneath a guest beside it: children, the VMs of the guest's own
//! programs. Their control blocks and tables are pages of the region, which
//! no guest reaches; what they see of memory is a part of the pool.

pub mod boarding;
pub mod extended;
pub mod memory;
pub mod pages;
pub mod tables;

use crate::memory::Memory;
use crate::vcpu::Vcpu;
use core::ops::Deref;
use x86::{Event, Exit, Gpa, State};

pub use boarding::pool;
pub use memory::PoolMemory;
pub use tables::Rights;

/// Why a piece of memory could not be shown to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmappable {
    /// An address that no child can have, or memory that is not the pool's.
    Address,
    /// There is no page left for another table.
    Tables,
}

/// A child's memory: what of the pool it sees where.
pub trait ChildMemory: Memory {
    /// Shows the page of the pool at `from` to the child at `at`, or nothing
    /// there. None of its vCPUs may run meanwhile.
    fn map(&self, at: Gpa, from: Gpa, rights: Rights) -> Result<(), Unmappable>;
    /// Changes whenever translations change that a CPU may remember.
    fn generation(&self) -> u64;
}

/// A vCPU of a child. It is loaded on a CPU, beneath the guest's vCPU `H`,
/// while it runs or its registers are looked at; else on none.
pub trait ChildVcpu<H>: Vcpu + Send + Sized {
    /// Its memory.
    type Memory: ChildMemory + Send + Sync + 'static;
    /// A value beside it that any CPU can reach, also while it runs.
    type Placed<T: Send + Sync + 'static>: Deref<Target = T> + Send + Sync + 'static;

    /// A child's memory in which it sees nothing; None if no page is left.
    fn memory(host: &H) -> Option<Self::Memory>;
    /// Places such a value; None if no page is left.
    fn place<T: Send + Sync + 'static>(value: T) -> Option<Self::Placed<T>>;
    /// A vCPU after a reset; None if no page is left.
    fn new(host: &mut H, memory: &Self::Memory) -> Option<Self>;
    /// Makes its control block the CPU's current one.
    fn load(&mut self, host: &mut H);
    /// Makes the guest's the current one again, and leaves nothing of this
    /// vCPU in the CPU.
    fn unload(&mut self, host: &mut H);
    /// Gives it the registers that an entry does not switch, and takes care
    /// that no translation is old. It is loaded.
    /// False if this CPU cannot run children.
    fn board(&mut self, host: &mut H, generation: u64) -> bool;
    /// Gives the guest its registers back, and what arrived for it meanwhile.
    fn alight(&mut self, host: &mut H);
    /// An exit that is the CPU's business: notes it for the guest.
    fn note_for_guest(&mut self, host: &H, exit: &Exit);
    /// Its registers. It is loaded.
    fn state(&self) -> State;
    /// Sets them. It is loaded.
    fn set_state(&mut self, state: &State);
    /// Raises `event` when it is entered next.
    fn raise(&mut self, event: Event);
    /// Whether an event will be raised when it is entered next.
    fn has_event(&self) -> bool;
    /// Whether it can take an external interrupt.
    fn takes_interrupts(&self) -> bool;
    /// Makes it exit as soon as it can take an external interrupt, or not.
    fn await_interrupts(&mut self, wanted: bool);
}
