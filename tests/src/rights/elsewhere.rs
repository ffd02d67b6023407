//! Page tables, and pages, that are no memory of the guest's own: Underlay's, a
//! device's, nobody's. A call must not follow them.

use super::case::{Access, Case};
use super::compare::{Bench, Verdict};
use super::mode::{Features, Mode};
use super::shape::Shape;
use crate::Report;
use crate::attempt::GP;
use crate::machine::reserved_ranges;
use alloc::format;
use alloc::vec::Vec;

/// The local APIC's page, where it is after reset.
const DEVICE: u64 = 0xfee0_0000;
/// Above all memory and all devices.
const NOWHERE: u64 = 1 << 38;

/// Calls with tables of every level, and the page itself, elsewhere. A program
/// gets #GP: no page that the system could bring in would help. A kernel gets
/// -EFAULT.
pub fn check(report: &mut Report, bench: &mut Bench, features: &Features) {
    let ranges = reserved_ranges();
    report.holds("Underlay has a region", !ranges.is_empty());
    let mut places: Vec<u64> = ranges.iter().map(|range| range.base).collect();
    places.push(DEVICE);
    for mode in [
        Mode::Four,
        Mode::Five,
        Mode::Compatible,
        Mode::Pae,
        Mode::Narrow,
    ] {
        let highest = mode.levels() - usize::from(mode == Mode::Pae);
        let beyond = (mode != Mode::Narrow).then_some(NOWHERE);
        for place in places.iter().copied().chain(beyond) {
            if !features.has(mode) {
                continue;
            }
            let refused = (1..=highest).all(|level| is_refused(bench, mode, level, place));
            report.holds(format!("{mode}: no call goes to {place:#x}"), refused);
        }
    }
}

/// Whether calls are refused whose entry of `level` points to `place`.
fn is_refused(bench: &mut Bench, mode: Mode, level: usize, place: u64) -> bool {
    let mut shape = Shape::default();
    shape.flips[level - 1] = bench.space.target(mode, level, level == 1) ^ place;
    let cases = [Access::Read, Access::Write]
        .into_iter()
        .flat_map(|access| {
            [0, 3].map(|privilege| Case {
                access,
                shape,
                level: privilege,
                ..Case::plain(mode)
            })
        });
    cases.into_iter().all(|case| {
        let seen = bench.called(&case);
        let expected = match case.level {
            0 => Verdict::BadAddress(bench.linear(&case)),
            _ => Verdict::Fault {
                vector: GP,
                error: 0,
                address: 0,
            },
        };
        seen.verdict == expected && seen.arrived == bench.right(&case, &seen)
    })
}
