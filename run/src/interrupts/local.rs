//! A local APIC, as a vCPU sees it in memory. Intel SDM volume 3, "Advanced
//! Programmable Interrupt Controller (APIC)".

use super::timer::{Mode, Timer};

/// Offsets of registers.
pub mod register {
    #![allow(missing_docs)]
    pub const ID: u64 = 0x20;
    pub const VERSION: u64 = 0x30;
    pub const TASK_PRIORITY: u64 = 0x80;
    pub const PROCESSOR_PRIORITY: u64 = 0xa0;
    pub const END: u64 = 0xb0;
    pub const LOGICAL: u64 = 0xd0;
    pub const FORMAT: u64 = 0xe0;
    pub const SPURIOUS: u64 = 0xf0;
    pub const IN_SERVICE: u64 = 0x100;
    pub const TRIGGER_MODE: u64 = 0x180;
    pub const REQUESTED: u64 = 0x200;
    pub const ERRORS: u64 = 0x280;
    pub const COMMAND: u64 = 0x300;
    pub const COMMAND_HIGH: u64 = 0x310;
    pub const TIMER: u64 = 0x320;
    pub const ERROR: u64 = 0x370;
    pub const INITIAL_COUNT: u64 = 0x380;
    pub const CURRENT_COUNT: u64 = 0x390;
    pub const DIVIDE: u64 = 0x3e0;
}

/// Version 0x14, with six entries in the local vector table.
const VERSION: u32 = 5 << 16 | 0x14;
/// Entries of the local vector table: timer, heat, counters, two pins, errors.
const ENTRIES: usize = 6;
const MASKED: u32 = 1 << 16;
const ENABLED: u32 = 1 << 8;
const FLAT: u32 = 0xf;

/// One bit for each vector.
#[derive(Clone, Copy, Debug, Default)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8, value: bool) {
        let bit = 1 << (vector % 32);
        let word = &mut self.0[usize::from(vector / 32)];
        *word = if value { *word | bit } else { *word & !bit };
    }

    fn highest(&self) -> Option<u8> {
        let words = self.0.iter().enumerate().rev();
        let mut there = words.filter(|(_, word)| **word != 0);
        there
            .next()
            .map(|(number, word)| (number as u32 * 32 + word.ilog2()) as u8)
    }
}

/// One vCPU's.
#[derive(Clone, Debug)]
pub struct LocalApic {
    id: u8,
    task_priority: u8,
    logical: u8,
    format: u32,
    spurious: u32,
    in_service: Vectors,
    requested: Vectors,
    /// Those that came by level.
    level: Vectors,
    command: u64,
    entries: [u32; ENTRIES],
    /// Counts to the next timer interrupt.
    pub timer: Timer,
}

impl LocalApic {
    /// That of vCPU `id` after a reset, whose timer counts `ticks` of the
    /// time-stamp counter as one.
    pub fn new(id: u8, ticks: u64) -> Self {
        Self {
            id,
            task_priority: 0,
            logical: 0,
            format: u32::MAX,
            spurious: 0xff,
            in_service: Vectors::default(),
            requested: Vectors::default(),
            level: Vectors::default(),
            command: 0,
            entries: [MASKED; ENTRIES],
            timer: Timer::new(ticks),
        }
    }

    /// What the register at `offset` holds.
    pub fn read(&self, offset: u64, now: u64) -> u32 {
        let word = |vectors: &Vectors| vectors.0[(offset >> 4 & 7) as usize];
        match offset {
            register::ID => u32::from(self.id) << 24,
            register::VERSION => VERSION,
            register::TASK_PRIORITY => self.task_priority.into(),
            register::PROCESSOR_PRIORITY => self.priority().into(),
            register::LOGICAL => u32::from(self.logical) << 24,
            register::FORMAT => self.format,
            register::SPURIOUS => self.spurious,
            register::IN_SERVICE..register::TRIGGER_MODE => word(&self.in_service),
            register::TRIGGER_MODE..register::REQUESTED => word(&self.level),
            register::REQUESTED..register::ERRORS => word(&self.requested),
            register::COMMAND => self.command as u32,
            register::COMMAND_HIGH => (self.command >> 32) as u32,
            register::TIMER..=register::ERROR => self.entries[entry(offset)],
            register::INITIAL_COUNT => self.timer.initial(),
            register::CURRENT_COUNT => self.timer.current(now),
            register::DIVIDE => self.timer.divide(),
            _ => 0,
        }
    }

