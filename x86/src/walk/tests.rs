//! The walk on the desk: tables are built in a map, and each rule of the
//! manual is asked on its own.

use super::*;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

#[derive(Default)]
struct Memory {
    words: RefCell<HashMap<u64, u64>>,
    /// Changes this entry to that value just before it is marked, once.
    race: RefCell<Option<(u64, u64)>>,
}

impl Entries for Memory {
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        let word = self.words.borrow().get(&at.0).copied()?;
        Some(if size == 4 { word & 0xffff_ffff } else { word })
    }
    fn exchange(&self, at: Gpa, _size: u64, old: u64, new: u64) -> bool {
        let changed = self.race.borrow().filter(|race| race.0 == at.0);
        if let Some((at, value)) = changed {
            self.race.replace(None);
            self.words.borrow_mut().insert(at, value);
        }
        let mut words = self.words.borrow_mut();
        let current = words
            .get_mut(&at.0)
            .expect("marked entries were read before");
        let same = *current == old;
        if same {
            *current = new;
        }
        same
    }
}

impl Memory {
    fn with(entries: &[(u64, u64)]) -> Self {
        let words = entries.iter().copied().collect();
        Self {
            words: RefCell::new(words),
            race: RefCell::new(None),
        }
    }
    fn word(&self, at: u64) -> u64 {
        self.words.borrow()[&at]
    }
}

const ALL: u64 = PRESENT | WRITABLE | USER;

fn long() -> Paging {
    Paging {
        cr0: Cr0::PG | Cr0::PE | Cr0::WP,
        cr3: 0x1000,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA | Efer::NXE,
        alignment_check: false,
        pkru: 0,
        physical_bits: 40,
        gib_pages: true,
        pdptes: None,
    }
}

/// Linear 0x0000_0000_0000_0000 upwards: PML4 at 0x1000, PDPT at 0x2000, PD at
/// 0x3000, PT at 0x4000, the page at 0x5000 with the rights of `page`.
fn four_levels(page: u64) -> Memory {
    Memory::with(&[
        (0x1000, 0x2000 | ALL),
        (0x2000, 0x3000 | ALL),
        (0x3000, 0x4000 | ALL),
        (0x4000, 0x5000 | page),
    ])
}

const KERNEL: Intent = Intent {
    user: false,
    write: false,
    fetch: false,
};
const READ: Intent = Intent {
    user: true,
    write: false,
    fetch: false,
};
const WRITE: Intent = Intent {
    user: true,
    write: true,
    fetch: false,
};
const FETCH: Intent = Intent {
    user: true,
    write: false,
    fetch: true,
};

