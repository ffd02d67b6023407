//! Children: the VMs of the owner's programs.

use super::Failure;
use crate::buffer::{Access, Buffer, Pages, write_records};
use crate::caller::Caller;
use crate::children::drive::{self, Wish};
use crate::children::give::Mapping;
use crate::children::{self, Children};
use crate::reply::Reply;
use crate::vm::{Cpu, Features, Vm};
use abi::Errno;
use abi::child::{NAME_MAX, PIECE};
use abi::handoff::Presence;
use abi::record::{ExitsRecord, VmEntry, VmExit, VmRecord, VmRegisters};
use machine::{Memory, Vcpu};

/// What a child is offered of what needs a control.
const FEATURES: Features = Features {
    rdtscp: false,
    invpcid: false,
    xsaves: false,
    user_wait: false,
};

fn children<V: Vcpu, M>(vm: &Vm<M>) -> Result<&'static Children<V>, Errno> {
    children::of(vm).ok_or(Errno::NoService)
}

/// Makes a child.
#[inline(never)]
pub fn create<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    [address, bytes]: [u64; 2],
) -> Result<Reply, Failure> {
    let children = children::<V, M>(vm)?;
    let mut name = [0; NAME_MAX];
    let length = usize::try_from(bytes).ok();
    let place = length.and_then(|length| name.get_mut(..length));
    let place = place.ok_or(Errno::NameTooLong)?;
    let mut pages = Pages::default();
    Buffer::at_gva(&mut pages, caller, address, bytes, Access::Read)?.read(0, place)?;
    let is_printable = place.iter().all(u8::is_ascii_graphic) && !place.is_empty();
    let name = core::str::from_utf8(place).ok().filter(|_| is_printable);
    let name = name.ok_or(Errno::InvalidArgument)?;
    let (handle, number) = children.create(&cpu.vcpu, name, cpu.vcpu.ticks(), |memory| {
        let mut child = Vm::new(memory, Presence::Hidden, FEATURES);
        child.ticks_per_second = vm.ticks_per_second;
        child.gib_pages = vm.gib_pages;
        child
    })?;
    Ok(Reply::from(handle).rbx(u64::from(number)))
}

/// Ends one.
pub fn destroy<V: Vcpu, M>(vm: &Vm<M>, _: &Cpu<V>, wanted: u64) -> Result<Reply, Failure> {
    children::<V, M>(vm)?.destroy(wanted)?;
    Ok(0.into())
}

/// Tells which there are.
#[inline(never)]
pub fn list<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    _: &Cpu<V>,
    caller: &Caller<M>,
    room: [u64; 2],
    first: u64,
) -> Result<Reply, Failure> {
    let records = children::<V, M>(vm)?.records();
    let all = records.iter().flatten().count();
    let mut there = records.iter().flatten();
    let rows = (0..all).map(|_| there.next().map_or([0; VmRecord::SIZE], VmRecord::to_bytes));
    let written = write_records(caller, room, rows, first)?;
    Ok(Reply::from(written).rbx(all as u64))
}

/// Tells of one.
#[inline(never)]
pub fn query<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    _: &Cpu<V>,
    caller: &Caller<M>,
    [handle, address, bytes]: [u64; 3],
) -> Result<Reply, Failure> {
    let bytes = bytes.min(VmRecord::SIZE as u64);
    let mut pages = Pages::default();
    let buffer = Buffer::at_gva(&mut pages, caller, address, bytes, Access::Write)?;
    let held = children::<V, M>(vm)?.hold(handle)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    buffer.write(0, &child.record().to_bytes())?;
    Ok((VmRecord::SIZE as u64).into())
}

/// Tells what the exits of a vCPU cost, as `statistics` does of a CPU.
#[inline(never)]
pub fn statistics<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    _: &Cpu<V>,
    caller: &Caller<M>,
    [wanted, vcpu]: [u64; 2],
    room: [u64; 2],
    first: u64,
) -> Result<Reply, Failure> {
    let held = children::<V, M>(vm)?.hold_called(wanted)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    let rows = child.counts(vcpu)?.all();
    let all = rows.len() as u64;
    let records = rows.map(|row| ExitsRecord::from(row).to_bytes());
    let written = write_records(caller, room, records, first)?;
    Ok(Reply::from(written).rbx(all))
}

/// Gives one memory.
pub fn memory<V: Vcpu, M: Memory>(vm: &Vm<M>, _: &Cpu<V>, handle: u64) -> Result<Reply, Failure> {
    let children = children::<V, M>(vm)?;
    let held = children.hold(handle)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    let at = children.give(child, &vm.memory)?;
    Ok(Reply::from(at).rbx(PIECE))
}

