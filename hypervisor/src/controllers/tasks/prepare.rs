//! A switch up to its commit point. Everything that can go wrong with the two
//! task-state segments and their descriptors is looked for before the first
//! byte is written.

use super::cause::Cause;
use super::linear::{Linear, Piece, READ, WRITE};
use super::old::Old;
use crate::vm::Vm;
use machine::{Memory, Vcpu};
use x86::control::Cr0;
use x86::exit::TaskSource;
use x86::segment::{BUSY, CODE_OR_DATA, PRESENT, Segment};
use x86::task::{TASK_SIZE, TaskState, TaskWidth};
use x86::{Exception, Gpa};

/// The type of an available TSS of 16 bits; one of 32 bits has bit 3 too.
const AVAILABLE_TASK: u32 = 1;
const WIDE_TASK: u32 = 1 << 3;
const TYPE: u32 = 0xf | CODE_OR_DATA;
/// The byte of a descriptor that holds its type.
const TYPE_BYTE: u32 = 5;

/// A switch that nothing stands against.
pub struct Prepared<'a, M> {
    linear: Linear<'a, M>,
    /// The new task's TSS, busy.
    pub task: Segment,
    pub width: TaskWidth,
    /// The whole of it.
    new: Piece,
    old: Old,
    /// Where the old task's selector goes, if the new one returns to it.
    link: Option<Piece>,
    /// The descriptors' bytes in which the busy bits change.
    free: Option<Gpa>,
    occupy: Option<Gpa>,
    /// The new task's page tables, where it has its own.
    pub root: Option<Root>,
}

/// CR3, and what is loaded along with it in PAE mode.
pub struct Root {
    pub cr3: u64,
    pub pdptes: Option<[u64; 4]>,
}

/// Checks everything that is checked before the commit point.
pub fn prepare<'a, V: Vcpu, M: Memory>(
    vm: &'a Vm<M>,
    vcpu: &V,
    cause: &Cause,
) -> Result<Prepared<'a, M>, Exception> {
    let linear = Linear::new(vm, vcpu);
    let task = new_task(&linear, vcpu, cause)?;
    let width = TaskWidth::from_rights(task.rights);
    let base = task.base as u32;
    let new = linear.find(base, width.size(), READ)?;
    let mut bytes = [0; TASK_SIZE];
    linear.load(new, part(&mut bytes, width.size()))?;
    let link = match cause.nests() {
        true => Some(linear.find(base, 2, WRITE)?),
        false => None,
    };
    let old = Old::find(vm, vcpu, &linear, cause)?;
    let byte = |selector, wanted: bool| match wanted {
        true => linear.find_byte(type_byte(vcpu, selector)).map(Some),
        false => Ok(None),
    };
    Ok(Prepared {
        free: byte(old.selector, cause.frees_old())?,
        occupy: byte(cause.selector, cause.source != TaskSource::Iret)?,
        root: new_root(&linear, width, &TaskState::load(width, &bytes))?,
        linear,
        task,
        width,
        new,
        old,
        link,
    })
}

/// The new task's TSS from its descriptor. The CPU has made these checks before
/// the exit; another CPU may have written since.
fn new_task<V: Vcpu, M: Memory>(
    linear: &Linear<M>,
    vcpu: &V,
    cause: &Cause,
) -> Result<Segment, Exception> {
    const LOCAL: u16 = 1 << 2;
    let outside = u32::from(cause.selector | 7) > vcpu.gdt().limit;
    if outside || cause.selector & LOCAL != 0 {
        return Err(cause.wrong_task());
    }
    let at = descriptor(vcpu, cause.selector);
    let low = u64::from_le_bytes(linear.read(at)?);
    let task = Segment::from_descriptor(cause.selector, low, 0);
    let busy = match cause.source {
        TaskSource::Iret => BUSY,
        _ => 0,
    };
    if task.rights & TYPE & !WIDE_TASK != AVAILABLE_TASK | busy {
        return Err(cause.wrong_task());
    }
    if task.rights & PRESENT == 0 {
        return Err(Exception::SegmentNotPresent(cause.code(cause.selector)));
    }
    if (task.limit as usize) < TaskWidth::from_rights(task.rights).size() - 1 {
        return Err(cause.invalid(cause.selector));
    }
    Ok(Segment {
        rights: task.rights | BUSY,
        ..task
    })
}

fn descriptor<V: Vcpu>(vcpu: &V, selector: u16) -> u32 {
    (vcpu.gdt().base as u32).wrapping_add(u32::from(selector & !7))
}

fn type_byte<V: Vcpu>(vcpu: &V, selector: u16) -> u32 {
    descriptor(vcpu, selector).wrapping_add(TYPE_BYTE)
}

/// CR3 of the new task, where it has one of its own. What the CPU refuses to
/// load beside it is refused while the old task can still handle that.
fn new_root<M: Memory>(
    linear: &Linear<M>,
    width: TaskWidth,
    state: &TaskState,
) -> Result<Option<Root>, Exception> {
    let paging = &linear.paging;
    if width == TaskWidth::Bits16 || !paging.cr0.contains(Cr0::PG) {
        return Ok(None);
    }
    let cr3 = u64::from(state.cr3);
    let pdptes = match paging.loads_pdptes() {
        true => Some(
            paging
                .load_pdptes(cr3, linear.memory)
                .ok_or(Exception::GeneralProtection(0))?,
        ),
        false => None,
    };
    Ok(Some(Root { cr3, pdptes }))
}

/// The first `size` bytes.
pub fn part(bytes: &mut [u8; TASK_SIZE], size: usize) -> &mut [u8] {
    bytes.get_mut(..size).unwrap_or(&mut [])
}

impl<M: Memory> Prepared<'_, M> {
    /// Leaves the old task, marks the new one as running, and reads its state:
    /// in the manual's order, which shows where the two segments or the tables
    /// overlap.
    pub fn commit(&self) -> TaskState {
        let linear = &self.linear;
        if let Some(byte) = self.free {
            linear.change_byte(byte, BUSY as u8, 0);
        }
        self.old.save(linear);
        if let Some(link) = self.link {
            linear.store(link, &self.old.selector.to_le_bytes());
        }
        if let Some(byte) = self.occupy {
            linear.change_byte(byte, 0, BUSY as u8);
        }
        let mut bytes = [0; TASK_SIZE];
        let _ = linear.load(self.new, part(&mut bytes, self.width.size()));
        TaskState::load(self.width, &bytes)
    }
}
