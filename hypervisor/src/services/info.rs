//! Services that tell what there is.

use super::Failure;
use crate::buffer::{Access, Buffer, Pages, write_records};
use crate::caller::Caller;
use crate::names::{self, Name};
use crate::reply::Reply;
use crate::vm::{Cpu, Vm};
use abi::Errno;
use abi::call::{NAME_MAX, SERVICES, VERSION};
use abi::discovery::{FEATURE_VMCALL, FEATURE_VMMCALL};
use abi::record::{FEATURE_PRINT, FEATURE_TRACE, Info, ServiceRecord, Text};
use machine::{Memory, Vcpu};
use x86::Gva;
use x86::cpuid::Vendor;

/// The number of the service whose NUL-terminated name lies at `address`, or 0.
pub fn resolve<M: Memory>(caller: &Caller<M>, address: u64) -> Result<Reply, Failure> {
    let at = Gva(caller.argument(address));
    let mut text = Name::ROOM;
    let size = caller
        .read_page(at, &mut text)
        .map_err(|denied| Failure::denied(caller, at, denied))?;
    match Name::before_nul(&text) {
        Some((name, length)) if length < size => Ok(names::number(&name).unwrap_or(0).into()),
        _ => resolve_long(caller, address),
    }
}

/// The name goes on in another page, or is longer than those of all services.
#[cold]
fn resolve_long<M: Memory>(caller: &Caller<M>, address: u64) -> Result<Reply, Failure> {
    let mut name = [0; NAME_MAX + 1];
    let length = read_name(caller, address, &mut name)?;
    let name = name.get(..length).unwrap_or(&[]);
    let found = SERVICES
        .iter()
        .find(|service| service.name.as_bytes() == name);
    Ok(found.map_or(0, |service| service.number).into())
}

/// Writes as much of [`Info`] as there is room for.
pub fn info<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    address: u64,
    bytes: u64,
) -> Result<Reply, Failure> {
    let mut pages = Pages::default();
    let buffer = Buffer::at_gva(
        &mut pages,
        caller,
        address,
        bytes.min(Info::SIZE as u64),
        Access::Write,
    )?;
    buffer.write(0, &about(vm, cpu).to_bytes())?;
    Ok((Info::SIZE as u64).into())
}

fn about<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &Cpu<V>) -> Info {
    let (vendor, instruction) = match V::VENDOR {
        Vendor::Intel => (1, FEATURE_VMCALL),
        Vendor::Amd => (2, FEATURE_VMMCALL),
    };
    let offers = |offered, feature| if offered { feature } else { 0 };
    let reserved = vm.memory.reserved();
    Info {
        abi: VERSION,
        vendor,
        features: instruction
            | offers(vm.printer.is_some(), FEATURE_PRINT)
            | offers(cpu.counted.trace.is_possible(), FEATURE_TRACE),
        cpus: vm.cpus,
        memory: reserved.end.0 - reserved.start.0,
        used: vm.memory_used,
        ticks_per_second: vm.ticks_per_second,
        version: Text::new(env!("CARGO_PKG_VERSION")),
    }
}

/// Writes as many rows of the table as there is room for, from row `first` on.
pub fn list<M: Memory>(caller: &Caller<M>, room: [u64; 2], first: u64) -> Result<Reply, Failure> {
    let rows = SERVICES.iter();
    let records = rows.map(|service| ServiceRecord::from(service).to_bytes());
    let written = write_records(caller, room, records, first)?;
    Ok(Reply::from(written).rbx(SERVICES.len() as u64))
}

/// Reads up to and including the NUL, a page at a time, so that a page behind
/// the name's end is not touched. Returns the length without the NUL.
fn read_name<M: Memory>(
    caller: &Caller<M>,
    address: u64,
    name: &mut [u8; NAME_MAX + 1],
) -> Result<usize, Failure> {
    let mut read = 0;
    while read < name.len() {
        let at = Gva(caller.argument(address.wrapping_add(read as u64)));
        let rest = name.get_mut(read..).unwrap_or(&mut []);
        let size = caller
            .read_page(at, rest)
            .map_err(|denied| Failure::denied(caller, at, denied))?;
        let fresh = rest.get(..size).unwrap_or(&[]);
        if let Some(end) = fresh.iter().position(|byte| *byte == 0) {
            return Ok(read + end);
        }
        read += size;
    }
    Err(Failure::Refused(Errno::NameTooLong))
}
