//! Children: VMs that a program of the owner's runs. The crate `underlay-vm`
//! makes something of these that cannot be used wrongly.

use super::{read_from, write_to};
use crate::records::Records;
use crate::{Error, Underlay, row};
use abi::record::{VmEntry, VmExit, VmRecord, VmRegisters};

impl Underlay {
    /// Makes a child. Returns its handle and its number.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::Exists`] if there is one of this name,
    /// [`abi::Errno::NoSpace`] if there are too many.
    pub fn vm_create(self, name: &str) -> Result<(u64, u64), Error> {
        let [address, bytes] = read_from(name.as_bytes());
        // SAFETY: the hypervisor reads `name` only.
        let [handle, number] = unsafe { self.ask(row::VM_CREATE, [address, bytes])? };
        Ok((handle, number))
    }

    /// Ends the child with this handle or number.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NotFound`], or [`abi::Errno::Busy`] while it runs.
    pub fn vm_destroy(self, child: u64) -> Result<(), Error> {
        // SAFETY: a number; what the child wrote to is memory of the pool, which
        // is nobody's of this program's but by its own mapping.
        unsafe { self.ask(row::VM_DESTROY, [child]) }.map(|[_]| ())
    }

    /// Fills `buffer` with records of children, from number `first` on; and says
    /// how many there are.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn vm_list(
        self,
        buffer: &mut [u8],
        first: u64,
    ) -> Result<(Records<'_, VmRecord>, u64), Error> {
        let [address, length] = write_to(buffer);
        // SAFETY: the hypervisor writes at most `length` bytes into `buffer`.
        let [written, all] = unsafe { self.ask(row::VM_LIST, [address, length, first])? };
        Ok((Records::new(buffer, written), all))
    }

    /// All children.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    #[cfg(feature = "std")]
    pub fn children(self) -> Result<Vec<VmRecord>, Error> {
        crate::records::all(|buffer, first| self.vm_list(buffer, first))
    }

    /// What there is to tell of one child.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NotFound`] if there is no such child.
    pub fn vm_query(self, handle: u64) -> Result<VmRecord, Error> {
        let mut bytes = [0; VmRecord::SIZE];
        let [address, length] = write_to(&mut bytes);
        // SAFETY: the hypervisor writes at most `length` bytes into `bytes`.
        unsafe { self.ask(row::VM_QUERY, [handle, address, length]) }
            .map(|[_]| VmRecord::from_bytes(&bytes))
    }

    /// Gives a child a piece of the pool. Returns where it is, and its size.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoSpace`] if the pool has none left.
    pub fn vm_memory(self, handle: u64) -> Result<(u64, u64), Error> {
        // SAFETY: a number; the piece was nobody's.
        let [address, bytes] = unsafe { self.ask(row::VM_MEMORY, [handle])? };
        Ok((address, bytes))
    }

    /// Shows `bytes` of what a child was given at `from` to it at `at`, with
    /// these rights of [`abi::child::rights`]. Returns how many were done.
    ///
    /// # Safety
    ///
    /// Whatever of this program's lies in that memory is something that others
    /// may change at any moment.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NotPermitted`] if it is not the child's,
    /// [`abi::Errno::Busy`] while one of its vCPUs runs.
    pub unsafe fn vm_map(
        self,
        handle: u64,
        at: u64,
        from: u64,
        bytes: u64,
        rights: u64,
    ) -> Result<u64, Error> {
        // SAFETY: the caller's contract.
        let done = unsafe { self.ask(row::VM_MAP, [handle, at, from, bytes, rights]) };
        done.map(|[done]| done)
    }

    /// Gives a child another vCPU. Returns its number.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoSpace`] if it cannot have more.
    pub fn vm_vcpu(self, handle: u64) -> Result<u64, Error> {
        // SAFETY: a number, and no memory of ours.
        unsafe { self.ask(row::VM_VCPU, [handle]) }.map(|[vcpu]| vcpu)
    }

    /// The registers of a vCPU that does not run.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NotFound`], or [`abi::Errno::Busy`] while it runs.
    pub fn vm_registers_read(self, handle: u64, vcpu: u64) -> Result<VmRegisters, Error> {
        let mut bytes = [0; VmRegisters::SIZE];
        let [address, _] = write_to(&mut bytes);
        // SAFETY: the hypervisor writes one record, which is as long as `bytes`.
        unsafe { self.ask(row::VM_REGISTERS_READ, [handle, vcpu, address]) }
            .map(|[_]| VmRegisters::from_bytes(&bytes))
    }

    /// Sets the registers of a vCPU that does not run.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] for what a register cannot hold.
    pub fn vm_registers_write(
        self,
        handle: u64,
        vcpu: u64,
        registers: &VmRegisters,
    ) -> Result<(), Error> {
        let bytes = registers.to_bytes();
        let [address, _] = read_from(&bytes);
        // SAFETY: the hypervisor reads one record, which is as long as `bytes`.
        unsafe { self.ask(row::VM_REGISTERS_WRITE, [handle, vcpu, address]) }.map(|[_]| ())
    }

    /// Runs a vCPU until it needs its program, or the CPU is wanted.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::Busy`] if it runs already, or cannot take the event.
    pub fn vm_run(self, handle: u64, vcpu: u64, entry: &VmEntry) -> Result<VmExit, Error> {
        let entry = entry.to_bytes();
        let mut exit = [0; VmExit::SIZE];
        let ([from, _], [into, _]) = (read_from(&entry), write_to(&mut exit));
        // SAFETY: the hypervisor reads one record and writes one. What the child
        // changes is memory that `vm_map` was told of.
        unsafe { self.ask(row::VM_RUN, [handle, vcpu, from, into]) }
            .map(|[_]| VmExit::from_bytes(&exit))
    }

    /// Keeps the records of a vCPU's turns in a page of memory that its child was
    /// given: a [`VmEntry`] at its beginning, a [`VmExit`] at
    /// [`abi::child::EXIT_OFFSET`].
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NotPermitted`] if the memory is not the child's.
    ///
    /// # Safety
    ///
    /// As for [`Self::vm_map`]: each [`Self::vm_turn`] writes to that page.
    pub unsafe fn vm_records(self, handle: u64, vcpu: u64, page: u64) -> Result<(), Error> {
        // SAFETY: the caller's contract.
        unsafe { self.ask(row::VM_RECORDS, [handle, vcpu, page]) }.map(|[_]| ())
    }

    /// Runs a vCPU, whose records are where [`Self::vm_records`] said, until it
    /// needs its program, or the CPU is wanted. Returns the kind of the exit.
    ///
    /// # Errors
    ///
    /// As for [`Self::vm_run`].
    pub fn vm_turn(self, handle: u64, vcpu: u64) -> Result<u64, Error> {
        // SAFETY: what is written is memory that `vm_records` and `vm_map` were
        // told of.
        unsafe { self.ask(row::VM_TURN, [handle, vcpu]) }.map(|[kind]| kind)
    }

    /// Raises an event in a vCPU that does not run.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::Busy`] if it runs, or cannot take the event.
    pub fn vm_inject(self, handle: u64, vcpu: u64, event: u32, error: u32) -> Result<(), Error> {
        let arguments = [handle, vcpu, event.into(), error.into()];
        // SAFETY: numbers, and no memory of ours.
        unsafe { self.ask(row::VM_INJECT, arguments) }.map(|[_]| ())
    }
}
