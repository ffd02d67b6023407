//! No tables and no state of the CPU upset the page walk: it ends, what it finds
//! is an address that exists, and it changes no bits of entries but those for
//! accessed and dirty.
#![no_main]

mod numbers;

use libfuzzer_sys::fuzz_target;
use numbers::Numbers;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use x86::control::{Cr0, Cr4, Efer};
use x86::exception::Exception;
use x86::walk::{Denied, Entries, Intent, Paging, walk};
use x86::{Gpa, Gva};

const ACCESSED_AND_DIRTY: u64 = 1 << 5 | 1 << 6;

/// Memory in which an entry is made up when it is first read.
struct Memory<'a> {
    numbers: RefCell<Numbers<'a>>,
    entries: RefCell<BTreeMap<u64, u64>>,
    loads: Cell<u32>,
}

impl Entries for Memory<'_> {
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        self.loads.set(self.loads.get() + 1);
        assert!(size == 4 || size == 8);
        assert_eq!(at.0 % size, 0, "an entry is aligned");
        let mut entries = self.entries.borrow_mut();
        let mut numbers = self.numbers.borrow_mut();
        let entry = entries.entry(at.0).or_insert_with(|| {
            // Mostly present and usable.
            match numbers.byte() & 7 {
                0 => numbers.quad(),
                1 => numbers.quad() | 7,
                2 => numbers.quad() & 0xfff | 7,
                _ => u64::from(numbers.double()) & !0x1ff | 7,
            }
        });
        Some(if size == 4 {
            *entry & 0xffff_ffff
        } else {
            *entry
        })
    }

    /// Fails as often as the fuzzer wants, as if another CPU had been faster.
    fn exchange(&self, at: Gpa, size: u64, old: u64, new: u64) -> bool {
        assert_eq!(old | new, new, "no bit is taken away");
        assert_eq!((old ^ new) & !ACCESSED_AND_DIRTY, 0);
        if self.numbers.borrow_mut().byte() == 1 {
            return false;
        }
        let mut entries = self.entries.borrow_mut();
        let entry = entries.entry(at.0).or_default();
        *entry = if size == 4 {
            *entry & !0xffff_ffff | new
        } else {
            new
        };
        true
    }
}

fn paging(numbers: &mut Numbers) -> Paging {
    let mode = numbers.byte();
    let long = mode & 1 != 0;
    let mut efer = Efer::from_bits_retain(u64::from(numbers.double())) - Efer::LMA;
    let mut cr4 = Cr4::from_bits_retain(u64::from(numbers.double()));
    if long {
        efer |= Efer::LMA;
        cr4 |= Cr4::PAE;
    }
    let mut cr0 = Cr0::from_bits_retain(u64::from(numbers.double()));
    if mode & 2 == 0 {
        cr0 |= Cr0::PG;
    }
    Paging {
        cr0,
        cr3: numbers.quad(),
        cr4,
        efer,
        alignment_check: mode & 4 != 0,
        pkru: numbers.double(),
        physical_bits: u32::from(numbers.byte()),
        gib_pages: mode & 8 != 0,
        pdptes: (mode & 16 != 0).then(|| [(); 4].map(|()| numbers.quad())),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut numbers = Numbers(data);
    let paging = paging(&mut numbers);
    let how = numbers.byte();
    let intent = Intent {
        user: how & 1 != 0,
        write: how & 6 == 2,
        fetch: how & 6 == 4,
    };
    let gva = Gva(numbers.quad());
    let memory = Memory {
        numbers: RefCell::new(numbers),
        entries: RefCell::default(),
        loads: Cell::new(0),
    };
    match walk(&paging, intent, gva, &memory) {
        Ok(found) => {
            assert!(found.gpa.0 >> 52 == 0);
            assert!((1..=1 << 30).contains(&found.left));
            assert_eq!(found.gpa.page_offset(), gva.page_offset());
        }
        Err(Denied::PageFault { address, code }) => {
            assert_eq!(address.0 as u32, gva.0 as u32);
            assert_eq!(code & 2 != 0, intent.write);
            assert_eq!(code & 4 != 0, intent.user);
        }
        Err(other) => assert_eq!(other.exception(), Exception::GeneralProtection(0)),
    }
    assert!(memory.loads.get() <= 64 * 5);
});
