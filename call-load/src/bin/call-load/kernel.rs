//! What Linux did meanwhile, by its own counters.

use std::fs;

use call_load::{Failed, ensure};

/// Counters of `/proc/vmstat`, and how often each must count for a thousand
/// calls.
const COUNTERS: [(&str, u64); 4] = [
    ("pswpout", 20),
    ("pswpin", 5),
    ("pgmajfault", 5),
    ("pgmigrate_success", 5),
];

/// All of them at a moment.
pub struct Counters([u64; COUNTERS.len()]);

impl Counters {
    /// As they are.
    pub fn read() -> Result<Self, Failed> {
        const FILE: &str = "/proc/vmstat";
        let text = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            let line = lines.find(|(key, _)| *key == name);
            line.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        Ok(Self(COUNTERS.map(|(name, _)| value(name))))
    }

    /// What was counted since, in words; an error if that was too little for
    /// `calls` to have met it.
    pub fn since(&self, calls: u64) -> Result<String, Failed> {
        let now = Self::read()?;
        let mut words = Vec::new();
        for (((name, least), now), before) in COUNTERS.iter().zip(now.0).zip(self.0) {
            let count = now - before;
            ensure(count >= least * calls / 1000, || {
                format!("{name} counted no more than {count}: the load was none")
            })?;
            words.push(format!("{name} {count}"));
        }
        Ok(words.join(", "))
    }
}
