//! What the tasks note, and in which order.

use crate::layout::*;

/// What a task found. CR0, CR3 and DR7 are 0 where it may not read them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub general: [u32; 8],
    pub eflags: u32,
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [u32; 6],
    pub tr: u32,
    pub ldtr: u32,
    pub cr0: u32,
    pub cr3: u32,
    pub dr6: u32,
    pub dr7: u32,
    /// On top of its stack.
    pub top: u32,
    /// In the window.
    pub sight: u32,
    /// EIP and EFLAGS in the main task's TSS.
    pub saved: [u32; 2],
    /// The access bytes of all tasks' descriptors, from MAIN on.
    pub access: [u8; 16],
}

impl Note {
    pub fn is_busy(&self, selector: u16) -> bool {
        self.access[usize::from(selector - MAIN) / 8] & 2 != 0
    }
}

/// The order in which the tasks note.
pub const ORDER: [u16; 27] = [
    MAIN, TASK_A, TASK_B, TASK_A, MAIN, TASK_B, MAIN, TASK_16, TASK_A, TASK_16, MAIN, TASK_16,
    MAIN, UNDEFINED, MAIN, PROTECTION, MAIN, INTERRUPT, MAIN, ABSENT_16, MAIN, PROTECTION, MAIN,
    UNDEFINED, MAIN, USER, MAIN,
];
/// And, where faults in a new task are raised as they should be, further: its
/// DS, CS, SS and LDT are wrong in turn.
pub const ORDER_OF_FAULTS: [u16; 15] = [
    INVALID, FAULTY, MAIN, INVALID, FAULTY, MAIN, INVALID, FAULTY, MAIN, INVALID, FAULTY, MAIN,
    TRAPPED, TRAPPED, MAIN,
];
