//! The clock of PCs, which tells the VM the time of day when it starts; nobody
//! sets it. Motorola, "MC146818A Real-Time Clock Plus RAM".

use std::time::{SystemTime, UNIX_EPOCH};

/// The clock.
#[derive(Debug, Default)]
pub struct Clock {
    selected: u8,
}

/// A day and a time, in numbers as people have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Moment {
    /// From seconds since 1970. Howard Hinnant, "chrono-Compatible Low-Level Date
    /// Algorithms": years begin in March, so that the day that some lack is
    /// their last.
    fn new(seconds: u64) -> Self {
        const DAYS_TO_MARCH_0000: u64 = 719_468;
        const DAYS_OF_ERA: u64 = 146_097;
        let days = seconds / 86_400 + DAYS_TO_MARCH_0000;
        let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let before_march = month >= 10;
        Self {
            year: era * 400 + year + u64::from(before_march),
            month: if before_march { month - 9 } else { month + 3 },
            day: day - (153 * month + 2) / 5 + 1,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// What a register holds: decimal digits, which Linux takes them for in any
    /// case, 24 hours, never about to change.
    fn register(self, number: u8) -> u8 {
        const HOURS_24: u8 = 2;
        const HAS_POWER: u8 = 0x80;
        let value = match number {
            0 => self.second,
            2 => self.minute,
            4 => self.hour,
            7 => self.day,
            8 => self.month,
            9 => self.year % 100,
            0xb => return HOURS_24,
            0xd => return HAS_POWER,
            0x32 => self.year / 100,
            _ => 0,
        };
        (value / 10 * 16 + value % 10) as u8
    }
}

impl Clock {
    /// Its first port chooses a register, its second holds that.
    pub fn read(&self, port: u16) -> u8 {
        if port == 0 {
            return 0xff;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        Moment::new(seconds).register(self.selected)
    }

    /// What is written to a register is forgotten.
    pub fn write(&mut self, port: u16, value: u8) {
        if port == 0 {
            self.selected = value & 0x7f;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        // Each is what `date -u -d @SECONDS` says.
        let known = [
            (0, [1970, 1, 1, 0, 0, 0]),
            (951_782_400, [2000, 2, 29, 0, 0, 0]),
            (951_868_799, [2000, 2, 29, 23, 59, 59]),
            (1_767_225_600, [2026, 1, 1, 0, 0, 0]),
            (4_107_542_399, [2100, 2, 28, 23, 59, 59]),
            (4_107_542_400, [2100, 3, 1, 0, 0, 0]),
        ];
        for (seconds, [year, month, day, hour, minute, second]) in known {
            let expected = Moment {
                year,
                month,
                day,
                hour,
                minute,
                second,
            };
            assert_eq!(Moment::new(seconds), expected);
        }
    }

    #[test]
    fn registers_are_decimal_digits() {
        let moment = Moment::new(1_767_225_600 + 12 * 86_400 + 13 * 3600);
        let registers = [4, 7, 8, 9, 0x32, 0xa].map(|number| moment.register(number));
        assert_eq!(registers, [0x13, 0x13, 1, 0x26, 0x20, 0]);
    }
}
