//! A switch from its commit point on: the new task's registers are loaded, and
//! what was being delivered reaches its stack.

use super::cause::Cause;
use super::linear::{Linear, WRITE};
use super::prepare::Prepared;
use super::segments::{Context, NAMES, load_virtual_8086, unload};
use crate::vm::Vm;
use machine::{Memory, Vcpu};
use x86::Exception;
use x86::control::{DR6_TASK_SWITCH, DR7_LOCAL, Rflags};
use x86::segment::{CODE, DEFAULT_BIG, EXPAND_DOWN, Segment, SegmentName, UNUSABLE};
use x86::task::TaskState;
use x86::walk::Intent;

/// Lets the new task begin. What is wrong with it is raised in it.
pub fn begin<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    vcpu: &mut V,
    cause: &Cause,
    prepared: &Prepared<M>,
    state: &TaskState,
) -> Result<(), Exception> {
    if let Some(root) = &prepared.root {
        vcpu.set_cr3(root.cr3, root.pdptes);
    }
    vcpu.set_segment(SegmentName::Tr, prepared.task);
    load_registers(vcpu, cause, state);
    if cause.is_nmi() {
        vcpu.block_nmis(true);
    }
    load_segments(vm, vcpu, cause, state)?;
    if let Some(error) = cause.error {
        push(vm, vcpu, cause, prepared.width.register(), error)?;
    }
    let code = vcpu.segment(SegmentName::Cs);
    if vcpu.rip() > u64::from(code.limit) {
        return Err(Exception::GeneralProtection(cause.external()));
    }
    if state.trap {
        let status = vcpu.debug_register(6) | DR6_TASK_SWITCH;
        vcpu.set_debug_register(6, status);
        vcpu.inject(Exception::Debug);
    }
    Ok(())
}

fn load_registers<V: Vcpu>(vcpu: &mut V, cause: &Cause, state: &TaskState) {
    vcpu.note_task_switch();
    vcpu.clear_interrupt_shadow();
    let breakpoints = vcpu.debug_register(7) & !DR7_LOCAL;
    vcpu.set_debug_register(7, breakpoints);
    for (number, value) in (0..).zip(state.general) {
        vcpu.set_general(number, u64::from(value));
    }
    let nested = if cause.nests() {
        Rflags::NT
    } else {
        Rflags::empty()
    };
    vcpu.set_rip(u64::from(state.eip));
    vcpu.set_rflags(Rflags::from_bits_retain(u64::from(state.eflags)) | nested);
}

/// The selectors first, so that all of the task is there when a descriptor is
/// found to be wrong; then as many segments as can be, so that the handler of
/// the first fault finds a stack if there is one.
fn load_segments<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    vcpu: &mut V,
    cause: &Cause,
    state: &TaskState,
) -> Result<(), Exception> {
    unload(vcpu, state.segments, state.ldt);
    let virtual_8086 = vcpu.rflags().contains(Rflags::VM);
    if virtual_8086 {
        load_virtual_8086(vcpu, state.segments);
    }
    let context = Context {
        linear: Linear::new(vm, vcpu),
        cause,
    };
    let mut outcome = context.load_ldt(vcpu, state.ldt);
    if virtual_8086 {
        return outcome;
    }
    let [_, code, stack, ..] = state.segments;
    outcome = outcome.and(context.load_code(vcpu, code));
    outcome = outcome.and(context.load_stack(vcpu, stack));
    for (name, selector) in NAMES.into_iter().zip(state.segments) {
        if !matches!(name, SegmentName::Cs | SegmentName::Ss) {
            outcome = outcome.and(context.load_data(vcpu, name, selector));
        }
    }
    outcome
}

/// Pushes the error code, as wide as the new task's TSS is, with the rights
/// that the task has. Intel SDM volume 2, "INT n/INTO/INT3/INT1".
fn push<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    vcpu: &mut V,
    cause: &Cause,
    size: usize,
    error: u32,
) -> Result<(), Exception> {
    let stack = vcpu.segment(SegmentName::Ss);
    let mask = if stack.rights & DEFAULT_BIG != 0 {
        u32::MAX
    } else {
        0xffff
    };
    let pointer = vcpu.stack_pointer() as u32;
    let offset = pointer.wrapping_sub(size as u32) & mask;
    if !holds(&stack, offset, size as u32) {
        return Err(Exception::StackFault(cause.external()));
    }
    let linear = Linear {
        memory: &vm.memory,
        paging: vcpu.paging(),
    };
    let intent = Intent {
        user: vcpu.cpl() == 3,
        ..WRITE
    };
    let at = (stack.base as u32).wrapping_add(offset);
    let place = linear.find(at, size, intent)?;
    let mut bytes = [0; 4];
    let bytes = bytes.get_mut(..size).unwrap_or(&mut []);
    linear.load(place, bytes)?;
    for (to, from) in bytes.iter_mut().zip(error.to_le_bytes()) {
        *to = from;
    }
    linear.store(place, bytes);
    vcpu.set_stack_pointer(u64::from(pointer & !mask | offset));
    Ok(())
}

/// Whether `size` bytes at `offset` are inside a segment's limit.
const fn holds(segment: &Segment, offset: u32, size: u32) -> bool {
    let Some(last) = offset.checked_add(size - 1) else {
        return false;
    };
    let expands_down = segment.rights & (CODE | EXPAND_DOWN) == EXPAND_DOWN;
    let top = if segment.rights & DEFAULT_BIG != 0 {
        u32::MAX
    } else {
        0xffff
    };
    match (segment.rights & UNUSABLE, expands_down) {
        (UNUSABLE, _) => false,
        (_, true) => offset > segment.limit && last <= top,
        (_, false) => last <= segment.limit,
    }
}