/// Shows it memory.
pub fn map<V: Vcpu, M>(
    vm: &Vm<M>,
    _: &Cpu<V>,
    [handle, at, from, bytes, rights]: [u64; 5],
) -> Result<Reply, Failure> {
    let children = children::<V, M>(vm)?;
    let mapping = Mapping {
        at,
        from,
        bytes,
        rights,
    };
    Ok(children.map(children.hold(handle)?, &mapping)?.into())
}

/// Gives it a vCPU.
pub fn vcpu<V: Vcpu, M>(vm: &Vm<M>, cpu: &mut Cpu<V>, handle: u64) -> Result<Reply, Failure> {
    let held = children::<V, M>(vm)?.hold(handle)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    Ok(u64::from(child.add_vcpu(cpu)?).into())
}

/// Reads registers.
#[inline(never)]
pub fn read<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    caller: &Caller<M>,
    [handle, vcpu, address]: [u64; 3],
) -> Result<Reply, Failure> {
    let size = VmRegisters::SIZE as u64;
    let mut pages = Pages::default();
    let buffer = Buffer::at_gva(&mut pages, caller, address, size, Access::Write)?;
    let held = children::<V, M>(vm)?.hold(handle)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    buffer.write(0, &child.registers(cpu, vcpu)?.to_bytes())?;
    Ok(0.into())
}

/// Sets registers.
#[inline(never)]
pub fn write<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    caller: &Caller<M>,
    [handle, vcpu, address]: [u64; 3],
) -> Result<Reply, Failure> {
    let mut bytes = [0; VmRegisters::SIZE];
    let size = bytes.len() as u64;
    let mut pages = Pages::default();
    Buffer::at_gva(&mut pages, caller, address, size, Access::Read)?.read(0, &mut bytes)?;
    let held = children::<V, M>(vm)?.hold(handle)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    child.set_registers(cpu, vcpu, &VmRegisters::from_bytes(&bytes))?;
    Ok(0.into())
}

/// Has a page of the child's hold the records of a vCPU.
pub fn records<V: Vcpu, M>(
    vm: &Vm<M>,
    _: &Cpu<V>,
    [handle, vcpu, page]: [u64; 3],
) -> Result<Reply, Failure> {
    let children = children::<V, M>(vm)?;
    let held = children.hold(handle)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    children.keep_records(child, vcpu, page)?;
    Ok(0.into())
}

/// Runs a vCPU, whose records are in a page of its child's.
#[inline(always)]
pub fn turn<V: Vcpu, M: Memory>(
    children: &Children<V>,
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    [handle, vcpu]: [u64; 2],
) -> Result<u32, Errno> {
    let held = children.hold(handle)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    child.turn(cpu, vcpu, &vm.memory)
}

/// The same for a caller who may have to be refused.
#[inline(never)]
pub fn turn_or_refuse<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    arguments: [u64; 2],
) -> Result<Reply, Failure> {
    let kind = turn(children(vm)?, vm, cpu, arguments)?;
    Ok(u64::from(kind).into())
}

/// Runs a vCPU. Both records are found before it runs, and the entry is copied
/// once: what another thread does to it later means nothing.
#[inline(never)]
pub fn run<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    caller: &Caller<M>,
    [handle, vcpu, from, into]: [u64; 4],
) -> Result<Reply, Failure> {
    let mut entry = [0; VmEntry::SIZE];
    let (mut into_pages, mut from_pages) = (Pages::default(), Pages::default());
    let size = VmExit::SIZE as u64;
    let into = Buffer::at_gva(&mut into_pages, caller, into, size, Access::Write)?;
    let from = Buffer::at_gva(
        &mut from_pages,
        caller,
        from,
        entry.len() as u64,
        Access::Read,
    )?;
    from.read(0, &mut entry)?;
    let held = children::<V, M>(vm)?.hold(handle)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    let wish = Wish::new(&VmEntry::from_bytes(&entry))?;
    let exit = child.run(cpu, vcpu, &wish)?;
    into.write(0, &exit.to_bytes())?;
    Ok(u64::from(exit.kind).into())
}

/// Raises an event.
pub fn inject<V: Vcpu, M>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    [handle, vcpu, event, error]: [u64; 4],
) -> Result<Reply, Failure> {
    let held = children::<V, M>(vm)?.hold(handle)?;
    let narrow = |word: u64| u32::try_from(word).map_err(|_| Errno::InvalidArgument);
    let event = drive::event(narrow(event)?, narrow(error)?)?;
    let child = held.as_ref().ok_or(Errno::NotFound)?;
    child.inject(cpu, vcpu, event)?;
    Ok(0.into())
}
