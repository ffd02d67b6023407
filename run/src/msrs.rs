//! MSRs that this program plays for a vCPU: those that the CPU does not switch
//! between VMs, and that a kernel wants to find. All others are not there.

use crate::interrupts::Interrupts;
use crate::layout::LOCAL_APIC;
use underlay_vm::Msr;

mod number {
    pub const APIC_BASE: u32 = 0x1b;
    pub const MICROCODE: u32 = 0x8b;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const PAT: u32 = 0x277;
    pub const DEADLINE: u32 = 0x6e0;
    pub const SYSTEM: u32 = 0xc001_0010;
    pub const HARDWARE: u32 = 0xc001_0015;
    pub const BRIDGE: u32 = 0xc001_001f;
    pub const DECODE: u32 = 0xc001_1029;
}

/// The types of memory after a reset. Intel SDM volume 3, "Programming the PAT".
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
const ENABLED: u64 = 1 << 11;
const FIRST: u64 = 1 << 8;
/// String instructions are fast.
const FAST_STRINGS: u64 = 1;
/// The time-stamp counter runs at the highest rate.
const COUNTS_FULLY: u64 = 1 << 24;
/// LFENCE waits for what is before it.
const FENCE_WAITS: u64 = 1 << 1;

/// One vCPU's.
#[derive(Clone, Debug)]
pub struct Msrs {
    vcpu: usize,
    /// All memory is cached, whatever it says.
    pat: u64,
}

impl Msrs {
    /// Those of vCPU `number` after a reset.
    pub fn new(number: usize) -> Self {
        Self {
            vcpu: number,
            pat: PAT_RESET,
        }
    }

    /// What a read gives, or 0 for a write that is right; None is a fault.
    pub fn access(&mut self, interrupts: &Interrupts, msr: Msr) -> Option<u64> {
        match msr.written {
            None => self.read(interrupts, msr.number),
            Some(value) => self.write(interrupts, msr.number, value).then_some(0),
        }
    }

    fn read(&self, interrupts: &Interrupts, register: u32) -> Option<u64> {
        Some(match register {
            number::APIC_BASE => self.apic_base(),
            number::MICROCODE | number::SYSTEM | number::BRIDGE => 0,
            number::MISC_ENABLE => FAST_STRINGS,
            number::PAT => self.pat,
            number::DEADLINE => interrupts.deadline(self.vcpu),
            number::HARDWARE => COUNTS_FULLY,
            number::DECODE => FENCE_WAITS,
            _ => return None,
        })
    }

    fn write(&mut self, interrupts: &Interrupts, register: u32, value: u64) -> bool {
        match register {
            number::APIC_BASE => return value == self.apic_base(),
            number::PAT => {
                let is_type = |byte: &u8| matches!(byte, 0 | 1 | 4..=7);
                let is_right = value.to_le_bytes().iter().all(is_type);
                self.pat = if is_right { value } else { self.pat };
                return is_right;
            }
            number::DEADLINE => interrupts.set_deadline(self.vcpu, value),
            // What they could change is as a kernel wants it.
            number::MICROCODE
            | number::MISC_ENABLE
            | number::HARDWARE
            | number::BRIDGE
            | number::DECODE => {}
            _ => return false,
        }
        true
    }

    fn apic_base(&self) -> u64 {
        LOCAL_APIC | ENABLED | if self.vcpu == 0 { FIRST } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(number: u32, written: Option<u64>) -> Option<u64> {
        let interrupts = Interrupts::new(1, 1);
        Msrs::new(0).access(&interrupts, Msr { number, written })
    }

    #[test]
    fn the_apic_stays_where_it_is() {
        let base = access(number::APIC_BASE, None).unwrap();
        assert_eq!(access(number::APIC_BASE, Some(base)), Some(0));
        assert_eq!(access(number::APIC_BASE, Some(base + 0x1000)), None);
    }

    #[test]
    fn types_of_memory_are_those_that_there_are() {
        assert_eq!(access(number::PAT, Some(PAT_RESET)), Some(0));
        assert_eq!(access(number::PAT, Some(2)), None);
    }

    #[test]
    fn others_are_not_there() {
        assert_eq!(access(0xc000_0104, None), None);
        assert_eq!(access(0x38f, Some(0)), None);
    }
}