fn code(result: Result<Translation, Denied>) -> Option<u32> {
    match result {
        Ok(_) => None,
        Err(Denied::PageFault { code, .. }) => Some(code),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_small_page_yields_its_address_and_what_is_left() {
    let memory = four_levels(ALL);
    let found = walk(&long(), READ, Gva(0x123), &memory).unwrap();
    assert_eq!(
        found,
        Translation {
            gpa: Gpa(0x5123),
            left: 0xedd
        }
    );
}

#[test]
fn accessed_is_set_on_the_way_and_dirty_on_the_written_page_only() {
    let memory = four_levels(ALL);
    walk(&long(), READ, Gva(0), &memory).unwrap();
    for at in [0x1000, 0x2000, 0x3000, 0x4000] {
        assert_eq!(memory.word(at) & (ACCESSED | DIRTY), ACCESSED);
    }
    walk(&long(), WRITE, Gva(0), &memory).unwrap();
    assert_eq!(memory.word(0x3000) & DIRTY, 0);
    assert_eq!(memory.word(0x4000) & DIRTY, DIRTY);
}

#[test]
fn a_refused_page_is_not_marked() {
    let memory = four_levels(PRESENT | WRITABLE);
    assert_eq!(code(walk(&long(), WRITE, Gva(0), &memory)), Some(7));
    assert_eq!(memory.word(0x4000) & (ACCESSED | DIRTY), 0);
}

#[test]
fn an_entry_that_changes_under_the_walk_is_read_again() {
    let memory = four_levels(ALL);
    memory.race.replace(Some((0x4000, 0x9000 | ALL)));
    let found = walk(&long(), READ, Gva(0), &memory).unwrap();
    assert_eq!(found.gpa, Gpa(0x9000));
}

/// Changes one entry before access number `moment` to the tables, reads and
/// exchanges counted alike, as another CPU may.
struct Changing {
    memory: Memory,
    moment: Cell<u32>,
    change: (u64, u64),
}

impl Changing {
    fn new(moment: u32, change: (u64, u64)) -> Self {
        let memory = four_levels(ALL);
        let other = [
            (0x1_2000, 0x1_3000 | ALL),
            (0x1_3000, 0x1_4000 | ALL),
            (0x1_4000, 0x1_5000 | ALL),
        ];
        memory.words.borrow_mut().extend(other);
        Self {
            memory,
            moment: Cell::new(moment),
            change,
        }
    }
    fn pass(&self) {
        if self.moment.get() == 0 {
            let (at, value) = self.change;
            self.memory.words.borrow_mut().insert(at, value);
        }
        self.moment.set(self.moment.get().wrapping_sub(1));
    }
}

impl Entries for Changing {
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        self.pass();
        self.memory.load(at, size)
    }
    fn exchange(&self, at: Gpa, size: u64, old: u64, new: u64) -> bool {
        self.pass();
        self.memory.exchange(at, size, old, new)
    }
}

/// Accesses of a walk that nobody disturbs: a look at the first entry, which is
/// not marked yet, then a read and an exchange a level.
const UNDISTURBED: u32 = 9;
const MOMENTS: u32 = UNDISTURBED + 1;

#[test]
fn a_table_that_changes_under_the_walk_is_the_old_or_the_new_one() {
    // Each entry of the first way comes to lead to the second.
    for (at, value) in [
        (0x1000, 0x1_2000),
        (0x2000, 0x1_3000),
        (0x3000, 0x1_4000),
        (0x4000, 0x1_5000),
    ] {
        let mut found = Vec::new();
        for moment in 0..MOMENTS {
            let tables = Changing::new(moment, (at, value | ALL));
            let page = walk(&long(), WRITE, Gva(0), &tables).unwrap().gpa;
            found.push(page.0);
            // The page's own entry is marked, and nothing of the other way's.
            let own = if page.0 == 0x5000 || at == 0x4000 {
                [0x4000, 0x1_4000]
            } else {
                [0x1_4000, 0x4000]
            };
            let dirty = own.map(|at| tables.memory.word(at) & DIRTY != 0);
            assert_eq!(dirty, [true, false], "{at:#x} at moment {moment}");
            // What was written meanwhile stays.
            let kept = moment >= UNDISTURBED || tables.memory.word(at) & !0xfff == value;
            assert!(kept, "{at:#x} at moment {moment}");
        }
        found.dedup();
        assert_eq!(found, [0x1_5000, 0x5000], "{at:#x}");
    }
}

#[test]
fn a_right_that_is_taken_away_under_the_walk_counts_before_or_after() {
    for (change, error) in [(0, 6), (0x5000 | PRESENT | USER, 7)] {
        let verdicts = (0..MOMENTS).map(|moment| {
            let tables = Changing::new(moment, (0x4000, change));
            let verdict = code(walk(&long(), WRITE, Gva(0), &tables));
            let taken = moment < UNDISTURBED;
            assert!(!taken || tables.memory.word(0x4000) & !ACCESSED == change);
            verdict
        });
        let mut verdicts: Vec<_> = verdicts.collect();
        verdicts.dedup();
        assert_eq!(verdicts, [Some(error), None]);
    }
}

#[test]
fn each_right_is_asked() {
    let user_reads_kernel = four_levels(PRESENT | WRITABLE);
    assert_eq!(
        code(walk(&long(), READ, Gva(0), &user_reads_kernel)),
        Some(5)
    );
    let user_writes_read_only = four_levels(PRESENT | USER);
    assert_eq!(
        code(walk(&long(), WRITE, Gva(0), &user_writes_read_only)),
        Some(7)
    );
    let user_runs_data = four_levels(ALL | NO_EXECUTE);
    assert_eq!(
        code(walk(&long(), FETCH, Gva(0), &user_runs_data)),
        Some(0x15)
    );
    let absent = four_levels(0);
    assert_eq!(code(walk(&long(), WRITE, Gva(0), &absent)), Some(6));
    assert_eq!(code(walk(&long(), READ, Gva(0), &four_levels(ALL))), None);
}

#[test]
fn write_protect_holds_the_kernel_only_when_set() {
    let memory = four_levels(PRESENT);
    let write = Intent {
        write: true,
        ..KERNEL
    };
    assert_eq!(code(walk(&long(), write, Gva(0), &memory)), Some(3));
    let mut paging = long();
    paging.cr0.remove(Cr0::WP);
    assert_eq!(code(walk(&paging, write, Gva(0), &memory)), None);
}

#[test]
fn smap_and_smep_keep_the_kernel_out_of_user_pages() {
    let memory = four_levels(ALL);
    let mut paging = long();
    paging.cr4 |= Cr4::SMAP | Cr4::SMEP;
    assert_eq!(code(walk(&paging, KERNEL, Gva(0), &memory)), Some(1));
    let fetch = Intent {
        fetch: true,
        ..KERNEL
    };
    assert_eq!(code(walk(&paging, fetch, Gva(0), &memory)), Some(0x11));
    paging.alignment_check = true;
    assert_eq!(code(walk(&paging, KERNEL, Gva(0), &memory)), None);
    assert_eq!(code(walk(&paging, fetch, Gva(0), &memory)), Some(0x11));
}

#[test]
fn protection_keys_hold_user_pages() {
    let memory = four_levels(ALL | 3 << 59);
    let mut paging = long();
    paging.cr4 |= Cr4::PKE;
    paging.pkru = 1 << 7;
    assert_eq!(code(walk(&paging, READ, Gva(0), &memory)), None);
    assert_eq!(code(walk(&paging, WRITE, Gva(0), &memory)), Some(0x27));
    paging.pkru = 1 << 6;
    assert_eq!(code(walk(&paging, KERNEL, Gva(0), &memory)), Some(0x21));
    assert_eq!(code(walk(&paging, FETCH, Gva(0), &memory)), None);
}

#[test]
fn reserved_bits_fault_with_their_own_code() {
    for bit in 40..52 {
        let memory = four_levels(ALL | 1 << bit);
        assert_eq!(
            code(walk(&long(), READ, Gva(0), &memory)),
            Some(0xd),
            "bit {bit}"
        );
    }
    let mut paging = long();
    paging.efer.remove(Efer::NXE);
    let memory = four_levels(ALL | NO_EXECUTE);
    assert_eq!(code(walk(&paging, READ, Gva(0), &memory)), Some(0xd));
}

#[test]
fn large_pages_end_the_walk() {
    let memory = Memory::with(&[(0x1000, 0x2000 | ALL), (0x2000, 0x4000_0000 | ALL | LARGE)]);
    let found = walk(&long(), READ, Gva(0x1234_5678), &memory).unwrap();
    assert_eq!(
        found,
        Translation {
            gpa: Gpa(0x5234_5678),
            left: 0x4000_0000 - 0x1234_5678
        }
    );
    let mut paging = long();
    paging.gib_pages = false;
    assert_eq!(code(walk(&paging, READ, Gva(0), &memory)), Some(0xd));
    let misaligned = Memory::with(&[
        (0x1000, 0x2000 | ALL),
        (0x2000, 0x3000 | ALL),
        (0x3000, 0x20_2000 | ALL | LARGE),
    ]);
    assert_eq!(code(walk(&long(), READ, Gva(0), &misaligned)), Some(0xd));
}

#[test]
fn addresses_outside_canonical_space_are_no_page_faults() {
    let denied = walk(&long(), READ, Gva(1 << 47), &four_levels(ALL));
    assert_eq!(denied, Err(Denied::NonCanonical(Gva(1 << 47))));
    let mut paging = long();
    paging.cr4 |= Cr4::LA57;
    paging.cr3 = 0x0;
    let five = four_levels(ALL);
    five.words.borrow_mut().insert(0, 0x1000 | ALL);
    assert_eq!(
        walk(&paging, READ, Gva(0x10), &five).unwrap().gpa,
        Gpa(0x5010)
    );
}

#[test]
fn thirty_two_bit_tables_and_their_wide_large_pages() {
    let mut paging = long();
    paging.efer = Efer::empty();
    paging.cr4 = Cr4::PSE;
    let memory = Memory::with(&[
        (0x1004, 0x2000 | ALL),
        (0x2008, 0x7000 | ALL),
        (0x1008, 0x0040_0000 | ALL | LARGE | 3 << 13),
    ]);
    assert_eq!(
        walk(&paging, READ, Gva(0x40_2abc), &memory).unwrap().gpa,
        Gpa(0x7abc)
    );
    let wide = walk(&paging, READ, Gva(0x81_2345), &memory).unwrap();
    assert_eq!(wide.gpa, Gpa(0x3_0041_2345));
}

#[test]
fn pae_tables_start_from_the_loaded_entries() {
    let mut paging = long();
    paging.efer = Efer::NXE;
    paging.pdptes = Some([0x3000 | PRESENT, 0, 0, 0]);
    let memory = four_levels(ALL);
    assert_eq!(
        walk(&paging, READ, Gva(0x10), &memory).unwrap().gpa,
        Gpa(0x5010)
    );
    assert_eq!(
        code(walk(&paging, READ, Gva(0x4000_0000), &memory)),
        Some(4)
    );
}

#[test]
fn a_key_that_denies_is_told_of_beside_other_rights() {
    let mut paging = long();
    paging.cr4 |= Cr4::PKE;
    paging.pkru = 0b11 << 2;
    let read_only = four_levels(PRESENT | USER | 1 << 59);
    assert_eq!(code(walk(&paging, WRITE, Gva(0), &read_only)), Some(0x27));
    // What is absent has no key.
    let absent = four_levels(USER | 1 << 59);
    assert_eq!(code(walk(&paging, WRITE, Gva(0), &absent)), Some(6));
}

#[test]
fn pae_entries_from_memory_have_reserved_bits() {
    let mut paging = long();
    paging.efer = Efer::NXE;
    for (bit, wanted) in [
        (3, None),
        (1, Some(0xd)),
        (5, None),
        (6, Some(0xd)),
        (45, Some(0xd)),
        (63, Some(0xd)),
    ] {
        let memory = four_levels(ALL);
        memory
            .words
            .borrow_mut()
            .insert(0x1000, 0x3000 | PRESENT | 1 << bit);
        assert_eq!(
            code(walk(&paging, READ, Gva(0x10), &memory)),
            wanted,
            "bit {bit}"
        );
    }
}

#[test]
fn pae_entries_are_loaded_together_or_not_at_all() {
    let paging = Paging {
        efer: Efer::empty(),
        ..long()
    };
    assert!(paging.loads_pdptes());
    assert!(!long().loads_pdptes());
    let entries = |second| [(0x60, 0x2001), (0x68, second), (0x70, 0x3019), (0x78, 0)];
    let load = |second| paging.load_pdptes(0x7f, &Memory::with(&entries(second)));
    // What is not present may hold anything.
    assert_eq!(load(0x1e6), Some([0x2001, 0x1e6, 0x3019, 0]));
    for reserved in [1 << 1, 1 << 2, 1 << 5, 1 << 8, 1 << 40, 1 << 63] {
        assert_eq!(load(PRESENT | reserved), None, "{reserved:#x}");
    }
    let (short, absent) = (Memory::with(&entries(0)[..3]), 0x60);
    assert_eq!(paging.load_pdptes(absent, &short), None);
}

#[test]
fn an_entry_that_never_rests_ends_the_walk() {
    struct Restless(Memory);
    impl Entries for Restless {
        fn load(&self, at: Gpa, size: u64) -> Option<u64> {
            self.0.load(at, size)
        }
        fn exchange(&self, _: Gpa, _: u64, _: u64, _: u64) -> bool {
            false
        }
    }
    let denied = walk(&long(), READ, Gva(0), &Restless(four_levels(ALL)));
    assert_eq!(denied, Err(Denied::Restless(Gva(0))));
}

#[test]
fn tables_outside_the_guests_memory_are_named() {
    let memory = Memory::with(&[(0x1000, 0x2000 | ALL)]);
    assert_eq!(
        walk(&long(), READ, Gva(0), &memory),
        Err(Denied::NoMemory(Gpa(0x2000)))
    );
}

#[test]
fn without_paging_an_address_is_itself() {
    let mut paging = long();
    paging.cr0 = Cr0::PE;
    let found = walk(&paging, WRITE, Gva(0x1_0000_2ffe), &Memory::default()).unwrap();
    assert_eq!(
        found,
        Translation {
            gpa: Gpa(0x2ffe),
            left: 2
        }
    );
}

#[test]
fn an_ordinary_walk_ends_at_a_large_page_of_a_size_that_the_cpu_has() {
    const MARKED: u64 = ALL | ACCESSED | DIRTY;
    let paging = |gib_pages| Paging {
        gib_pages,
        ..long()
    };
    let (table, page) = (0x2000 | MARKED, 0xc000_0000 | LARGE | MARKED);
    let two_mib = [(0x1000, table), (0x2000, 0x3000 | MARKED), (0x3000, page)];
    let one_gib = [(0x1000, table), (0x2000, page)];
    let walk = |gib_pages, entries: &[(u64, u64)]| {
        ordinary(
            &paging(gib_pages),
            WRITE,
            Gva(0x5a8),
            &Memory::with(entries),
        )
    };
    let found = |size: u64| {
        Some(Translation {
            gpa: Gpa(0xc000_05a8),
            left: size - 0x5a8,
        })
    };
    assert_eq!(walk(false, &two_mib), found(1 << 21));
    assert_eq!(walk(true, &one_gib), found(1 << 30));
    assert_eq!(walk(false, &one_gib), None);
}

/// Bits of one in four numbers, so that several are often as in an ordinary walk.
fn flips(bits: u64) -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => (0u32..64).prop_map(move |bit| 1 << bit & bits)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// The short way says what the long one says, and marks nothing more.
    #[test]
    fn an_ordinary_walk_comes_to_what_each_walk_comes_to(
        changes in prop::array::uniform4(flips(u64::MAX)),
        [cr0, cr4, efer, offset] in prop::array::uniform4(flips(u64::MAX)),
        key in 0u64..16, (large, gib_pages) in (0u32..3, any::<bool>()),
        pkru: u32, alignment_check: bool, physical_bits in 32u32..=52,
        user: bool, (write, fetch) in prop_oneof![Just((false, false)), Just((true, false)), Just((false, true))],
    ) {
        let paging = Paging {
            cr0: long().cr0 ^ Cr0::from_bits_retain(cr0),
            cr4: long().cr4 ^ Cr4::from_bits_retain(cr4),
            efer: long().efer ^ Efer::from_bits_retain(efer),
            alignment_check,
            pkru,
            physical_bits,
            gib_pages,
            ..long()
        };
        let ordinary = four_levels(ALL | key << 59);
        if let Some((at, base)) = [(0x3000, 0x60_0000), (0x2000, 0xc000_0000)].get(large as usize) {
            let page = base | LARGE | ALL | key << 59;
            ordinary.words.borrow_mut().insert(*at, page);
        }
        for (at, change) in [0x1000, 0x2000, 0x3000, 0x4000].into_iter().zip(changes) {
            let entry = (ordinary.word(at) | ACCESSED | DIRTY) ^ change;
            ordinary.words.borrow_mut().insert(at, entry);
        }
        let each = Memory::with(&[]);
        each.words.replace(ordinary.words.borrow().clone());
        let (intent, gva) = (Intent { user, write, fetch }, Gva(offset ^ 0x5a8));
        prop_assert_eq!(
            walk(&paging, intent, gva, &ordinary),
            walk_each(&paging, intent, gva, &each)
        );
        prop_assert_eq!(ordinary.words.into_inner(), each.words.into_inner());
    }
}
