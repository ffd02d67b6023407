//! Services that break the hypervisor, or show its insides: only in the build
//! with the feature `breakable`, for the tests.

use super::Failure;
use crate::caller::Caller;
use crate::peers;
use crate::vm::{Cpu, Vm};
use abi::Errno;
use core::sync::atomic::Ordering;
use machine::{Memory, Vcpu, breakable};
use x86::{Gpa, Gva};

/// The first number; the others follow.
const FIRST: u64 = 0xb000;

/// RBX = row of the vendor's table of breakages; RAX = a packed
/// [`x86::broken::Trial`].
const BREAK_ENTRY: u64 = 0x10;
/// RAX = entries that were checked before they were tried, or 0 if one broke a
/// rule.
const CHECKED_ENTRIES: u64 = 0x11;
/// The entry after this call fails.
const BREAK_NEXT_ENTRY: u64 = 0x12;

/// RAX = the byte at RBX, fetched as code of the caller's.
const FETCH: u64 = 0x5;

/// As the emulator fetches an instruction.
fn fetch<V: Vcpu, M: Memory>(cpu: &mut Cpu<V>, caller: &Caller<M>) -> Result<u64, Failure> {
    let gva = Gva(caller.argument(cpu.vcpu.registers().rbx));
    let mut byte = [0];
    let fetched = caller.fetch_page(gva, &mut byte);
    fetched.map_err(|denied| Failure::denied(caller, gva, denied))?;
    cpu.vcpu.pause_entry_checks();
    let [byte] = byte;
    Ok(byte.into())
}

fn checked_entries<V: Vcpu>(cpu: &Cpu<V>) -> u64 {
    let checked = cpu.vcpu.checked_entries();
    log::info!(
        "{} entries were checked before they were tried, {} rules broken",
        checked.entries,
        checked.broken
    );
    if checked.broken == 0 {
        checked.entries
    } else {
        0
    }
}

/// Serves what is not in the table.
#[allow(clippy::panic)]
pub fn serve<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    caller: &Caller<M>,
    number: u64,
) -> Result<u64, Failure> {
    match number.wrapping_sub(FIRST) {
        0 => Ok(breakable::forbidden_accesses()),
        1 => {
            breakable::execute_data();
            Ok(0)
        }
        2 => Ok(breakable::exhaust_stack(0)),
        3 => panic!("as the test asked"),
        BREAK_ENTRY => {
            let trial = cpu.vcpu.enter_broken(cpu.vcpu.registers().rbx as usize);
            let trial = trial.ok_or(Failure::Refused(Errno::InvalidArgument))?;
            Ok(trial.pack())
        }
        CHECKED_ENTRIES => Ok(checked_entries(cpu)),
        BREAK_NEXT_ENTRY => {
            cpu.vcpu.break_next_entry();
            Ok(0)
        }
        4 => mirror(vm, cpu),
        FETCH => fetch(cpu, caller),
        _ => Err(Failure::Refused(Errno::NoService)),
    }
}

/// Makes the page at RBX show the one at RCX, by emulation of every access.
fn mirror<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Result<u64, Failure> {
    let registers = cpu.vcpu.registers();
    let pages = [registers.rbx, registers.rcx].map(|at| Gpa(at).page());
    for (slot, page) in vm.mirror.iter().zip(pages) {
        slot.store(page.0, Ordering::Relaxed);
    }
    let [page, _] = pages;
    peers::alone(vm, cpu, |cpu| {
        let watched = vm.memory.watch(page);
        cpu.vcpu.flush_nested();
        watched.map_err(|_| Failure::Refused(Errno::InvalidArgument))
    })?;
    cpu.vcpu.pause_entry_checks();
    Ok(0)
}
