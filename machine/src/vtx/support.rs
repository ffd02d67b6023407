//! Whether this CPU's VT-x has what Underlay needs, and the control words that
//! it allows.

use crate::instructions::{cpuid, read_msr, write_msr};
use abi::refusal::Refusal;
use x86::vtx::control::{
    Allowed, Lacking, capability, entry, ept, exit, pin, processor, secondary,
};
use x86::{cpuid, msr};

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Support {
    /// The VMCS revision.
    pub(crate) revision: u32,
    pub(crate) pin: u32,
    /// Whether the guest can be made to exit at once, which several CPUs need.
    pub(crate) preemption_timer: bool,
    pub(crate) processor: u32,
    pub(crate) secondary: u32,
    /// Whether WBINVD can exit, which several CPUs need.
    pub(crate) write_backs: bool,
    pub(crate) exit: u32,
    pub(crate) entry: u32,
    /// IA32_VMX_EPT_VPID_CAP.
    pub(crate) ept_vpid: u64,
    /// Bits that CR0 must have: fixed for VMX, but for PE and PG, of which an
    /// unrestricted guest is free.
    pub(crate) cr0_fixed: u64,
    /// Bits that CR4 must have.
    pub(crate) cr4_fixed: u64,
}

impl Support {
    /// Whether the nested tables may have 1 GiB pages.
    pub fn gib_pages(&self) -> bool {
        self.ept_vpid & ept::PAGES_1_GIB != 0
    }

    /// What several CPUs need of this one beside.
    pub fn calls(&self) -> Result<(), Refusal> {
        let lacks = Refusal::NoVtxControl {
            msr: u64::from(msr::VMX_PIN_CONTROLS),
            bits: u64::from(pin::PREEMPTION_TIMER),
        };
        self.preemption_timer.then_some(()).ok_or(lacks)?;
        let lacks = Refusal::NoVtxControl {
            msr: u64::from(msr::VMX_SECONDARY_CONTROLS),
            bits: u64::from(secondary::WRITE_BACKS),
        };
        self.write_backs.then_some(()).ok_or(lacks)
    }

    /// The same for a child, of which more exits, and which is offered less.
    /// None where this CPU has no way to end its turn at once.
    pub(crate) fn for_child(&self) -> Option<Self> {
        // SAFETY: a CPU with VMX has IA32_VMX_BASIC.
        let basic = unsafe { read_msr(msr::VMX_BASIC) };
        self.calls().ok()?;
        let pin = self.pin | pin::EXTERNAL_INTERRUPT_EXITING | pin::PREEMPTION_TIMER;
        let saved = exit::SAVE_PREEMPTION_TIMER;
        let processor = self.processor
            | processor::HLT_EXITS
            | processor::MWAIT_EXITS
            | processor::MONITOR_EXITS
            | processor::RDPMC_EXITS
            | processor::CR8_EXITS
            | processor::DEBUG_EXITS;
        let secondary = secondary::EPT | secondary::UNRESTRICTED | secondary::VPID;
        let adjust = |plain, needed, wanted| allowed(basic, plain).adjust(needed, wanted).ok();
        Some(Self {
            pin: adjust(msr::VMX_PIN_CONTROLS, pin, 0)?,
            processor: adjust(msr::VMX_PROCESSOR_CONTROLS, processor, 0)?,
            secondary: adjust(
                msr::VMX_SECONDARY_CONTROLS,
                secondary,
                secondary::WRITE_BACKS,
            )?,
            exit: adjust(msr::VMX_EXIT_CONTROLS, self.exit, saved)?,
            ..*self
        })
    }

    /// Whether the guest may use RDTSCP, INVPCID, XSAVES and the instructions
    /// that wait in user mode: each needs a control of its own.
    pub fn has(&self, control: u32) -> bool {
        self.secondary & control != 0
    }
}

fn lacks(lacking: Lacking) -> Refusal {
    Refusal::NoVtxControl {
        msr: u64::from(lacking.msr),
        bits: u64::from(lacking.bits),
    }
}

/// Checks everything, and switches VT-x on in IA32_FEATURE_CONTROL where the
/// firmware left that open.
pub fn support() -> Result<Support, Refusal> {
    if cpuid(cpuid::FEATURES, 0).ecx & cpuid::ECX1_VMX == 0 {
        return Err(Refusal::NoVirtualisation);
    }
    // SAFETY: a CPU with VMX has IA32_FEATURE_CONTROL and IA32_VMX_BASIC.
    let (feature_control, basic) =
        unsafe { (read_msr(msr::FEATURE_CONTROL), read_msr(msr::VMX_BASIC)) };
    let locked = feature_control & msr::FEATURE_CONTROL_LOCK != 0;
    if locked && feature_control & msr::FEATURE_CONTROL_VMX == 0 {
        return Err(Refusal::VtxLockedOff {
            value: feature_control,
        });
    }
    let support = controls(basic)?;
    if !locked {
        let value = feature_control | msr::FEATURE_CONTROL_LOCK | msr::FEATURE_CONTROL_VMX;
        // SAFETY: the register exists and is not locked.
        unsafe { write_msr(msr::FEATURE_CONTROL, value) };
    }
    Ok(support)
}

