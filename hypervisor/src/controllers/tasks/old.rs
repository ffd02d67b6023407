//! The task that is left: what is saved of it, and where that goes.

use super::cause::Cause;
use super::linear::{Linear, Piece, WRITE};
use super::prepare::part;
use super::segments::NAMES;
use crate::instruction;
use crate::vm::Vm;
use machine::{Memory, Vcpu};
use x86::Exception;
use x86::control::Rflags;
use x86::exit::{Kind, TaskSource};
use x86::segment::{Segment, SegmentName};
use x86::task::{TASK_SIZE, TaskState, TaskWidth};

/// The old task.
pub struct Old {
    pub selector: u16,
    state: TaskState,
    width: TaskWidth,
    /// The bytes of its TSS that leaving it writes.
    place: Piece,
}

impl Old {
    /// Finds what is needed to leave the task that `vcpu` runs.
    pub fn find<V: Vcpu, M: Memory>(
        vm: &Vm<M>,
        vcpu: &V,
        linear: &Linear<M>,
        cause: &Cause,
    ) -> Result<Self, Exception> {
        let task = vcpu.segment(SegmentName::Tr);
        Ok(Self {
            selector: task.selector,
            width: TaskWidth::from_rights(task.rights),
            place: place(linear, &task, cause)?,
            state: state(vm, vcpu, cause)?,
        })
    }

    /// Saves the task in its TSS. What lies between the fields stays.
    pub fn save<M: Memory>(&self, linear: &Linear<M>) {
        let saved = self.width.saved();
        let mut bytes = [0; TASK_SIZE];
        let between = bytes.get_mut(saved.clone()).unwrap_or(&mut []);
        let _ = linear.load(self.place, between);
        self.state.save(self.width, &mut bytes);
        linear.store(self.place, bytes.get(saved).unwrap_or(&[]));
    }
}

fn place<M: Memory>(linear: &Linear<M>, task: &Segment, cause: &Cause) -> Result<Piece, Exception> {
    let saved = TaskWidth::from_rights(task.rights).saved();
    if (task.limit as usize) < saved.end - 1 {
        return Err(cause.invalid(task.selector));
    }
    let at = (task.base as u32).wrapping_add(saved.start as u32);
    let place = linear.find(at, saved.len(), WRITE)?;
    linear.load(place, part(&mut [0; TASK_SIZE], saved.len()))?;
    Ok(place)
}

/// An instruction that asked for the switch is behind the old task; an event
/// came where it stands.
fn state<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &V, cause: &Cause) -> Result<TaskState, Exception> {
    let length = match (
        cause.is_instruction(),
        vcpu.instruction_length(Kind::TaskSwitch),
    ) {
        (false, _) => 0,
        (true, Some(length)) => length,
        (true, None) => instruction::decoded_length(vm, vcpu, Kind::TaskSwitch)?,
    };
    let returned = match cause.source {
        TaskSource::Iret => Rflags::NT,
        _ => Rflags::empty(),
    };
    Ok(TaskState {
        eip: vcpu.rip().wrapping_add(length) as u32,
        eflags: (vcpu.rflags() - returned).bits() as u32,
        general: [0, 1, 2, 3, 4, 5, 6, 7].map(|number| vcpu.general(number) as u32),
        segments: NAMES.map(|name| vcpu.segment(name).selector),
        ..TaskState::default()
    })
}
