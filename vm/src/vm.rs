//! A VM.

use crate::memory::Memory;
use crate::vcpu::Vcpu;
use abi::Errno;
use abi::child::{PIECE, VCPUS_MAX, rights};
use abi::record::VmRecord;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use underlay::call::Instruction;
use underlay::owner::NotOwner;
use underlay::{NotPresent, Underlay};

/// Why something could not be done.
#[derive(Debug)]
pub enum Error {
    /// There is no Underlay beneath.
    NotPresent(NotPresent),
    /// This program may not act for the machine's owner.
    NotOwner(NotOwner),
    /// Underlay refused.
    Refused(underlay::Error),
    /// The memory could not be mapped.
    Memory(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPresent(why) => why.fmt(f),
            Self::NotOwner(why) => why.fmt(f),
            Self::Refused(why) if why.is(Errno::NoService) => {
                f.write_str("no memory is set aside for VMs: underlay.conf needs `pool = SIZE`")
            }
            Self::Refused(why) if why.is(Errno::NoSpace) => {
                f.write_str("there is no more memory for VMs, or there are too many")
            }
            Self::Refused(why) if why.is(Errno::Exists) => f.write_str("there is one of this name"),
            Self::Refused(why) => why.fmt(f),
            Self::Memory(why) => write!(f, "/dev/mem: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<underlay::Error> for Error {
    fn from(error: underlay::Error) -> Self {
        Self::Refused(error)
    }
}

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;

/// What a VM may do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u64);

impl Rights {
    /// Read it.
    pub const READ: Self = Self(rights::READ);
    /// Read and write it.
    pub const WRITE: Self = Self(rights::READ | rights::WRITE);
    /// Read and run it.
    pub const EXECUTE: Self = Self(rights::READ | rights::EXECUTE);
    /// Everything.
    pub const ALL: Self = Self(rights::READ | rights::WRITE | rights::EXECUTE);
}

/// What keeps a VM alive: the [`Vm`] and its vCPUs.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) underlay: Underlay,
    pub(crate) number: u64,
    /// Where the records of its vCPUs are, a page each, once there is one.
    pub(crate) records: OnceLock<Memory>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // What cannot be ended here is left for `underlayctl vm destroy`.
        let _ = patiently(|| self.underlay.vm_destroy(self.number));
    }
}

fn no_memory() -> Error {
    Error::Memory(io::ErrorKind::OutOfMemory.into())
}

/// Tries again as long as another thread has what is wanted.
pub(crate) fn patiently<T>(
    mut attempt: impl FnMut() -> Result<T, underlay::Error>,
) -> Result<T, underlay::Error> {
    loop {
        match attempt() {
            Err(error) if error.is(Errno::Busy) => thread::yield_now(),
            done => return done,
        }
    }
}

/// A VM of this program's. It ends when this and all its vCPUs are dropped.
#[derive(Debug)]
pub struct Vm {
    handle: Arc<Handle>,
}

impl Vm {
    /// A VM called `name`, as no other one is.
    ///
    /// # Errors
    ///
    /// Why there cannot be one.
    pub fn new(name: &str) -> Result<Self, Error> {
        let underlay = Underlay::find().map_err(Error::NotPresent)?;
        let underlay = underlay.as_owner().map_err(Error::NotOwner)?;
        let (number, _) = underlay.vm_create(name)?;
        let records = OnceLock::new();
        let handle = Arc::new(Handle {
            underlay,
            number,
            records,
        });
        Ok(Self { handle })
    }

    /// At least `bytes` of memory, full of zeros. The VM sees none of it before
    /// it is mapped.
    ///
    /// # Errors
    ///
    /// If the pool has not so much left.
    pub fn memory(&mut self, bytes: u64) -> Result<Memory, Error> {
        let count = bytes.div_ceil(PIECE).max(1);
        let Handle {
            underlay, number, ..
        } = *self.handle;
        let piece = |_| patiently(|| underlay.vm_memory(number)).map(|(address, _)| address);
        let pieces = (0..count).map(piece).collect::<Result<_, _>>()?;
        Memory::map(pieces, PIECE as usize).map_err(Error::Memory)
    }

    /// Shows all of `memory` to the VM at its physical address `at`.
    ///
    /// # Errors
    ///
    /// If it is another VM's.
    pub fn map(&mut self, at: u64, memory: &Memory, rights: Rights) -> Result<(), Error> {
        for (number, from) in (0..).zip(&memory.pieces) {
            self.map_part(at + number * PIECE, *from, PIECE, rights.0)?;
        }
        Ok(())
    }

    /// Hides `bytes` at the VM's physical address `at` from it.
    ///
    /// # Errors
    ///
    /// If the address is not a page's.
    pub fn hide(&mut self, at: u64, bytes: u64) -> Result<(), Error> {
        self.map_part(at, 0, bytes, 0)
    }

    fn map_part(&self, at: u64, from: u64, bytes: u64, rights: u64) -> Result<(), Error> {
        let Handle {
            underlay, number, ..
        } = *self.handle;
        let mut done = 0;
        while done < bytes {
            let (at, from, left) = (at + done, from + done, bytes - done);
            // SAFETY: memory of the pool is in this program as `Memory` alone,
            // which expects that others change it.
            done += patiently(|| unsafe { underlay.vm_map(number, at, from, left, rights) })?;
        }
        Ok(())
    }

    /// Another vCPU, in the state after a reset.
    ///
    /// # Errors
    ///
    /// If the VM cannot have more.
    pub fn vcpu(&mut self) -> Result<Vcpu, Error> {
        let Handle {
            underlay, number, ..
        } = *self.handle;
        let records = self.records()?.pieces[0];
        let vcpu = patiently(|| underlay.vm_vcpu(number))?;
        let page = records + vcpu * PAGE;
        // SAFETY: memory of the pool is in this program as `Memory` alone, which
        // expects that others change it.
        patiently(|| unsafe { underlay.vm_records(number, vcpu, page) })?;
        Ok(Vcpu::new(self.handle.clone(), vcpu))
    }

    fn records(&mut self) -> Result<&Memory, Error> {
        if self.handle.records.get().is_none() {
            let memory = self.memory(VCPUS_MAX as u64 * PAGE)?;
            // There is none yet, and nobody else has the VM.
            let _ = self.handle.records.set(memory);
        }
        self.handle.records.get().ok_or_else(no_memory)
    }

    /// What `underlayctl vm list` tells of it.
    ///
    /// # Errors
    ///
    /// If somebody ended it.
    pub fn record(&self) -> Result<VmRecord, Error> {
        let Handle {
            underlay, number, ..
        } = *self.handle;
        Ok(patiently(|| underlay.vm_query(number))?)
    }

    /// Ticks of the time-stamp counter a second, which is the VM's as well.
    ///
    /// # Errors
    ///
    /// If Underlay does not tell.
    pub fn ticks_per_second(&self) -> Result<u64, Error> {
        Ok(self.handle.underlay.info()?.ticks_per_second)
    }

    /// The instruction by which the VM calls its program.
    pub fn call_instruction(&self) -> Instruction {
        match self.handle.underlay.info().map(|info| info.vendor) {
            Ok(2) => Instruction::Vmmcall,
            _ => Instruction::Vmcall,
        }
    }
}
