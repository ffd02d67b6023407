//! The I/O APIC: what each of its inputs means to the local ones. Intel,
//! "82093AA I/O Advanced Programmable Interrupt Controller".

/// Inputs that it has.
pub const INPUTS: usize = 24;
const VERSION: u32 = (INPUTS as u32 - 1) << 16 | 0x11;

const LOGICAL: u64 = 1 << 11;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Delivery status and remote IRR, which nobody writes.
const READ_ONLY: u64 = 1 << 12 | 1 << 14;

/// An interrupt for local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its vector.
    pub vector: u8,
    /// Whom it is for.
    pub destination: u8,
    /// Whether that is a logical destination.
    pub is_logical: bool,
    /// It is delivered to one of those alone.
    pub is_lowest: bool,
    /// By level, which to who pulses makes no difference.
    pub is_level: bool,
}

/// The I/O APIC. All devices pulse their inputs.
#[derive(Clone, Debug)]
pub struct IoApic {
    id: u8,
    selected: u8,
    entries: [u64; INPUTS],
    /// Inputs that were pulsed while they were masked.
    held: u32,
}

impl IoApic {
    /// After a reset: all inputs are masked.
    pub fn new(id: u8) -> Self {
        Self {
            id,
            selected: 0,
            entries: [MASKED; INPUTS],
            held: 0,
        }
    }

    /// What is read at `offset`.
    pub fn read(&self, offset: u64) -> u32 {
        match (offset, self.selected) {
            (0, selected) => selected.into(),
            (0x10, 0) => u32::from(self.id) << 24,
            (0x10, 1) => VERSION,
            (0x10, selected) => self.entry(selected).map_or(0, |number| {
                (self.entries[number] >> (selected % 2 * 32)) as u32
            }),
            _ => 0,
        }
    }

    /// Writes there. Says what has to be delivered: an input that was pulsed
    /// while it was masked.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<Message> {
        match (offset, self.selected) {
            (0, _) => self.selected = value as u8,
            (0x10, 0) => self.id = (value >> 24 & 0xf) as u8,
            (0x10, selected) => {
                let number = self.entry(selected)?;
                let half = selected % 2 * 32;
                let old = self.entries[number] & !(0xffff_ffff << half);
                self.entries[number] = (old | u64::from(value) << half) & !READ_ONLY;
                if self.held >> number & 1 != 0 {
                    return self.pulse(number as u8);
                }
            }
            _ => {}
        }
        None
    }

    fn entry(&self, selected: u8) -> Option<usize> {
        let number = usize::from(selected.checked_sub(0x10)? / 2);
        (number < INPUTS).then_some(number)
    }

    /// A device pulses its input.
    pub fn pulse(&mut self, input: u8) -> Option<Message> {
        let entry = *self.entries.get(usize::from(input))?;
        if entry & MASKED != 0 {
            self.held |= 1 << input;
            return None;
        }
        self.held &= !(1 << input);
        Some(Message {
            vector: entry as u8,
            destination: (entry >> 56) as u8,
            is_logical: entry & LOGICAL != 0,
            is_lowest: entry >> 8 & 7 == 1,
            is_level: entry & LEVEL != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(apic: &mut IoApic, input: u8, entry: u64) -> Option<Message> {
        apic.write(0, (0x10 + 2 * input + 1).into());
        apic.write(0x10, (entry >> 32) as u32);
        apic.write(0, (0x10 + 2 * input).into());
        apic.write(0x10, entry as u32)
    }

    #[test]
    fn registers_are_chosen_by_the_first() {
        let mut apic = IoApic::new(2);
        apic.write(0, 1);
        assert_eq!((apic.read(0), apic.read(0x10)), (1, VERSION));
        apic.write(0, 0);
        assert_eq!(apic.read(0x10), 2 << 24);
        set(&mut apic, 4, 1 << 56 | 0x31);
        assert_eq!(apic.read(0x10), 0x31);
        apic.write(0, 0x10 + 2 * 4 + 1);
        assert_eq!(apic.read(0x10), 1 << 24);
        apic.write(0, 0xff);
        assert_eq!(apic.read(0x10), 0);
    }

    #[test]
    fn a_pulse_is_delivered_as_its_entry_says() {
        let mut apic = IoApic::new(0);
        set(&mut apic, 4, 2 << 56 | LOGICAL | 1 << 8 | 0x31);
        let message = apic.pulse(4).unwrap();
        assert_eq!((message.vector, message.destination), (0x31, 2));
        assert!(message.is_logical && message.is_lowest && !message.is_level);
    }

    #[test]
    fn a_pulse_behind_the_mask_comes_when_it_is_lifted_and_once() {
        let mut apic = IoApic::new(0);
        assert_eq!(apic.pulse(4), None);
        assert_eq!(
            set(&mut apic, 4, 0x31).map(|message| message.vector),
            Some(0x31)
        );
        assert_eq!(set(&mut apic, 4, 0x31), None);
        assert_eq!(apic.pulse(24), None);
    }
}
