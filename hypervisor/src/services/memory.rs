//! Copies between the caller's memory and other memory of the guest's, both
//! sides of which are checked before a byte moves; and buffers that are kept.

use super::Failure;
use crate::buffer::{Access, Buffer, Pages};
use crate::caller::Caller;
use crate::reply::Reply;
use crate::vm::Vm;
use abi::Errno;
use abi::call::TRANSFER_MAX;
use machine::Memory;
use x86::Gva;
use x86::walk::Intent;

/// Which way a copy goes, seen from the caller.
#[derive(Clone, Copy)]
pub enum Way {
    /// Into the caller's buffer.
    Read,
    /// Out of it.
    Write,
}

impl Way {
    /// What is done to the caller's buffer, and to the other side.
    fn accesses(self) -> [Access; 2] {
        match self {
            Self::Read => [Access::Write, Access::Read],
            Self::Write => [Access::Read, Access::Write],
        }
    }
}

/// Copies between two buffers of the caller's own.
pub fn copy<M: Memory>(
    caller: &Caller<M>,
    [into, from, bytes]: [u64; 3],
) -> Result<Reply, Failure> {
    let (mut from_pages, mut into_pages) = (Pages::default(), Pages::default());
    let source = Buffer::at_gva(&mut from_pages, caller, from, bytes, Access::Read)?;
    let target = Buffer::at_gva(&mut into_pages, caller, into, bytes, Access::Write)?;
    Ok((target.copy(&source)? as u64).into())
}

/// Copies between the caller's buffer and guest-physical memory.
pub fn physical<M: Memory>(
    caller: &Caller<M>,
    way: Way,
    [buffer, gpa, bytes]: [u64; 3],
) -> Result<Reply, Failure> {
    let [own, _] = way.accesses();
    let (mut pages, mut other_pages) = (Pages::default(), Pages::default());
    let other = Buffer::at_gpa(&mut other_pages, caller.memory(), gpa, bytes)?;
    let own = Buffer::at_gva(&mut pages, caller, buffer, bytes, own)?;
    transfer(way, &own, &other)
}

/// Copies between the caller's buffer and a list of guest-physical pages.
pub fn pages<M: Memory>(
    caller: &Caller<M>,
    way: Way,
    [buffer, list, bytes, offset]: [u64; 4],
) -> Result<Reply, Failure> {
    let [own, _] = way.accesses();
    let (mut pages, mut other_pages) = (Pages::default(), Pages::default());
    let other = Buffer::of_pages(&mut other_pages, caller, list, offset, bytes)?;
    let own = Buffer::at_gva(&mut pages, caller, buffer, bytes, own)?;
    transfer(way, &own, &other)
}

/// Copies between the caller's buffer and an address space, with the rights
/// that a kernel has there.
pub fn space<M: Memory>(
    caller: &Caller<M>,
    way: Way,
    [buffer, gva, bytes, root]: [u64; 4],
) -> Result<Reply, Failure> {
    let [own, other] = way.accesses();
    let space = caller.space(root);
    let (mut pages, mut other_pages) = (Pages::default(), Pages::default());
    let other = Buffer::at_gva(&mut other_pages, &space, gva, bytes, other)?;
    let own = Buffer::at_gva(&mut pages, caller, buffer, bytes, own)?;
    transfer(way, &own, &other)
}

fn transfer<M: Memory>(way: Way, own: &Buffer<M>, other: &Buffer<M>) -> Result<Reply, Failure> {
    let done = match way {
        Way::Read => own.copy(other)?,
        Way::Write => other.copy(own)?,
    };
    Ok((done as u64).into())
}

/// Where `gva` lies in the address space whose tables begin at `root`, and how
/// many bytes of its page follow.
pub fn translate<M: Memory>(caller: &Caller<M>, gva: u64, root: u64) -> Result<Reply, Failure> {
    let found = caller
        .space(root)
        .translate(Gva(gva), Intent::default())
        .map_err(|_| Failure::BadAddress(gva))?;
    Ok(Reply::from(found.gpa.0).rbx(found.left))
}

/// Keeps a list of pages as a buffer. Returns its handle.
pub fn share<M: Memory>(
    vm: &Vm<M>,
    caller: &Caller<M>,
    [list, bytes, offset]: [u64; 3],
) -> Result<Reply, Failure> {
    if bytes > TRANSFER_MAX as u64 {
        return Err(Errno::InvalidArgument.into());
    }
    let mut pages = Pages::default();
    Buffer::of_pages(&mut pages, caller, list, offset, bytes)?;
    let handle = vm.shared.keep(pages);
    Ok(handle.ok_or(Errno::NoSpace)?.into())
}

/// Does `what` with the buffer that has this handle.
pub fn shared<M: Memory>(
    vm: &Vm<M>,
    handle: u64,
    what: impl FnOnce(&Buffer<M>) -> Result<Reply, Failure>,
) -> Result<Reply, Failure> {
    let reply = vm
        .shared
        .with(handle, |pages| what(&Buffer::at(&vm.memory, pages)));
    reply.unwrap_or(Err(Errno::InvalidArgument.into()))
}

/// Forgets it.
pub fn release<M>(vm: &Vm<M>, handle: u64) -> Result<Reply, Failure> {
    let released = vm.shared.release(handle).map(|_| Reply::from(0));
    released.ok_or(Errno::InvalidArgument.into())
}
