//! The builder on the desk: for random maps of memory types and regions, every
//! address is translated by following the entries as the CPU would.

use super::*;
use proptest::prelude::*;
use x86::mtrr::Variable;

const POOL_AT: u64 = 0x7000_0000;
const SCRAP_TABLE_AT: u64 = 0x6fff_e000;
const SCRAP_PAGE: u64 = 0x6fff_d000;

struct Built {
    nested: Nested,
    scrap_table: Table,
}

fn build(plan: Plan, mtrrs: &Mtrrs, tables: usize) -> Result<Built, OutOfTables> {
    let pool = Box::leak(vec![Table([!0; 512]); tables].into_boxed_slice());
    let mut scrap_table = Table::EMPTY;
    let nested = Nested::new(
        plan,
        mtrrs,
        (Hpa(POOL_AT), pool),
        (Hpa(SCRAP_TABLE_AT), &mut scrap_table),
        Hpa(SCRAP_PAGE),
    )?;
    Ok(Built {
        nested,
        scrap_table,
    })
}

impl Built {
    /// The leaf entry for `gpa` and the bytes that it covers, or None where
    /// nothing is mapped.
    fn leaf(&self, gpa: u64) -> Option<(u64, u64)> {
        let mut table = &self.nested.pool[0];
        for level in (1..=4).rev() {
            let entry = table.0[(gpa / span(level)) as usize & 511];
            if entry & 7 == 0 {
                return None;
            }
            if level == 1 || entry & LARGE != 0 {
                return Some((entry, span(level)));
            }
            let at = entry & ADDRESS;
            table = if at == SCRAP_TABLE_AT {
                &self.scrap_table
            } else {
                &self.nested.pool[self.nested.index_of(entry)]
            };
        }
        None
    }

    fn translate(&self, gpa: u64) -> Option<u64> {
        let (entry, size) = self.leaf(gpa)?;
        Some((entry & ADDRESS & !(size - 1)) | (gpa & (size - 1)))
    }
}

fn plan(format: Format) -> Plan {
    Plan {
        format,
        bits: 40,
        gib_pages: true,
        reserved: 0x3fe0_0000..0x4000_0000,
    }
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let format = prop::sample::select(vec![Format::Ept, Format::Npt]);
    (format, 33u32..37, any::<bool>(), 1u64..8192, 1u64..5).prop_map(
        |(format, bits, gib_pages, at, size)| {
            let at = at.min((1 << (bits - 21)) - size);
            Plan {
                format,
                bits,
                gib_pages,
                reserved: at << 21..(at + size) << 21,
            }
        },
    )
}