    /// Writes it. Gives the command register if that was written, which asks for
    /// an interrupt of other vCPUs.
    pub fn write(&mut self, offset: u64, value: u32, now: u64) -> Option<u64> {
        match offset {
            register::TASK_PRIORITY => self.task_priority = value as u8,
            register::END => self.end(),
            register::LOGICAL => self.logical = (value >> 24) as u8,
            register::FORMAT => self.format = value | u32::MAX >> 4,
            register::SPURIOUS => self.set_spurious(value),
            register::COMMAND => {
                self.command = self.command >> 32 << 32 | u64::from(value);
                return Some(self.command);
            }
            register::COMMAND_HIGH => {
                self.command = u64::from(value) << 32 | u64::from(self.command as u32);
            }
            register::TIMER..=register::ERROR => self.set_entry(offset, value),
            register::INITIAL_COUNT => self.timer.start(value, now),
            register::DIVIDE => self.timer.set_divide(value),
            _ => {}
        }
        None
    }

    /// A disabled APIC keeps all entries masked.
    fn set_spurious(&mut self, value: u32) {
        self.spurious = value & (ENABLED | 0xff);
        if self.spurious & ENABLED == 0 {
            self.entries.iter_mut().for_each(|entry| *entry |= MASKED);
        }
    }

    fn set_entry(&mut self, offset: u64, value: u32) {
        let is_off = self.spurious & ENABLED == 0;
        self.entries[entry(offset)] = value | if is_off { MASKED } else { 0 };
        if offset == register::TIMER {
            self.timer.set_mode(Mode::from_entry(value));
        }
    }

    /// Nobody waits for the end of a level interrupt: devices pulse their inputs.
    fn end(&mut self) {
        if let Some(vector) = self.in_service.highest() {
            self.in_service.set(vector, false);
        }
    }

    /// Takes an interrupt in.
    pub fn request(&mut self, vector: u8, level: bool) {
        if self.spurious & ENABLED != 0 && vector >= 16 {
            self.requested.set(vector, true);
            self.level.set(vector, level);
        }
    }

    /// Below this no interrupt is delivered; the upper four bits count.
    fn priority(&self) -> u8 {
        let served = self.in_service.highest().unwrap_or(0);
        match self.task_priority >> 4 >= served >> 4 {
            true => self.task_priority,
            false => served & 0xf0,
        }
    }

    /// The interrupt that the vCPU is to take next.
    pub fn pending(&self) -> Option<u8> {
        let vector = self.requested.highest()?;
        (vector >> 4 > self.priority() >> 4).then_some(vector)
    }

    /// The vCPU takes this one.
    pub fn take(&mut self, vector: u8) {
        self.requested.set(vector, false);
        self.in_service.set(vector, true);
    }

    /// Requests the timer's interrupt if it is due.
    pub fn tick(&mut self, now: u64) {
        let entry = self.entries[0];
        if self.timer.is_due(now) && entry & MASKED == 0 {
            self.request(entry as u8, false);
        }
    }

    /// Whether a destination means it: its number, or one in its logical
    /// register's terms.
    pub fn is_meant(&self, destination: u8, is_logical: bool) -> bool {
        match (is_logical, self.format >> 28 == FLAT) {
            (false, _) => destination == self.id || destination == 0xff,
            (true, true) => self.logical & destination != 0,
            (true, false) => {
                let same = self.logical >> 4 == destination >> 4 || destination >> 4 == 0xf;
                same && self.logical & destination & 0xf != 0
            }
        }
    }

