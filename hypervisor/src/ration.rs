//! How often a guest may do what everybody would have to bear, such as
//! writing lines into the log.

use spin::Mutex;

/// What may be done at once.
const BURST: u64 = 16;
/// Seconds after which one more may be.
const PERIOD: u64 = 1;

struct State {
    left: u64,
    /// The time-stamp counter when it last grew.
    grown: u64,
}

/// A ration. Taken from by any CPU.
pub struct Ration(Mutex<State>);

impl Default for Ration {
    fn default() -> Self {
        Self(Mutex::new(State {
            left: BURST,
            grown: 0,
        }))
    }
}

impl Ration {
    /// Takes `wanted` at time `now`; false if so many are not left.
    pub fn take(&self, wanted: u64, now: u64, ticks_per_second: u64) -> bool {
        let mut state = self.0.lock();
        // The guest may set the clock back.
        state.grown = state.grown.min(now);
        let period = ticks_per_second.saturating_mul(PERIOD).max(1);
        let fresh = (now - state.grown) / period;
        if fresh > 0 {
            state.left = state.left.saturating_add(fresh).min(BURST);
            state.grown = now;
        }
        let rest = state.left.checked_sub(wanted);
        state.left = rest.unwrap_or(state.left);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;

    fn taken(ration: &Ration, now: u64) -> u64 {
        let tries = (0..100).filter(|_| ration.take(1, now, SECOND));
        tries.count() as u64
    }

    #[test]
    fn a_ration_ends_and_grows_again_with_time() {
        let ration = Ration::default();
        assert_eq!(taken(&ration, 5), BURST);
        assert_eq!(taken(&ration, SECOND - 1), 0);
        assert_eq!(taken(&ration, 3 * SECOND), 3);
        assert_eq!(taken(&ration, u64::MAX), BURST);
    }

    #[test]
    fn who_wants_more_than_is_left_gets_nothing_and_leaves_the_rest() {
        let ration = Ration::default();
        assert!(ration.take(BURST - 3, 0, SECOND));
        assert!(!ration.take(4, 0, SECOND));
        assert!(ration.take(3, 0, SECOND));
        assert!(!ration.take(4, 3 * SECOND, SECOND));
        assert!(ration.take(4, 4 * SECOND, SECOND));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_end_it_for_good() {
        let ration = Ration::default();
        taken(&ration, u64::MAX);
        assert_eq!(taken(&ration, 10), 0);
        assert_eq!(taken(&ration, 10 + 2 * SECOND), 2);
    }
}
