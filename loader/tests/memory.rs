//! Where memory ends and where the region goes, for random memory maps.

use loader::memory::{Kind, Range, end, largest, places, ranges};
use proptest::prelude::*;

const ALIGN: u64 = 2 << 20;
const GIB: u64 = 1 << 30;

fn range() -> impl Strategy<Value = Range> {
    let kind = prop_oneof![Just(Kind::Free), Just(Kind::Used), Just(Kind::Other)];
    (0..6 * GIB, 0..GIB, kind).prop_map(|(start, size, kind)| Range {
        start: start & !0xfff,
        end: (start + size) & !0xfff,
        kind,
    })
}

proptest! {
    #[test]
    fn a_place_is_aligned_free_and_below_4_gib(
        map in prop::collection::vec(range(), 0..20),
        pages in 1u64..64,
    ) {
        let size = pages * ALIGN;
        let places = places(&map, size, ALIGN);
        for &base in &places {
            prop_assert_eq!(base % ALIGN, 0);
            prop_assert!(base > 0 && base + size <= 4 * GIB);
            prop_assert!(map.iter().any(|range| range.kind == Kind::Free
                && range.start <= base
                && base + size <= range.end));
        }
        prop_assert!(places.is_sorted_by(|one, other| one >= other));
        prop_assert_eq!(places.is_empty(), largest(&map, ALIGN) < size);
    }
}

proptest! {
    /// Each byte of the named ranges is memory in the map, and each byte of
    /// memory is named, unless there are too many ranges.
    #[test]
    fn the_ranges_of_a_handoff_are_the_memory_of_the_map(
        map in prop::collection::vec(range(), 0..12),
        probes in prop::collection::vec(0..7 * GIB, 64),
    ) {
        let named = ranges(&map);
        let edges = map.iter().flat_map(|range| [range.start, range.end.wrapping_sub(1), range.end]);
        for at in probes.into_iter().chain(edges) {
            let is_named = named.iter().any(|range| range.start <= at && at < range.end);
            let is_memory = map.iter().any(|range| range.kind != Kind::Other
                && range.start <= at
                && at < range.end);
            prop_assert_eq!(is_named, is_memory, "{:#x}", at);
        }
    }
}

#[test]
fn too_many_ranges_lose_the_smallest() {
    let size = |index: u64| if index == 3 { 0x1000 } else { 0x2000 };
    let map: Vec<Range> = (0..17)
        .map(|index| Range {
            start: index * GIB,
            end: index * GIB + size(index),
            kind: Kind::Free,
        })
        .collect();
    let named = ranges(&map);
    assert!(
        named
            .iter()
            .all(|range| range.start != 3 * GIB && range.end > range.start)
    );
    assert!(named.is_sorted_by_key(|range| range.start));
}

#[test]
fn memory_ends_with_memory_and_not_with_devices() {
    let range = |start, end, kind| Range { start, end, kind };
    let map = [
        range(0, GIB, Kind::Free),
        range(4 * GIB, 5 * GIB, Kind::Used),
        range(1 << 40, (1 << 40) + GIB, Kind::Other),
    ];
    assert_eq!(end(&map), 5 * GIB);
    assert_eq!(places(&map, ALIGN, ALIGN), [GIB - ALIGN]);
}
