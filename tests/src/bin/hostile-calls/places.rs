//! Where arguments lead.
//!
//! A few pages set aside are all of the guest's memory that a call can reach by
//! them: linear addresses map them, and nothing behind them; behind their
//! physical addresses there is as much again as one call uses. Lists of pages
//! and page tables, which a service follows further, lie apart, where no
//! argument leads, and name pages set aside, Underlay's, a device's, and none.

use abi::call::{Kind, LOG_SET_BUF, SERVICES, Service, TRANSFER_MAX};
use alloc::boxed::Box;
use alloc::vec::Vec;
use tests::linear::{PRESENT_WRITABLE, Table, Window};
use tests::machine::reserved_ranges;
use tests::random::Random;

const PAGE: u64 = 4096;
/// Pages that arguments lead to.
const PAGES: usize = 4;
/// With what one call can reach behind them.
const ALL: usize = PAGES + TRANSFER_MAX / PAGE as usize + 1;
/// Where the window maps the pages set aside.
const FIRST: usize = 8;
const LOCAL_APIC: u64 = 0xfee0_0000;
const USER: u64 = 1 << 2;

#[repr(align(4096))]
struct SetAside([[u64; 512]; ALL]);

/// Everything that arguments are made of.
pub struct Places {
    memory: Box<SetAside>,
    window: Window,
    /// A list of good pages, and one of bad ones.
    lists: [Box<Table>; 2],
    /// Page tables, from the root on.
    tables: [Box<Table>; 4],
    underlay: [u64; 2],
}

impl Places {
    /// Sets the memory aside.
    pub fn new() -> Self {
        let range = reserved_ranges().into_iter().next();
        let underlay = range.map_or([0; 2], |range| [range.base, range.base + range.size]);
        let mut places = Self {
            memory: Box::new(SetAside([[0x5a5a_a5a5_1234_8765; 512]; ALL])),
            window: Window::open(),
            lists: [(); 2].map(|()| Table::boxed()),
            tables: [(); 4].map(|()| Table::boxed()),
            underlay,
        };
        for page in 0..PAGES {
            let entry = places.page(page) | PRESENT_WRITABLE;
            places.window.set(FIRST + page, entry);
        }
        places.make_lists();
        places.make_tables();
        places
    }

    /// Where Underlay begins.
    pub const fn underlay(&self) -> u64 {
        self.underlay[0]
    }

    /// The firmware maps memory one to one.
    fn page(&self, page: usize) -> u64 {
        self.memory.0[page].as_ptr() as u64
    }

    fn make_lists(&mut self) {
        let pages: [u64; PAGES] = core::array::from_fn(|page| self.page(page));
        let bad = self.nobodys();
        let [good, odd] = &mut self.lists;
        for (index, entry) in good.0.iter_mut().enumerate() {
            *entry = pages[index % PAGES];
        }
        for (index, entry) in odd.0.iter_mut().enumerate() {
            *entry = bad[index % bad.len()];
        }
    }

    /// At each level some entries lead on, and the others to what is no table,
    /// or set reserved bits. None maps a large page, which would have the
    /// guest's own memory in it.
    fn make_tables(&mut self) {
        let below: [u64; 3] = core::array::from_fn(|level| self.tables[level + 1].entry());
        let leaves: [u64; PAGES] = core::array::from_fn(|page| self.page(page) | PRESENT_WRITABLE);
        let bad = self.nobodys();
        for (level, table) in self.tables.iter_mut().enumerate() {
            for (index, entry) in table.0.iter_mut().enumerate() {
                let good = below.get(level).copied().unwrap_or(leaves[index % PAGES]);
                let odd = bad[index / 4 % bad.len()] & !0xfff | PRESENT_WRITABLE;
                *entry = match index % 4 {
                    0 | 1 => good | USER,
                    2 => odd & !(1 << 63) | USER,
                    _ => 0,
                };
            }
        }
    }

    /// Guest-physical addresses, and entries of tables, that are no memory of
    /// the guest's.
    fn nobodys(&self) -> [u64; 8] {
        let [begin, end] = self.underlay;
        [
            begin,
            begin + PAGE,
            end - PAGE,
            end - 8,
            LOCAL_APIC,
            1 << 45,
            1 << 51,
            u64::MAX,
        ]
    }

    /// A sum of what is set aside, and of the tables and lists beside it, but
    /// for the accessed and dirty bits, which a walk sets whatever comes of it.
    pub fn digest(&self) -> u64 {
        const ACCESSED_DIRTY: u64 = 0x60;
        let tables = self.tables.iter().flat_map(|table| table.0);
        let tables = tables.map(|entry| entry & !ACCESSED_DIRTY);
        let lists = self.lists.iter().flat_map(|list| list.0);
        let memory = self.memory.0[..PAGES].iter().flatten().copied();
        let words = memory.chain(lists).chain(tables);
        words.fold(0, |sum, word| (sum ^ word).rotate_left(7).wrapping_add(1))
    }

