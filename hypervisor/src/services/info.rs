//! Services that tell what there is.

use super::Failure;
use crate::buffer::{Access, Buffer, Pages, write_records};
use crate::caller::Caller;
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
    let mut name = [0; LONGEST + 1];
    let size = caller
        .read_page(at, &mut name)
        .map_err(|denied| Failure::denied(caller, at, denied))?;
    let length = name.iter().take(size).position(|byte| *byte == 0);
    match length.and_then(|length| name.get_mut(length..)) {
        Some(behind) => behind.fill(0),
        None => return resolve_long(caller, address),
    }
    let [first, second, third] = words(&name);
    let mut rows = NAMES.iter().zip(SERVICES);
    let found =
        rows.find(|([one, two, three], _)| *one == first && *two == second && *three == third);
    Ok(found.map_or(0, |(_, service)| service.number).into())
}

/// Bytes of the longest name of a service, and some more.
const LONGEST: usize = 8 * WORDS - 1;
const WORDS: usize = 3;

/// The services' names in words, with zeros behind: that is how they are
/// compared, because most calls compare with all of them.
static NAMES: [[u64; WORDS]; SERVICES.len()] = names();

const fn names() -> [[u64; WORDS]; SERVICES.len()] {
    let mut names = [[0; WORDS]; SERVICES.len()];
    let (mut left, mut services) = (names.as_mut_slice(), SERVICES);
    while let ([name, others @ ..], [service, rest @ ..]) = (left, services) {
        let mut text = [0; LONGEST + 1];
        let length = service.name.len();
        assert!(length <= LONGEST, "a name of a service is too long");
        text.split_at_mut(length)
            .0
            .copy_from_slice(service.name.as_bytes());
        *name = words(&text);
        (left, services) = (others, rest);
    }
    names
}

const fn words(text: &[u8; 8 * WORDS]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let (mut left, mut bytes) = (words.as_mut_slice(), text.as_slice());
    while let ([word, others @ ..], Some((first, rest))) = (left, bytes.split_first_chunk()) {
        *word = u64::from_le_bytes(*first);
        (left, bytes) = (others, rest);
    }
    words
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
            | offers(cpu.trace.is_possible(), FEATURE_TRACE),
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
