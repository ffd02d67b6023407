//! All registers of a vCPU at once, as who runs it sets and reads them.

use crate::Registers;
use crate::control::{Cr0, Efer, GUEST_CR4, Rflags};
use crate::segment::{Segment, TableRegister, UNUSABLE};

/// The registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct State {
    pub registers: Registers,
    pub rsp: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub segments: [Segment; 8],
    pub gdt: TableRegister,
    pub idt: TableRegister,
    /// DR0 to DR3, DR6, DR7.
    pub debug: [u64; 6],
    /// STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE.
    pub system_call: [u64; 5],
    /// IA32_SYSENTER_CS, ESP, EIP.
    pub system_enter: [u64; 3],
    pub xcr0: u64,
}

const LOW: u64 = 0xffff_ffff;

const fn is_canonical(address: u64) -> bool {
    (address << 16) as i64 >> 16 == address as i64
}

impl State {
    /// After a reset, with caches on. Intel SDM volume 3, "IA-32 and Intel 64 Processor States
    /// Following Power-up, Reset, or INIT".
    pub fn reset() -> Self {
        let table = TableRegister {
            base: 0,
            limit: 0xffff,
        };
        let data = Segment {
            selector: 0,
            base: 0,
            limit: 0xffff,
            rights: 0x93,
        };
        let mut segments = [data; 8];
        let [_, code, _, _, _, _, local, task] = &mut segments;
        *code = Segment {
            selector: 0xf000,
            base: 0xffff_0000,
            rights: 0x9b,
            ..data
        };
        local.rights = 0x82 | UNUSABLE;
        task.rights = 0x8b;
        Self {
            registers: Registers::default(),
            rsp: 0,
            rip: 0xfff0,
            rflags: Rflags::FIXED.bits(),
            cr0: 1 << 4,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            segments,
            gdt: table,
            idt: table,
            debug: [0, 0, 0, 0, 0xffff_0ff0, 0x400],
            system_call: [0; 5],
            system_enter: [0; 3],
            xcr0: 1,
        }
    }

    /// EFER, whose LMA follows from the rest.
    pub fn efer(&self) -> Efer {
        let efer = Efer::from_bits_retain(self.efer) - Efer::LMA;
        let paging = self.cr0 & Cr0::PG.bits() != 0;
        match efer.contains(Efer::LME) && paging {
            true => efer | Efer::LMA,
            false => efer,
        }
    }

    /// Whether each register could hold what it is to hold, as far as a CPU
    /// would raise a fault for it; what does not fit together is found by the
    /// entry. What a vCPU is not to have at all, as VMX, is no such value.
    pub fn is_loadable(&self) -> bool {
        let cr0 = Cr0::PE | Cr0::MP | Cr0::EM | Cr0::TS | Cr0::NE | Cr0::WP | Cr0::AM;
        let cr0 = (cr0 | Cr0::NW | Cr0::CD | Cr0::PG).bits() | 1 << 4;
        let efer = Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE;
        let [_, lstar, cstar, mask, gs] = self.system_call;
        let [_, esp, eip] = self.system_enter;
        let [_, _, _, _, dr6, dr7] = self.debug;
        let addresses = [lstar, cstar, gs, esp, eip, self.gdt.base, self.idt.base];
        self.cr0 & !cr0 == 0
            && self.cr4 & !GUEST_CR4.bits() == 0
            && self.efer & !efer.bits() == 0
            && [mask, dr6, dr7].iter().all(|value| *value <= LOW)
            && addresses.into_iter().all(is_canonical)
            && self.xcr0 & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_after_a_reset_can_be_loaded() {
        assert!(State::reset().is_loadable());
    }

    #[test]
    fn what_a_cpu_would_fault_for_cannot() {
        let mut states = [State::reset(); 7];
        states[0].cr0 |= 1 << 32;
        states[1].cr4 |= 1 << 13;
        states[2].efer |= 1 << 12;
        states[3].system_call[1] = 1 << 63;
        states[4].debug[5] |= 1 << 32;
        states[5].xcr0 = 0;
        states[6].system_enter[2] = 1 << 47;
        for (number, state) in states.iter().enumerate() {
            assert!(!state.is_loadable(), "{number}");
        }
    }
}
