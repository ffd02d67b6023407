//! Bytes for people: an address, sixteen bytes, and what of them is text.

use std::io::{self, Write};

const ROW: usize = 16;

/// Writes rows of `bytes`, which lie at `address`.
pub fn write(out: &mut dyn Write, address: u64, bytes: &[u8]) -> io::Result<()> {
    for (number, row) in bytes.chunks(ROW).enumerate() {
        let at = address.wrapping_add((number * ROW) as u64);
        let pairs: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let (pairs, text): (String, String) = (pairs.join(" "), row.iter().map(shown).collect());
        writeln!(out, "{at:016x}  {pairs:<47}  |{text}|")?;
    }
    Ok(())
}

fn shown(byte: &u8) -> char {
    match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '.',
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_row_has_its_address_its_bytes_and_its_text() {
        let mut text = Vec::new();
        let bytes: Vec<u8> = (0x39..0x4b).collect();
        super::write(&mut text, 0xffff_8000_0000_1000, &bytes).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[0].starts_with("ffff800000001000  39 3a 3b"));
        assert!(rows[0].ends_with("48  |9:;<=>?@ABCDEFGH|"));
        assert!(rows[1].starts_with("ffff800000001010  49 4a  "));
        assert!(rows[1].ends_with("  |IJ|"));
        assert_eq!(rows[0].find('|'), rows[1].find('|'));
    }
}
