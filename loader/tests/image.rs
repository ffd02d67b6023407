//! The hypervisor's file: a small hand-built one loads as it should, each kind
//! of damage has its sentence, and random damage never upsets anything.

use abi::handoff::FOOTER_SIZE;
use abi::handoff::Segment;
use loader::image::{Damage, Image, seal};
use proptest::prelude::*;

const RELA: usize = 0x200;
const CODE: usize = 0x1000;
const DATA: usize = 0x2000;
const SLOT: usize = 0x2100;
const FILE_SIZE: usize = 0x2200;
const IMAGE_SIZE: u64 = 0x5000;
const BASE: u64 = 0x7f60_0000;

// Places of fields in the file, for tests that damage one.
const E_TYPE: usize = 16;
const E_MACHINE: usize = 18;
const E_ENTRY: usize = 24;
const fn phdr(index: usize) -> usize {
    64 + 56 * index
}
const P_FLAGS: usize = 4;
const P_VADDR: usize = 16;
const P_MEMSZ: usize = 40;

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_words(file: &mut [u8], at: usize, words: &[u64]) {
    for (index, word) in words.iter().enumerate() {
        put(file, at + 8 * index, &word.to_le_bytes());
    }
}

fn put_header(file: &mut [u8], index: usize, kind: u32, flags: u32, at: usize, sizes: [u64; 2]) {
    let [file_size, memory_size] = sizes;
    put(file, phdr(index), &kind.to_le_bytes());
    put(file, phdr(index) + P_FLAGS, &flags.to_le_bytes());
    let at = at as u64;
    put_words(
        file,
        phdr(index) + 8,
        &[at, at, at, file_size, memory_size, 0x1000],
    );
}

/// Three segments (r, rx, rw with some zeros after its data), a dynamic
/// section and two relocations.
fn sound() -> Vec<u8> {
    let mut file = vec![0; FILE_SIZE];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, E_TYPE, &[3, 0, 62, 0, 1, 0, 0, 0]);
    put_words(&mut file, E_ENTRY, &[CODE as u64 + 16, 64, 0]);
    put(&mut file, 52, &[64, 0, 56, 0, 4, 0, 64, 0, 0, 0, 0, 0]);
    put_header(&mut file, 0, 1, 4, 0, [0x400; 2]);
    put_header(&mut file, 1, 1, 5, CODE, [0x20; 2]);
    put_header(&mut file, 2, 1, 6, DATA, [0x200, 0x2800]);
    put_header(&mut file, 3, 2, 6, DATA, [0x40; 2]);
    put_words(&mut file, DATA, &[7, RELA as u64, 8, 48, 9, 24, 0, 0]);
    let slot = SLOT as u64;
    put_words(
        &mut file,
        RELA,
        &[slot, 8, CODE as u64, slot + 8, 8, u64::MAX],
    );
    put(&mut file, CODE, &[0xc3; 0x20]);
    file
}

fn damaged(at: usize, bytes: &[u8]) -> Result<(), Damage> {
    let mut file = sound();
    put(&mut file, at, bytes);
    Image::parse(&seal(&file)).map(|_| ())
}

#[test]
fn a_sound_file_is_planned_copied_and_relocated() {
    let file = seal(&sound());
    let image = Image::parse(&file).unwrap();
    let segment = |offset, size, flags| Segment {
        offset,
        size,
        flags,
    };
    assert_eq!(image.plan.size, IMAGE_SIZE);
    assert_eq!(image.plan.entry, CODE as u64 + 16);
    assert_eq!(
        image.plan.segments[..4],
        [
            segment(0, 0x1000, 4),
            segment(0x1000, 0x1000, 5),
            segment(0x2000, 0x3000, 6),
            Segment::default()
        ]
    );
    let mut memory = vec![0; IMAGE_SIZE as usize];
    image.load(&mut memory, BASE).unwrap();
    assert_eq!(memory[CODE..CODE + 0x20], [0xc3; 0x20]);
    assert_eq!(memory[SLOT..SLOT + 8], (BASE + CODE as u64).to_le_bytes());
    assert_eq!(memory[SLOT + 8..SLOT + 16], (BASE - 1).to_le_bytes());
    assert!(memory[FILE_SIZE..].iter().all(|byte| *byte == 0));
}

#[test]
fn an_image_that_does_not_fit_is_not_loaded() {
    let file = seal(&sound());
    let image = Image::parse(&file).unwrap();
    let loaded = image.load(&mut vec![0; 0x2080], BASE);
    assert!(matches!(loaded, Err(Damage::NoRoom)));
}

#[test]
fn a_segment_may_start_within_a_page() {
    let mut file = sound();
    put_words(&mut file, phdr(2) + P_VADDR, &[0x3200]);
    put_words(&mut file, RELA, &[0x3210, 8, 0, 0x3218, 8, 0]);
    let file = seal(&file);
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.plan.segments[2].offset, 0x3000);
    assert_eq!(image.plan.segments[2].size, 0x3000);
}

