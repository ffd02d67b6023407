//! A local APIC's timer: it counts down once or again and again, or waits for a
//! moment of the time-stamp counter. Intel SDM volume 3, "APIC Timer".

/// How it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Once.
    Once,
    /// Again and again.
    Periodic,
    /// Until the time-stamp counter has reached a number.
    Deadline,
}

impl Mode {
    /// As the timer's entry of the local vector table says.
    pub fn from_entry(entry: u32) -> Self {
        match entry >> 17 & 3 {
            0 => Self::Once,
            1 => Self::Periodic,
            _ => Self::Deadline,
        }
    }
}

/// The timer. Moments are of the time-stamp counter.
#[derive(Clone, Debug)]
pub struct Timer {
    mode: Mode,
    /// Ticks of the time-stamp counter in one of its own.
    ticks: u64,
    divide: u32,
    initial: u32,
    due: Option<u64>,
}

impl Timer {
    /// One that stands still.
    pub fn new(ticks: u64) -> Self {
        Self {
            mode: Mode::Once,
            ticks,
            divide: 0,
            initial: 0,
            due: None,
        }
    }

    /// Ticks of the time-stamp counter in one of its own.
    pub const fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The register by which its rate is divided.
    pub const fn divide(&self) -> u32 {
        self.divide
    }

    /// The count that it began with.
    pub const fn initial(&self) -> u32 {
        self.initial
    }

    /// When it is due.
    pub const fn due(&self) -> Option<u64> {
        self.due
    }

    /// What is left of the count.
    pub fn current(&self, now: u64) -> u32 {
        let counts = self.mode != Mode::Deadline;
        let left = self.due.filter(|_| counts).unwrap_or(now);
        (left.saturating_sub(now) / self.step()) as u32
    }

    /// The moment that it waits for, as the MSR tells.
    pub fn deadline(&self) -> u64 {
        let waits = self.mode == Mode::Deadline;
        self.due.filter(|_| waits).unwrap_or(0)
    }

    /// Waits for `moment`, or for nothing if it is 0. Other modes ignore it.
    pub fn set_deadline(&mut self, moment: u64) {
        if self.mode == Mode::Deadline {
            self.due = (moment != 0).then_some(moment);
        }
    }

    /// Counts `count` down from `now`; 0 stops it.
    pub fn start(&mut self, count: u32, now: u64) {
        if self.mode == Mode::Deadline {
            return;
        }
        self.initial = count;
        self.due = (count != 0).then(|| now.saturating_add(self.period()));
    }

    /// A change to or from deadlines stops it.
    pub fn set_mode(&mut self, mode: Mode) {
        if (mode == Mode::Deadline) != (self.mode == Mode::Deadline) {
            self.due = None;
        }
        self.mode = mode;
    }

    /// Sets the register by which its rate is divided.
    pub fn set_divide(&mut self, value: u32) {
        self.divide = value & 0b1011;
    }

    /// Whether it is due at `now`. It then counts on, or stops.
    pub fn is_due(&mut self, now: u64) -> bool {
        let Some(due) = self.due.filter(|due| *due <= now) else {
            return false;
        };
        let period = self.period();
        // Rounds that nobody saw are not made up for.
        self.due = (self.mode == Mode::Periodic && period > 0)
            .then(|| due + ((now - due) / period + 1) * period);
        true
    }

    fn period(&self) -> u64 {
        u64::from(self.initial) * self.step()
    }

    /// Ticks of the time-stamp counter for which the count falls by one.
    fn step(&self) -> u64 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        self.ticks << ((code + 1) % 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_one() -> Timer {
        let mut timer = Timer::new(100);
        timer.set_divide(0b1011);
        timer
    }

    #[test]
    fn once_is_once() {
        let mut timer = by_one();
        timer.start(5, 1000);
        assert_eq!((timer.current(1200), timer.due()), (3, Some(1500)));
        assert!(!timer.is_due(1499));
        assert!(timer.is_due(1500));
        assert!(!timer.is_due(9000));
        assert_eq!(timer.current(9000), 0);
    }

    #[test]
    fn periods_go_on_behind_those_that_were_missed() {
        let mut timer = by_one();
        timer.set_mode(Mode::Periodic);
        timer.start(5, 0);
        assert!(timer.is_due(1750));
        assert_eq!(timer.due(), Some(2000));
    }

    #[test]
    fn deadlines_are_moments() {
        let mut timer = by_one();
        timer.set_deadline(77);
        assert_eq!(timer.due(), None, "it counts");
        timer.set_mode(Mode::Deadline);
        timer.set_deadline(77);
        timer.start(1, 0);
        assert_eq!((timer.deadline(), timer.current(0)), (77, 0));
        assert!(timer.is_due(77));
        assert_eq!(timer.deadline(), 0);
        timer.set_deadline(99);
        timer.set_mode(Mode::Once);
        assert_eq!(timer.due(), None);
    }

    #[test]
    fn the_rate_is_divided_as_the_register_says() {
        let mut timer = Timer::new(1);
        for (value, by) in [
            (0, 2),
            (1, 4),
            (3, 16),
            (0b1000, 32),
            (0b1010, 128),
            (0b1011, 1),
        ] {
            timer.set_divide(value);
            timer.start(10, 0);
            assert_eq!(timer.due(), Some(10 * by), "{value:#b}");
        }
    }
}
