//! VM-exit controls: Intel SDM volume 3, "Checks on VMX Controls", "VM-Exit
//! Control Fields".

use super::execution_controls::has_all;
use super::{Rule, Section, rule};
use crate::vtx::control::{exit, pin};
use crate::vtx::field;

pub(super) const SECTION: Section = Section {
    title: "VM-Exit Control Fields",
    rules: &[WORDS, STORES, LOADS],
};

const WORDS: &[Rule] = &[
    rule(
        "exit-controls-required",
        field::EXIT_CONTROLS,
        "all bits that IA32_VMX_(TRUE_)EXIT_CTLS requires",
        |v| has_all(v, field::EXIT_CONTROLS, v.capabilities.exit.must()),
    ),
    rule(
        "exit-controls-allowed",
        field::EXIT_CONTROLS,
        "only bits that IA32_VMX_(TRUE_)EXIT_CTLS allows",
        |v| v.clear(field::EXIT_CONTROLS, !u64::from(v.capabilities.exit.may())),
    ),
    rule(
        "secondary-exit-controls-allowed",
        field::SECONDARY_EXIT_CONTROLS,
        "only bits that IA32_VMX_EXIT_CTLS2 allows",
        |v| {
            let may = v.capabilities.secondary_exit;
            !v.exit(exit::SECONDARY) || v.clear(field::SECONDARY_EXIT_CONTROLS, !may)
        },
    ),
    rule(
        "save-timer-needs-timer",
        field::EXIT_CONTROLS,
        "save VMX-preemption timer value (bit 22) only with the timer",
        |v| !v.exit(exit::SAVE_PREEMPTION_TIMER) || v.pin(pin::PREEMPTION_TIMER),
    ),
];

/// Three rules for each list of MSRs that has entries: its address, and where
/// it ends.
macro_rules! msr_area {
    ($name:literal $area:ident $count:ident) => {
        &[
            $crate::vtx::checks::rule(
                concat!($name, "-aligned"),
                $crate::vtx::field::$area,
                "an address whose low 4 bits are 0",
                |v| {
                    v.get($crate::vtx::field::$count) == 0
                        || v.clear($crate::vtx::field::$area, 0xf)
                },
            ),
            $crate::vtx::checks::rule(
                concat!($name, "-width"),
                $crate::vtx::field::$area,
                "an address within the CPU's physical-address width",
                |v| v.get($crate::vtx::field::$count) == 0 || v.fits($crate::vtx::field::$area),
            ),
            $crate::vtx::checks::rule(
                concat!($name, "-end"),
                $crate::vtx::field::$count,
                "a list that ends within the CPU's physical-address width",
                |v| {
                    v.get($crate::vtx::field::$count) == 0
                        || !v.fits($crate::vtx::field::$area)
                        || v.area_fits($crate::vtx::field::$area, $crate::vtx::field::$count)
                },
            ),
        ]
    };
}
pub(super) use msr_area;

const STORES: &[Rule] = msr_area!("exit-msr-store-area" EXIT_MSR_STORE_AREA EXIT_MSR_STORES);
const LOADS: &[Rule] = msr_area!("exit-msr-load-area" EXIT_MSR_LOAD_AREA EXIT_MSR_LOADS);
