//! Sleep types are found where tables have them as constants, and nowhere else.

use loader::sleep::harmless;
use proptest::prelude::*;

/// `Name (\_S3, Package (4) { 1, 1, 0, 0 })`, and the like for S4 and S5, as a
/// compiler makes them.
const TABLE: &[u8] = b"\x10\x05_SB_\x08\\_S3_\x12\x06\x04\x01\x01\x00\x00\
    \x08_S4_\x12\x08\x04\x0a\x02\x0a\x02\x00\x00\x08_S5_\x12\x06\x04\x00\x00\x00\x00";

#[test]
fn s4_and_s5_are_harmless_and_s3_is_not() {
    assert_eq!(harmless([TABLE]), [0b101; 2]);
}

#[test]
fn the_second_register_may_have_others() {
    let table = b"\x08_S5_\x12\x0a\x04\x0a\x07\x0a\x05\x00\x00";
    assert_eq!(harmless([&table[..]]), [0x80, 0x20]);
    let in_one = b"\x08_S5_\x12\x06\x01\x0b\x07\x05";
    assert_eq!(harmless([&in_one[..]]), [0x80, 0x20]);
}

#[test]
fn states_of_all_tables_count() {
    let (dsdt, ssdt) = (&b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00"[..], TABLE);
    assert_eq!(harmless([dsdt, ssdt]), [0b101; 2]);
}

#[test]
fn what_is_no_constant_is_not_found() {
    let method = b"\x14\x0c_S5_\x00\xa4\x12\x06\x04\x00\x00\x00\x00";
    assert_eq!(harmless([&method[..]]), [0; 2]);
    let too_large = b"\x08_S5_\x12\x07\x04\x0a\x20\x0a\x09\x00\x00";
    assert_eq!(harmless([&too_large[..]]), [0; 2]);
    for end in 0..TABLE.len() {
        let _ = harmless([&TABLE[..end]]);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut table = b"\x08_S5_\x12".to_vec();
        table.extend(bytes);
        let _ = harmless([table.as_slice()]);
    }
}

#[test]
fn where_switching_off_is_not_found_all_but_deep_sleep_is_let_through() {
    let table = b"\x08_S3_\x12\x08\x04\x0a\x05\x0a\x06\x00\x00\x14\x0c_S5_\x00\xa4\x12\x06\x04\x00\x00\x00\x00";
    assert_eq!(harmless([&table[..]]), [!(1 << 5), !(1 << 6)]);
}