#[test]
fn a_file_that_was_cut_or_changed_is_refused() {
    let file = seal(&sound());
    let parse = |file: &[u8]| Image::parse(file).map(|_| ());
    assert!(matches!(parse(b""), Err(Damage::NoFooter)));
    assert!(matches!(
        parse(&file[..file.len() - 1]),
        Err(Damage::NoFooter)
    ));
    let longer = [&[0], &file[..]].concat();
    assert!(matches!(parse(&longer), Err(Damage::Length { .. })));
    for at in 0..file.len() - FOOTER_SIZE {
        let mut file = file.clone();
        file[at] ^= 0x10;
        assert!(matches!(parse(&file), Err(Damage::Checksum { .. })));
    }
}

#[test]
fn each_kind_of_damage_has_its_error() {
    let word = |value: u64| value.to_le_bytes();
    assert!(matches!(damaged(0, b"\x7fFLE"), Err(Damage::NotElf(_))));
    assert!(matches!(
        damaged(E_MACHINE, &[183, 0]),
        Err(Damage::OtherMachine(183))
    ));
    assert!(matches!(
        damaged(E_TYPE, &[2, 0]),
        Err(Damage::NotStaticPie)
    ));
    assert!(matches!(damaged(phdr(3), &[3]), Err(Damage::NotStaticPie)));
    assert!(matches!(
        damaged(DATA + 48, &[1]),
        Err(Damage::NotStaticPie)
    ));
    assert!(matches!(damaged(56, &[0, 0]), Err(Damage::SegmentCount(0))));
    let huge = word(1 << 40);
    assert!(matches!(
        damaged(phdr(2) + P_MEMSZ, &huge),
        Err(Damage::BadSegment(2))
    ));
    assert!(matches!(
        damaged(phdr(2) + P_VADDR, &word(u64::MAX)),
        Err(Damage::BadSegment(2))
    ));
    assert!(matches!(
        damaged(phdr(2) + P_MEMSZ, &word(0x10)),
        Err(Damage::BadSegment(2))
    ));
    assert!(matches!(
        damaged(phdr(2) + P_FLAGS, &[7]),
        Err(Damage::BadSegment(2))
    ));
    assert!(matches!(
        damaged(phdr(2) + P_VADDR, &word(0x1080)),
        Err(Damage::SharedPage(1))
    ));
    assert!(matches!(
        damaged(E_ENTRY, &word(0x2000)),
        Err(Damage::EntryOutside(0x2000))
    ));
    assert!(matches!(
        damaged(RELA + 8, &[6]),
        Err(Damage::RelocationKind(6))
    ));
    assert!(matches!(
        damaged(RELA, &word(0x4ffc)),
        Err(Damage::RelocationOutside(0x4ffc))
    ));
    assert!(matches!(
        damaged(DATA + 40, &[16]),
        Err(Damage::RelocationTable)
    ));
    assert!(matches!(
        damaged(DATA + 24, &[47]),
        Err(Damage::RelocationTable)
    ));
    assert!(matches!(
        damaged(DATA + 8, &huge),
        Err(Damage::RelocationTable)
    ));
    assert!(matches!(damaged(DATA, &[36]), Err(Damage::RelocationTable)));
}

#[test]
fn more_segments_than_the_handoff_holds_are_refused() {
    let mut file = sound();
    put(&mut file, 56, &[9, 0]);
    for index in 0..9 {
        put_header(&mut file, index, 1, 4, 0x1000 * index, [0, 1]);
    }
    let parsed = Image::parse(&seal(&file)).map(|_| ());
    assert!(matches!(parsed, Err(Damage::SegmentCount(9))));
}

/// Where a byte decides something; elsewhere there are only zeros.
fn interesting() -> impl Strategy<Value = usize> {
    prop_oneof![0..0x120usize, RELA..RELA + 48, DATA..DATA + 0x40]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn damage_under_a_right_checksum_never_writes_outside(
        bytes in prop::collection::vec((interesting(), any::<u8>()), 1..6),
        room in 0usize..0x6000,
    ) {
        let mut file = sound();
        for (at, byte) in bytes {
            file[at] = byte;
        }
        // Slices end where they end: a write outside would be a panic.
        if let Ok(image) = Image::parse(&seal(&file)) {
            let loaded = image.load(&mut vec![0; room], BASE);
            prop_assert!(loaded.is_ok() || (room as u64) < image.plan.size);
            prop_assert!(image.plan.segments.iter().all(|s| s.offset + s.size <= image.plan.size));
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Image::parse(&seal(&bytes)).is_err());
        prop_assert!(Image::parse(&bytes).is_err());
    }
}
