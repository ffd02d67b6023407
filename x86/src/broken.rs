//! A rule of VM entry that is broken, in words that a person can act on.

use core::fmt;

/// One broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule's place in its vendor's table.
    pub number: usize,
    /// The rule's name, which does not change.
    pub rule: &'static str,
    /// The field that breaks it.
    pub field: &'static str,
    /// What the field holds.
    pub value: u64,
    /// What would be right.
    pub right: &'static str,
    /// The title of the manual's section that has the rule.
    pub section: &'static str,
}

/// `rule: FIELD is 0x1, right: bit 0 is 0 (manual: "Section")`.
impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            field,
            value,
            right,
            section,
            ..
        } = self;
        write!(
            f,
            "{rule}: {field} is {value:#x}, right: {right} (manual: \"{section}\")"
        )
    }
}

/// What came of an entry that was broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// How the CPU refused: the VM-instruction error (7 or 8) or the exit
    /// reason (33) of VT-x, 1 of AMD-V. 0: the CPU entered the guest.
    pub refusal: u8,
    /// How many rules were named.
    pub count: u8,
    /// Their numbers, as far as there is room.
    pub rules: [u16; Self::ROOM],
}

impl Trial {
    /// How many rules' numbers there is room for.
    pub const ROOM: usize = 4;

    /// One more rule is named.
    pub fn name(&mut self, broken: &Broken) {
        if let Some(free) = self.rules.get_mut(usize::from(self.count)) {
            *free = broken.number as u16;
        }
        self.count = self.count.saturating_add(1);
    }

    /// All of it in one register: 8 bits, 8 bits, and 12 for each rule.
    pub fn pack(self) -> u64 {
        let rules = self.rules.iter().rev();
        let rules = rules.fold(0, |word, rule| word << 12 | u64::from(rule & 0xfff));
        rules << 16 | u64::from(self.count) << 8 | u64::from(self.refusal)
    }

    /// The reverse of [`Self::pack`].
    pub fn unpack(word: u64) -> Self {
        let [refusal, count, ..] = word.to_le_bytes();
        let shifts = [16, 28, 40, 52];
        Self {
            refusal,
            count,
            rules: shifts.map(|shift| (word >> shift & 0xfff) as u16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_trial_survives_its_register(refusal: u8, count: u8,
                                         rules in [0u16..4096, 0u16..4096, 0u16..4096, 0u16..4096]) {
            let trial = Trial { refusal, count, rules };
            prop_assert_eq!(Trial::unpack(trial.pack()), trial);
        }
    }
}
