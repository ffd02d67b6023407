//! Which CPUs there are, for the owner.

use super::Failure;
use crate::buffer::write_records;
use crate::caller::Caller;
use crate::counted;
use crate::reply::Reply;
use crate::trace::Trace;
use crate::vm::{Cpu, Vm};
use abi::record::CpuRecord;
use machine::{Memory, Vcpu};
use x86::startup::{Life, State};

/// Writes what there is of the CPUs from number `first` on, as far as there is
/// room.
pub fn read<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &Cpu<V>,
    caller: &Caller<M>,
    room: [u64; 2],
    first: u64,
) -> Result<Reply, Failure> {
    let records = (0..vm.cpus).map(|number| about(vm, cpu, number).to_bytes());
    let written = write_records(caller, room, records, first)?;
    let here = u64::from(cpu.number);
    Ok(Reply::from(written).rbx(vm.cpus.into()).rcx(here))
}

fn about<V, M>(vm: &Vm<M>, cpu: &Cpu<V>, number: u32) -> CpuRecord {
    let (apic, state) = vm
        .peers
        .place(number)
        .unwrap_or((0, State::Running(Life::Up)));
    let counted = counted::of(vm, cpu, number.into());
    CpuRecord {
        number,
        apic,
        state: match state {
            State::Running(_) => 0,
            State::Waiting => 1,
            State::Init | State::Started(_) => 2,
        },
        trace: counted.map_or(0, |counted| tracing(&counted.trace)),
        exits: counted.map_or(0, |counted| counted.statistics.total()),
    }
}

fn tracing(trace: &Trace) -> u32 {
    match trace.is_possible() {
        true => 1 + u32::from(trace.is_on()),
        false => 0,
    }
}