fn allowed(basic: u64, plain: u32) -> Allowed {
    let number = capability(basic, plain);
    // SAFETY: a CPU with VMX has the plain capability registers; `basic` says
    // whether it has the true ones.
    let value = unsafe { read_msr(number) };
    Allowed { msr: number, value }
}

fn controls(basic: u64) -> Result<Support, Refusal> {
    let processor = allowed(basic, msr::VMX_PROCESSOR_CONTROLS)
        .adjust(
            processor::SECONDARY | processor::MSR_BITMAPS | processor::IO_BITMAPS,
            0,
        )
        .map_err(|_| Refusal::NoEpt)?;
    // Without the true capability registers every access to CR3 exits.
    if processor & processor::CR3_EXITS != 0 {
        return Err(Refusal::NoVtxControl {
            msr: u64::from(msr::VMX_TRUE_PROCESSOR_CONTROLS),
            bits: u64::from(processor & processor::CR3_EXITS),
        });
    }
    let (secondary, ept_vpid) = nested_paging(basic)?;
    let secondaries = allowed(basic, msr::VMX_SECONDARY_CONTROLS);
    // Without NMI exiting an NMI could not be held back for a guest that is in
    // its NMI handler.
    let pins = allowed(basic, msr::VMX_PIN_CONTROLS);
    let preemption_timer = pins.may() & pin::PREEMPTION_TIMER != 0;
    let pin = pins
        .adjust(pin::NMI_EXITING | pin::VIRTUAL_NMIS, 0)
        .map_err(lacks)?;
    let exit = allowed(basic, msr::VMX_EXIT_CONTROLS)
        .adjust(
            exit::SAVE_DEBUG
                | exit::HOST_64_BIT
                | exit::SAVE_PAT
                | exit::LOAD_PAT
                | exit::SAVE_EFER
                | exit::LOAD_EFER,
            0,
        )
        .map_err(lacks)?;
    let entry = allowed(basic, msr::VMX_ENTRY_CONTROLS)
        .adjust(
            entry::LOAD_DEBUG | entry::LONG_MODE | entry::LOAD_PAT | entry::LOAD_EFER,
            0,
        )
        .map_err(lacks)?;
    // SAFETY: a CPU with VMX has both registers.
    let (cr0, cr4) = unsafe { (read_msr(msr::VMX_CR0_FIXED0), read_msr(msr::VMX_CR4_FIXED0)) };
    let free = (x86::control::Cr0::PE | x86::control::Cr0::PG).bits();
    Ok(Support {
        revision: basic as u32 & 0x7fff_ffff,
        pin,
        preemption_timer,
        processor,
        secondary,
        write_backs: secondaries.may() & secondary::WRITE_BACKS != 0,
        exit,
        entry,
        ept_vpid,
        cr0_fixed: cr0 & !free,
        cr4_fixed: cr4,
    })
}

/// The secondary controls and what EPT and VPID can do.
fn nested_paging(basic: u64) -> Result<(u32, u64), Refusal> {
    let wanted = secondary::RDTSCP | secondary::INVPCID | secondary::XSAVES | secondary::USER_WAIT;
    let allowed = allowed(basic, msr::VMX_SECONDARY_CONTROLS);
    let has = |control| allowed.may() & control != 0;
    if !has(secondary::EPT) {
        return Err(Refusal::NoEpt);
    }
    if !has(secondary::UNRESTRICTED) {
        return Err(Refusal::NoUnrestrictedGuest);
    }
    if !has(secondary::VPID) {
        return Err(Refusal::NoVpid);
    }
    let needed = secondary::EPT | secondary::UNRESTRICTED | secondary::VPID;
    let word = allowed.adjust(needed, wanted).map_err(lacks)?;
    // SAFETY: a CPU with EPT has this register.
    let ept_vpid = unsafe { read_msr(msr::VMX_EPT_VPID) };
    if ept_vpid & ept::NEEDED != ept::NEEDED {
        return Err(Refusal::NoEpt);
    }
    if ept_vpid & ept::INVVPID == 0 {
        return Err(Refusal::NoVpid);
    }
    Ok((word, ept_vpid))
}
