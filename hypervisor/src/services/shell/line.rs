//! The words of a line, and numbers.

/// A byte of a line as the shell shows it.
pub fn printable(byte: u8) -> u8 {
    match byte {
        b' '..=b'~' => byte,
        b'\t' | b'\n' | b'\r' => b' ',
        _ => b'.',
    }
}

/// The words of `line`; those behind the last that anybody asks for do not
/// matter.
pub fn words<const COUNT: usize>(line: &str) -> [&str; COUNT] {
    let mut words = line.split_ascii_whitespace();
    core::array::from_fn(|_| words.next().unwrap_or(""))
}

/// A number: decimal, or hexadecimal with 0x.
pub fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => hexadecimal(digits),
        None => decimal(word),
    }
}

/// An address: hexadecimal, with 0x or without.
pub fn address(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    hexadecimal(digits.unwrap_or(word))
}

fn hexadecimal(digits: &str) -> Option<u64> {
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| all_digits)
}

fn decimal(digits: &str) -> Option<u64> {
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits)
}
