//! VMs of a Linux program's own beneath Underlay: the program gives them memory
//! and vCPUs, runs these, and plays their devices. It has to be root's, and the
//! config of Underlay has to say `pool = SIZE`.
//!
//! ```no_run
//! # fn look() -> Result<(), Box<dyn std::error::Error>> {
//! use underlay_vm::{Exit, Rights, Vm};
//!
//! let mut vm = Vm::new("example")?;
//! let memory = vm.memory(2 << 20)?; // cleared, and ours to write
//! memory.write(0x1000, &[0xe6, 0x42, 0xf4]); // out 0x42, al; hlt
//! vm.map(0, &memory, Rights::ALL)?;
//! let mut vcpu = vm.vcpu()?;
//! vcpu.start_real_mode(0x1000)?;
//! loop {
//!     match vcpu.run()? {
//!         Exit::Port(access) => println!("{access:?}"),
//!         Exit::Interrupted => {} // Linux had something to do: run it again
//!         Exit::Halt => break,
//!         other => return Err(format!("{other:?}").into()),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Vm`] ends when it is dropped. One whose program was killed is shown by
//! `underlayctl vm list`, and ended by `underlayctl vm destroy`.

mod exit;
mod memory;
mod vcpu;
mod vm;

pub use abi::record::VmRegisters;
pub use exit::{Access, Call, Cpuid, Exit, Msr};
pub use memory::Memory;
pub use underlay::call::Instruction;
pub use vcpu::{Event, Vcpu};
pub use vm::{Error, Rights, Vm};
