//! Hardware tasks, of 32 and of 16 bits, by every way that leads from one to
//! another: JMP, CALL, IRET, task gates in the GDT and in the IDT. Under VT-x
//! each of these is emulated.
//!
//! The program leaves long mode, and comes back when all tasks have run. Each
//! task notes what it finds in its registers; the notes are compared here.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

mod checks;
mod code;
mod layout;
mod notes;
mod tables;

use alloc::format;
use alloc::vec::Vec;
use code::offset;
use core::mem::transmute;
use layout::{BASE, NOTES, PAGES};
use notes::{Note, ORDER, ORDER_OF_FAULTS};
use tests::Report;
use tests::machine::switches_tasks_exactly;
use tests::uefi::boot::{self, AllocateType, MemoryType};

tests::guest!(check);

/// How the tasks' memory is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Unpaged,
    /// By 32-bit paging.
    Narrow,
    /// By paging with physical-address extension.
    Pae,
}

fn check(report: &mut Report) {
    let place = AllocateType::Address(BASE);
    if boot::allocate_pages(place, MemoryType::LOADER_CODE, PAGES).is_err() {
        return report.holds("low memory is free", false);
    }
    for mode in [Mode::Unpaged, Mode::Narrow, Mode::Pae] {
        let notes = run(mode);
        let found: Vec<u16> = notes.iter().map(|note| note.tr as u16).collect();
        let mut expected = ORDER.to_vec();
        if switches_tasks_exactly() {
            expected.extend(ORDER_OF_FAULTS);
        }
        let alike = found == expected;
        report.equal(format!("{mode:?}: the tasks run in order"), found, expected);
        if alike {
            checks::compare(&mut checks::Checks {
                report,
                mode,
                notes,
            });
        }
    }
}

fn run(mode: Mode) -> Vec<Note> {
    // SAFETY: the pages are ours, and nothing else uses them.
    unsafe { core::ptr::write_bytes(BASE as *mut u8, 0, PAGES * 4096) };
    let size = offset!(task_end);
    // SAFETY: the block between the symbols is code and data of this program.
    unsafe { core::ptr::copy_nonoverlapping(&raw const code::task_start, BASE as *mut u8, size) };
    tables::write(mode);
    let cr4 = if mode == Mode::Pae { 1 << 5 } else { 0 };
    let rest = match switches_tasks_exactly() {
        true => offset!(task_faults),
        false => offset!(task_done),
    };
    tables::put(BASE + offset!(task_rest) as u64, BASE as u32 + rest as u32);
    tables::put(BASE + offset!(task_cr4) as u64, cr4);
    tables::put(
        BASE + offset!(task_paging) as u64,
        u32::from(mode != Mode::Unpaged) << 31,
    );
    // SAFETY: the code at BASE comes back with the machine as it was.
    let end = unsafe {
        let enter: unsafe extern "sysv64" fn() -> u64 = transmute(BASE);
        enter()
    };
    let count = (end - NOTES) as usize / size_of::<Note>();
    // SAFETY: the tasks wrote that many notes.
    unsafe { core::slice::from_raw_parts(NOTES as *const Note, count) }.to_vec()
}
