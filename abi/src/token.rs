//! The owner token: 128 random bits, made at each boot, that let a program at
//! any privilege level call what is the owner's. They are published in an ACPI
//! table, which Linux shows to its administrator alone. What another system
//! shows to all its users makes each of them an owner. A call passes them in R8
//! and R9.

/// The signature of the table.
pub const SIGNATURE: [u8; 4] = *b"ULAY";

/// Where Linux shows the table, to root.
pub const LINUX_PATH: &str = "/sys/firmware/acpi/tables/ULAY";

const HEADER: usize = 36;

/// Bytes of the table: the header of every ACPI table, then the token.
pub const TABLE_SIZE: usize = HEADER + 16;

/// The token: R8, R9.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(pub [u64; 2]);

/// A token is never shown.
impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// No token: it opens nothing.
    pub const NONE: Self = Self([0; 2]);

    /// The token of these random numbers; none where their source is visibly
    /// broken. Some CPUs' RDRAND, and with it their firmware's random numbers,
    /// reports success and returns the same word each time, mostly all ones.
    pub fn from_random([low, high]: [u64; 2]) -> Self {
        const STUCK: [u64; 2] = [0, u64::MAX];
        let is_stuck = low == high || STUCK.contains(&low) || STUCK.contains(&high);
        if is_stuck {
            Self::NONE
        } else {
            Self([low, high])
        }
    }

    /// Whether `r8` and `r9` are this token. Takes as long whatever they hold.
    pub fn opens(self, r8: u64, r9: u64) -> bool {
        let Self([low, high]) = self;
        let differs = (low ^ r8) | (high ^ r9);
        let is_none = low | high == 0;
        core::hint::black_box(differs) == 0 && !is_none
    }

    /// The ACPI table that publishes it. ACPI specification, "System
    /// Description Table Header".
    pub fn table(self) -> [u8; TABLE_SIZE] {
        let mut table = [0; TABLE_SIZE];
        let mut put = |at: usize, bytes: &[u8]| {
            for (place, byte) in table.iter_mut().skip(at).zip(bytes) {
                *place = *byte;
            }
        };
        put(0, &SIGNATURE);
        put(4, &(TABLE_SIZE as u32).to_le_bytes());
        put(8, &[REVISION]);
        put(10, b"ULAY  UNDERLAY");
        put(24, &1u32.to_le_bytes());
        put(28, &SIGNATURE);
        put(32, &1u32.to_le_bytes());
        put(HEADER, &self.0[0].to_le_bytes());
        put(HEADER + 8, &self.0[1].to_le_bytes());
        let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        table[CHECKSUM] = sum.wrapping_neg();
        table
    }

    /// The token that a table publishes. None if it is not such a table.
    pub fn from_table(table: &[u8]) -> Option<Self> {
        let table: &[u8; TABLE_SIZE] = table.try_into().ok()?;
        let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if !table.starts_with(&SIGNATURE) || sum != 0 {
            return None;
        }
        let (_, token) = table.split_at(HEADER);
        let (low, high) = token.split_at(8);
        Some(Self([
            u64::from_le_bytes(low.try_into().ok()?),
            u64::from_le_bytes(high.try_into().ok()?),
        ]))
    }
}

const REVISION: u8 = 1;
const CHECKSUM: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token([0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00]);

    #[test]
    fn a_table_is_what_acpi_wants_and_comes_back() {
        let table = TOKEN.table();
        assert_eq!(&table[..4], b"ULAY");
        assert_eq!(u32::from_le_bytes(table[4..8].try_into().unwrap()), 52);
        let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum, 0);
        assert_eq!(Token::from_table(&table), Some(TOKEN));
    }

    #[test]
    fn a_damaged_table_has_no_token() {
        let table = TOKEN.table();
        for at in 0..TABLE_SIZE {
            let mut damaged = table;
            damaged[at] ^= 0x10;
            assert_eq!(Token::from_table(&damaged), None, "byte {at}");
        }
        assert_eq!(Token::from_table(&table[..51]), None);
    }

    #[test]
    fn numbers_that_are_not_random_make_no_token() {
        let Token([low, high]) = TOKEN;
        assert_eq!(Token::from_random([low, high]), TOKEN);
        for stuck in [
            [u64::MAX; 2],
            [0; 2],
            [low; 2],
            [low, u64::MAX],
            [u64::MAX, high],
            [low, 0],
            [0, high],
        ] {
            assert_eq!(Token::from_random(stuck), Token::NONE, "{stuck:x?}");
        }
    }

    #[test]
    fn every_bit_counts_and_no_token_opens_nothing() {
        let Token([low, high]) = TOKEN;
        assert!(TOKEN.opens(low, high));
        for bit in 0..64 {
            assert!(!TOKEN.opens(low ^ (1 << bit), high));
            assert!(!TOKEN.opens(low, high ^ (1 << bit)));
        }
        assert!(!Token::NONE.opens(0, 0));
    }
}