fn any_mtrrs() -> impl Strategy<Value = Mtrrs> {
    let kind = || prop::sample::select(vec![0u64, 1, 4, 5, 6]);
    let range = (kind(), 12u32..34, any::<u64>(), any::<bool>());
    (kind(), any::<bool>(), prop::collection::vec(range, 0..8)).prop_map(
        |(default, fixed, ranges)| {
            let mut mtrrs = Mtrrs::none();
            mtrrs.default_type = 1 << 11 | default | if fixed { 1 << 10 } else { 0 };
            mtrrs.fixed[2] = 0x0000_0000_0606_0606;
            for (slot, (kind, bits, at, valid)) in mtrrs.variable.iter_mut().zip(ranges) {
                // The mask reaches as far as any address here, as firmware's does.
                let mask = (!0u64 << bits) & 0xf_ffff_ffff_f000;
                let valid = if valid { 1 << 11 } else { 0 };
                *slot = Variable {
                    base: (at & mask) | kind,
                    mask: mask | valid,
                };
            }
            mtrrs
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_address_maps_to_itself_and_none_to_the_region(
        plan in any_plan(),
        mtrrs in any_mtrrs(),
        probes in prop::collection::vec(any::<u64>(), 64),
        open in any::<bool>(),
    ) {
        let mut built = build(plan.clone(), &mtrrs, 256).expect("enough tables");
        if open {
            built.nested.open_scrap().expect("enough");
        }
        let near = |at: u64| [at.wrapping_sub(1), at, at + 1];
        let edges = near(plan.reserved.start).into_iter().chain(near(plan.reserved.end));
        let mask = (1u64 << plan.bits) - 1;
        for gpa in probes.iter().map(|probe| probe & mask).chain(edges) {
            let translated = built.translate(gpa);
            let found = built.nested.find(gpa);
            prop_assert_eq!(found.rights.contains(&true), translated.is_some());
            if let Some((entry, size)) = built.leaf(gpa) {
                prop_assert_eq!((found.value, span(found.level)), (entry, size));
            }
            if plan.reserved.contains(&gpa) {
                let scrap = SCRAP_PAGE | (gpa & 0xfff);
                prop_assert_eq!(translated, open.then_some(scrap));
            } else if gpa <= mask {
                prop_assert_eq!(translated, Some(gpa));
            } else {
                prop_assert_eq!(translated, None);
            }
        }
    }

    /// In the region, too, once the scrap page shows there.
    #[test]
    fn watched_pages_are_gone_and_their_neighbours_are_not(
        mtrrs in any_mtrrs(),
        pages in prop::collection::vec(0u64..1 << 24, 0..WATCHED_MAX - 1),
        in_region in 0u64..512,
        open_first in any::<bool>(),
    ) {
        let plan = plan(Format::Ept);
        let bytes = abi::handoff::footprint::nested_tables(plan.bits, plan.gib_pages, 8);
        let tables = (bytes / PAGE_SIZE) as usize;
        let mut built = build(plan.clone(), &mtrrs, tables).expect("enough");
        if open_first {
            built.nested.open_scrap().expect("enough");
        }
        let pages: Vec<u64> = pages
            .into_iter()
            .map(|page| page * PAGE_SIZE)
            .chain([plan.reserved.start + in_region * PAGE_SIZE])
            .collect();
        for page in &pages {
            built.nested.watch(*page + 8, &mtrrs).expect("enough");
        }
        built.nested.open_scrap().expect("enough");
        for page in &pages {
            for gpa in [page.wrapping_sub(1), *page, page + 0xfff, page + 0x1000] {
                let watched = pages.contains(&(gpa & !0xfff));
                let below = gpa < 1 << plan.bits;
                let expected = if plan.reserved.contains(&gpa) {
                    SCRAP_PAGE | (gpa & 0xfff)
                } else {
                    gpa
                };
                let expected = (below && !watched).then_some(expected);
                prop_assert_eq!(built.translate(gpa), expected, "{:#x}", gpa);
            }
        }
    }

    #[test]
    fn ept_types_are_those_of_the_mtrrs(
        mtrrs in any_mtrrs(),
        probes in prop::collection::vec(0u64..1 << 35, 64),
    ) {
        let built = build(plan(Format::Ept), &mtrrs, 256).expect("enough tables");
        for gpa in probes.into_iter().chain((0..0x11_0000).step_by(0x1000)) {
            let Some((entry, _)) = built.leaf(gpa) else {
                prop_assert!(plan(Format::Ept).reserved.contains(&gpa));
                continue;
            };
            let page = gpa & !(PAGE_SIZE - 1);
            let kind = mtrrs.of_range(page, PAGE_SIZE).expect("one page, one type");
            prop_assert_eq!(entry >> 3 & 7, kind as u64, "at {:#x}", gpa);
        }
    }

    /// The loader reserves by a formula before the tables exist.
    #[test]
    fn the_footprint_suffices_for_sensible_ranges(
        (bits, gib_pages) in prop_oneof![(36u32..49, Just(true)), (33u32..38, Just(false))],
        mtrrs in any_mtrrs(),
    ) {
        let bytes = abi::handoff::footprint::nested_tables(bits, gib_pages, 8);
        let covered = abi::handoff::footprint::nested_bits(bits, gib_pages);
        let plan = Plan { bits: covered, gib_pages, ..plan(Format::Ept) };
        let built = build(plan, &mtrrs, (bytes / PAGE_SIZE) as usize);
        prop_assert!(built.is_ok());
    }
}

#[test]
fn the_scrap_page_is_not_executable() {
    for (format, forbidden, wanted) in [(Format::Ept, 4, 0), (Format::Npt, 1 << 63, 1 << 63)] {
        let mut built = build(plan(format), &Mtrrs::none(), 64).expect("enough");
        built.nested.open_scrap().expect("enough");
        let (entry, _) = built.leaf(0x3fe0_0000).expect("mapped");
        assert_eq!(entry & forbidden, wanted);
        assert_eq!(entry & 3, 3);
    }
}

#[test]
fn one_gigabyte_pages_are_used_where_nothing_finer_is_needed() {
    let built = build(plan(Format::Npt), &Mtrrs::none(), 8).expect("enough");
    assert_eq!(built.leaf(0x1_4000_0000).expect("mapped").1, 1 << 30);
    assert_eq!(built.leaf(0).expect("mapped").1, 2 << 20);
    assert_eq!(built.nested.tables(), 1 + 2 + 1);
}

#[test]
fn rebuilding_changes_types_and_keeps_the_scrap_open() {
    let mut built = build(plan(Format::Ept), &Mtrrs::none(), 64).expect("enough");
    built.nested.open_scrap().expect("enough");
    let mut mtrrs = Mtrrs::none();
    mtrrs.variable[0] = Variable {
        base: 0x5000_0000,
        mask: 1 << 11 | 0xff_f000_0000,
    };
    built.nested.rebuild(&mtrrs).expect("enough");
    assert_eq!(built.leaf(0x5000_0000).expect("mapped").0 >> 3 & 7, 0);
    assert_eq!(built.translate(0x3fe0_1008), Some(SCRAP_PAGE | 8));
}

#[test]
fn writes_to_a_device_exit_unless_they_are_let_through() {
    const DEVICE: u64 = 0xfee0_0000;
    let mtrrs = Mtrrs::none();
    for format in [Format::Ept, Format::Npt] {
        let mut built = build(plan(format), &mtrrs, 64).expect("enough");
        built.nested.watch_writes(DEVICE, &mtrrs).expect("enough");
        let tables = built.nested.tables();
        let rights = |built: &Built| built.nested.find(DEVICE | 0xb0).rights;
        for through in [false, true, false, true] {
            built.nested.let_writes_through(through);
            assert_eq!(rights(&built)[..2], [true, through]);
            assert_eq!(built.translate(DEVICE | 0xb0), Some(DEVICE | 0xb0));
            built.nested.rebuild(&mtrrs).expect("enough");
            assert_eq!(rights(&built)[..2], [true, through], "built anew");
        }
        assert_eq!(built.nested.tables(), tables);
    }
}

#[test]
fn nothing_is_let_through_where_nothing_is_watched() {
    let mut built = build(plan(Format::Ept), &Mtrrs::none(), 64).expect("enough");
    let before: Vec<Table> = built.nested.pool.to_vec();
    built.nested.let_writes_through(true);
    assert!(
        before
            .iter()
            .zip(&*built.nested.pool)
            .all(|(a, b)| a.0 == b.0)
    );
}

#[test]
fn a_page_too_many_to_watch_changes_nothing() {
    let mtrrs = Mtrrs::none();
    let mut built = build(plan(Format::Ept), &mtrrs, 64).expect("enough");
    for page in 0..WATCHED_MAX as u64 {
        built.nested.watch(page << 12, &mtrrs).expect("room");
    }
    assert_eq!(built.nested.watch(1 << 30, &mtrrs), Err(OutOfTables));
    assert_eq!(built.translate(1 << 30), Some(1 << 30));
    assert_eq!(built.nested.watch(0x7fff, &mtrrs), Ok(()));
    assert_eq!(built.translate(0x7fff), None);
}

#[test]
fn a_page_that_does_not_fit_is_not_watched() {
    let mtrrs = Mtrrs::none();
    let mut built = build(plan(Format::Npt), &mtrrs, 4).expect("just enough");
    assert_eq!(built.nested.watch(0x1_4000_0000, &mtrrs), Err(OutOfTables));
    assert_eq!(built.translate(0x1_4000_0000), Some(0x1_4000_0000));
    assert_eq!(built.translate(0x1000), Some(0x1000));
}

#[test]
fn too_few_tables_are_an_error() {
    assert!(build(plan(Format::Ept), &Mtrrs::none(), 3).is_err());
}

/// A guest that changes memory types can use up the tables. The next touch of
/// the region must then be refused like the first: taken for opened, it would
/// exit for ever.
#[test]
fn a_scrap_page_that_does_not_fit_stays_closed_and_says_so_each_time() {
    let mtrrs = Mtrrs::none();
    let plan = plan(Format::Ept);
    let mut roomy = build(plan.clone(), &mtrrs, 64).expect("enough");
    roomy
        .nested
        .watch(plan.reserved.start, &mtrrs)
        .expect("enough");
    let mut built = build(plan.clone(), &mtrrs, roomy.nested.tables()).expect("enough");
    built
        .nested
        .watch(plan.reserved.start, &mtrrs)
        .expect("just enough");
    for _ in 0..2 {
        assert_eq!(built.nested.open_scrap(), Err(OutOfTables));
        assert_eq!(built.translate(plan.reserved.start + PAGE_SIZE), None);
    }
}
