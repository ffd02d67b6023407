//! VM-entry controls and the event to inject: Intel SDM volume 3, "Checks on
//! VMX Controls", "VM-Entry Control Fields".

use super::execution_controls::has_all;
use super::exit_controls::msr_area;
use super::view::View;
use super::{Rule, Section, rule};
use crate::control::Cr0;
use crate::event;
use crate::vtx::control::{entry, processor};
use crate::vtx::field;

pub(super) const SECTION: Section = Section {
    title: "VM-Entry Control Fields",
    rules: &[WORDS, EVENT, LOADS],
};

const WORDS: &[Rule] = &[
    rule(
        "entry-controls-required",
        field::ENTRY_CONTROLS,
        "all bits that IA32_VMX_(TRUE_)ENTRY_CTLS requires",
        |v| has_all(v, field::ENTRY_CONTROLS, v.capabilities.entry.must()),
    ),
    rule(
        "entry-controls-allowed",
        field::ENTRY_CONTROLS,
        "only bits that IA32_VMX_(TRUE_)ENTRY_CTLS allows",
        |v| {
            let may = u64::from(v.capabilities.entry.may());
            v.clear(field::ENTRY_CONTROLS, !may)
        },
    ),
    rule(
        "entry-to-smm-outside-smm",
        field::ENTRY_CONTROLS,
        "bit 10 is 0, as the CPU is not in system-management mode",
        |v| !v.entry(entry::TO_SMM),
    ),
    rule(
        "dual-monitor-outside-smm",
        field::ENTRY_CONTROLS,
        "bit 11 is 0, as the CPU is not in system-management mode",
        |v| !v.entry(entry::DEACTIVATE_DUAL_MONITOR),
    ),
    rule(
        "smm-and-dual-monitor",
        field::ENTRY_CONTROLS,
        "not both of bits 10 and 11",
        |v| !v.entry(entry::TO_SMM) || !v.entry(entry::DEACTIVATE_DUAL_MONITOR),
    ),
];

/// IA32_VMX_BASIC: an exception of any vector may come with an error code.
const ANY_ERROR_CODE: u64 = 1 << 56;
/// IA32_VMX_MISC: an injected instruction may have length 0.
const LENGTH_ZERO: u64 = 1 << 30;

/// Vectors of exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF,
/// #AC; #CP where the CPU has it counts as one that may.
const WITH_ERROR_CODE: u32 = 1 << 8 | 0x1f << 10 | 1 << 17;

/// Types of events.
pub(super) const EXTERNAL_INTERRUPT: u32 = 0;
const RESERVED: u32 = 1 << 8;
const SOFTWARE: core::ops::RangeInclusive<u32> = 4 << 8..=6 << 8;
pub(super) const OTHER: u32 = 7 << 8;

/// Whether `holds` of the event, or none is to be injected.
fn of_event(view: &View<'_>, holds: fn(&View<'_>, u32, u32) -> bool) -> bool {
    let event = view.event();
    event.is_none_or(|word| holds(view, word & event::TYPE_MASK, word & 0xff))
}

fn delivers_code(view: &View<'_>) -> bool {
    view.event()
        .is_some_and(|word| word & event::ERROR_CODE != 0)
}

/// Whether the CPU is in real mode when it delivers the event.
fn is_real(view: &View<'_>) -> bool {
    view.unrestricted() && !view.cr0(Cr0::PE)
}

const EVENT: &[Rule] = &[
    rule(
        "event-type-reserved",
        field::ENTRY_EVENT,
        "a type (bits 10 to 8) other than 1, and 7 only with the monitor trap flag",
        |v| {
            of_event(v, |v, kind, _| {
                let has_trap = v.capabilities.processor.may() & processor::MONITOR_TRAP != 0;
                kind != RESERVED && (kind != OTHER || has_trap)
            })
        },
    ),
    rule(
        "event-nmi-vector",
        field::ENTRY_EVENT,
        "vector 2 for an NMI",
        |v| of_event(v, |_, kind, vector| kind != event::TYPE_NMI || vector == 2),
    ),
    rule(
        "event-exception-vector",
        field::ENTRY_EVENT,
        "a vector of at most 31 for a hardware exception",
        |v| {
            of_event(v, |_, kind, vector| {
                kind != event::TYPE_EXCEPTION || vector < 32
            })
        },
    ),
    rule(
        "event-other-vector",
        field::ENTRY_EVENT,
        "vector 0 for another event, which is a pending MTF exit",
        |v| of_event(v, |_, kind, vector| kind != OTHER || vector == 0),
    ),
    rule(
        "event-code-not-for-this-type",
        field::ENTRY_EVENT,
        "an error code (bit 11) only for a hardware exception",
        |v| !delivers_code(v) || v.injects(event::TYPE_EXCEPTION),
    ),
    rule(
        "event-code-not-in-real-mode",
        field::ENTRY_EVENT,
        "no error code (bit 11), as CR0.PE is 0",
        |v| !delivers_code(v) || !is_real(v),
    ),
    rule(
        "event-code-not-for-this-vector",
        field::ENTRY_EVENT,
        "an error code (bit 11) only for a vector that has one",
        |v| !delivers_code(v) || !v.injects(event::TYPE_EXCEPTION) || may_have_code(v),
    ),
    rule(
        "event-code-missing",
        field::ENTRY_EVENT,
        "an error code (bit 11), which this exception has",
        |v| {
            let optional = v.capabilities.basic & ANY_ERROR_CODE != 0 || is_real(v);
            !v.injects(event::TYPE_EXCEPTION) || delivers_code(v) || optional || !has_code(v)
        },
    ),
    rule(
        "event-reserved",
        field::ENTRY_EVENT,
        "bits 30 to 12 are 0",
        |v| v.event().is_none_or(|word| word & 0x7fff_f000 == 0),
    ),
    rule(
        "event-code-reserved",
        field::ENTRY_EVENT_CODE,
        "an error code whose bits 31 to 16 are 0",
        |v| !delivers_code(v) || v.clear(field::ENTRY_EVENT_CODE, 0xffff_0000),
    ),
    rule(
        "event-instruction-length",
        field::ENTRY_INSTRUCTION_LENGTH,
        "1 to 15, or 0 where IA32_VMX_MISC bit 30 allows it",
        |v| {
            of_event(v, |v, kind, _| {
                match v.get(field::ENTRY_INSTRUCTION_LENGTH) {
                    _ if !SOFTWARE.contains(&kind) => true,
                    0 => v.capabilities.misc & LENGTH_ZERO != 0,
                    length => length <= 15,
                }
            })
        },
    ),
];

fn has_code(view: &View<'_>) -> bool {
    let vector = view.get(field::ENTRY_EVENT) as u32 & 0xff;
    vector < 32 && WITH_ERROR_CODE >> vector & 1 != 0
}

/// Vector 21 is #CP, which only a CPU with control-flow enforcement has; such a
/// CPU allows a code with any vector.
fn may_have_code(view: &View<'_>) -> bool {
    has_code(view) || view.capabilities.basic & ANY_ERROR_CODE != 0
}

const LOADS: &[Rule] = msr_area!("entry-msr-load-area" ENTRY_MSR_LOAD_AREA ENTRY_MSR_LOADS);