    /// After INIT. Its number stays.
    pub fn reset(&mut self) {
        *self = Self::new(self.id, self.timer.ticks());
    }
}

fn entry(offset: u64) -> usize {
    ((offset - register::TIMER) >> 4) as usize % ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled() -> LocalApic {
        let mut apic = LocalApic::new(3, 100);
        apic.write(register::SPURIOUS, ENABLED | 0xff, 0);
        apic
    }

    #[test]
    fn the_highest_interrupt_above_what_is_in_service_comes_first() {
        let mut apic = enabled();
        for vector in [0x31, 0x52, 0x41] {
            apic.request(vector, false);
        }
        assert_eq!(apic.pending(), Some(0x52));
        apic.take(0x52);
        assert_eq!(apic.pending(), None);
        apic.request(0x5f, false);
        assert_eq!(apic.pending(), None, "the same class waits");
        apic.request(0x60, false);
        assert_eq!(apic.pending(), Some(0x60));
        apic.write(register::END, 0, 0);
        assert_eq!(apic.read(register::IN_SERVICE + 0x20, 0), 0);
    }

    #[test]
    fn the_task_priority_holds_its_class_and_those_below() {
        let mut apic = enabled();
        apic.request(0x45, false);
        apic.write(register::TASK_PRIORITY, 0x40, 0);
        assert_eq!(apic.pending(), None);
        apic.write(register::TASK_PRIORITY, 0x3f, 0);
        assert_eq!(apic.pending(), Some(0x45));
    }

    #[test]
    fn the_end_lets_the_next_one_in() {
        let mut apic = enabled();
        apic.request(0x35, true);
        apic.take(0x35);
        apic.request(0x34, false);
        assert_eq!(apic.pending(), None);
        assert_eq!(apic.read(register::TRIGGER_MODE + 0x10, 0), 1 << 0x15);
        apic.write(register::END, 0, 0);
        assert_eq!(apic.pending(), Some(0x34));
    }

    #[test]
    fn a_disabled_apic_takes_nothing() {
        let mut apic = LocalApic::new(0, 100);
        apic.request(0x33, false);
        apic.write(register::TIMER, 0x40, 0);
        assert_eq!(apic.pending(), None);
        assert_eq!(apic.read(register::TIMER, 0), MASKED | 0x40);
    }

    #[test]
    fn destinations_mean_numbers_bits_and_clusters() {
        let mut apic = enabled();
        assert!(apic.is_meant(3, false) && apic.is_meant(0xff, false));
        assert!(!apic.is_meant(2, false));
        apic.write(register::LOGICAL, 0x24 << 24, 0);
        assert!(apic.is_meant(0x04, true) && !apic.is_meant(0x03, true));
        apic.write(register::FORMAT, 0, 0);
        assert!(apic.is_meant(0x24, true) && apic.is_meant(0xf4, true));
        assert!(!apic.is_meant(0x14, true) && !apic.is_meant(0x22, true));
    }

    #[test]
    fn a_command_is_told_with_both_halves() {
        let mut apic = enabled();
        assert_eq!(apic.write(register::COMMAND_HIGH, 1 << 24, 0), None);
        let asked = apic.write(register::COMMAND, 0x4500, 0);
        assert_eq!(asked, Some(1 << 56 | 0x4500));
    }

    #[test]
    fn the_timers_interrupt_comes_when_it_is_due() {
        let mut apic = enabled();
        apic.write(register::TIMER, 0x40, 0);
        apic.write(register::DIVIDE, 0b1011, 0);
        apic.write(register::INITIAL_COUNT, 10, 5000);
        apic.tick(5999);
        assert_eq!(apic.pending(), None);
        apic.tick(6000);
        assert_eq!(apic.pending(), Some(0x40));
    }
}