    fn linear(page: usize) -> u64 {
        Window::address(FIRST + page)
    }

    /// Arguments with which `service` might well succeed.
    pub fn good(&self, service: &Service) -> [u64; 5] {
        let mut arguments = [0; 5];
        for (value, argument) in service.arguments.iter().zip(&mut arguments) {
            *argument = match (value.kind, value.name) {
                (Kind::Gva, "list") => self.lists[0].0.as_ptr() as u64,
                (Kind::Gva, _) => Self::linear(1),
                (Kind::Gpa, "root") => self.tables[0].0.as_ptr() as u64,
                (Kind::Gpa, _) => self.page(2),
                (Kind::Bytes, "offset") => 8,
                (Kind::Bytes, _) => 2048,
                (Kind::Number, _) => 0,
            };
        }
        arguments
    }

    /// What argument `index` of `service` must not lead to. The byte before
    /// each end is good where it can be.
    pub fn bad(&self, service: &Service, index: usize) -> Vec<u64> {
        let Some(value) = service.arguments.get(index) else {
            return Vec::new();
        };
        let [begin, end] = self.underlay;
        let linear = [
            begin,
            begin + 0x1234,
            end - 8,
            0x7fff_ffff_fff0,
            0x8000_0000_0000,
            0xffff_7fff_ffff_ffff,
            0xffff_8000_0000_0000,
            u64::MAX - 7,
            LOCAL_APIC,
            Self::linear(PAGES),
        ];
        match (value.kind, value.name) {
            (Kind::Gva, "list") => linear
                .into_iter()
                .chain([self.lists[1].0.as_ptr() as u64])
                .collect(),
            (Kind::Gva, _) => linear.to_vec(),
            (Kind::Gpa, _) => self.nobodys().to_vec(),
            // In a space whose tables are good in their first entries.
            (Kind::Number, "from" | "into" | "address") => {
                [0x8000_0000_0000, u64::MAX - 7, 3 << 12, 2 << 39].to_vec()
            }
            _ => Vec::new(),
        }
    }

    /// Random arguments for `service`, or for none that there is.
    pub fn random(&self, service: Option<&Service>, random: &mut Random) -> [u64; 5] {
        let service = service.unwrap_or(&SERVICES[random.below(SERVICES.len() as u64) as usize]);
        let mut arguments = [(); 5].map(|()| random.word());
        for (value, argument) in service.arguments.iter().zip(&mut arguments) {
            *argument = match (value.kind, value.name) {
                (Kind::Gva, "list") => self.lists[random.below(2) as usize].0.as_ptr() as u64,
                (Kind::Gva, _) => self.random_linear(random),
                (Kind::Gpa, "root") => self.random_root(random),
                // It would be written to by later calls, whatever comes of them.
                (Kind::Gpa, _) if service.number == LOG_SET_BUF => random.one_of(&self.nobodys()),
                (Kind::Gpa, _) => match random.below(2) {
                    0 => random.one_of(&self.nobodys()),
                    _ => self.page(0) + random.below(PAGES as u64 * PAGE),
                },
                (Kind::Bytes, _) => match random.below(8) {
                    0 => random.word(),
                    1 => random.below(TRANSFER_MAX as u64 + 2),
                    _ => random.below(600),
                },
                (Kind::Number, _) => match random.below(4) {
                    0 => random.word(),
                    // A linear address that the tables lead to.
                    1 => random.below(512) << 12 | random.below(PAGE),
                    _ => random.below(40),
                },
            };
        }
        arguments
    }

    fn random_linear(&self, random: &mut Random) -> u64 {
        let [begin, end] = self.underlay;
        match random.below(8) {
            0 => random.word(),
            1 => begin + random.below(end - begin),
            2 => random.one_of(&[LOCAL_APIC, 0x7fff_ffff_fff8, 1 << 47, u64::MAX, !0 << 47]),
            3 => Self::linear(PAGES) - random.below(64),
            _ => Self::linear(0) + random.below(PAGES as u64 * PAGE),
        }
    }

    /// With bits that CR3 has for something else.
    fn random_root(&self, random: &mut Random) -> u64 {
        let root = match random.below(4) {
            0 => random.one_of(&self.nobodys()),
            _ => self.tables[0].0.as_ptr() as u64,
        };
        root | random.below(PAGE)
    }
}
