//! A snapshot as the rules look at it: controls, addresses, segments.

use super::{Capabilities, Snapshot};
use crate::control::{Cr0, Rflags};
use crate::event;
use crate::segment::UNUSABLE;
use crate::vtx::control::{entry, processor, secondary};
use crate::vtx::field::{self, Field, W16, W32, Width};

/// IA32_VMX_BASIC: physical addresses in and of VMX structures have 32 bits.
const ADDRESSES_32_BIT: u64 = 1 << 48;

/// A snapshot on a CPU. A control that the CPU does not have counts as 0 here,
/// so that no rule looks at a field which is not there; that the control may
/// not be 1 is a rule of its own.
pub(super) struct View<'a> {
    fields: &'a Snapshot,
    pub capabilities: &'a Capabilities,
}

impl<'a> View<'a> {
    pub(super) fn new(fields: &'a Snapshot, capabilities: &'a Capabilities) -> Self {
        Self {
            fields,
            capabilities,
        }
    }

    /// The value of a field.
    pub(super) fn get<W: Width, D>(&self, field: Field<W, D>) -> u64 {
        self.fields.value(field.encoding())
    }

    /// Whether all of `bits` are clear in a field.
    pub(super) fn clear<W: Width, D>(&self, field: Field<W, D>, bits: u64) -> bool {
        self.get(field) & bits == 0
    }

    /// The physical address of the VMCS.
    pub(super) fn vmcs(&self) -> u64 {
        self.fields.vmcs
    }

    fn word(&self, field: Field<W32>) -> u32 {
        self.get(field) as u32
    }

    pub(super) fn pin(&self, bits: u32) -> bool {
        self.word(field::PIN_CONTROLS) & self.capabilities.pin.may() & bits != 0
    }

    pub(super) fn processor(&self, bits: u32) -> bool {
        self.word(field::PROCESSOR_CONTROLS) & self.capabilities.processor.may() & bits != 0
    }

    pub(super) fn secondary(&self, bits: u32) -> bool {
        let word = self.word(field::SECONDARY_CONTROLS) & self.capabilities.secondary.may();
        self.processor(processor::SECONDARY) && word & bits != 0
    }

    pub(super) fn tertiary(&self, bits: u64) -> bool {
        let word = self.get(field::TERTIARY_CONTROLS) & self.capabilities.tertiary;
        self.processor(processor::TERTIARY) && word & bits != 0
    }

    pub(super) fn exit(&self, bits: u32) -> bool {
        self.word(field::EXIT_CONTROLS) & self.capabilities.exit.may() & bits != 0
    }

    pub(super) fn entry(&self, bits: u32) -> bool {
        self.word(field::ENTRY_CONTROLS) & self.capabilities.entry.may() & bits != 0
    }

    /// EPT is on.
    pub(super) fn ept(&self) -> bool {
        self.secondary(secondary::EPT)
    }

    /// The guest may run without paging and in real mode.
    pub(super) fn unrestricted(&self) -> bool {
        self.secondary(secondary::UNRESTRICTED)
    }

    /// The guest is to be in IA-32e mode.
    pub(super) fn long_mode(&self) -> bool {
        self.entry(entry::LONG_MODE)
    }

    /// Whether the guest's CR0 has all of `bits`.
    pub(super) fn cr0(&self, bits: Cr0) -> bool {
        self.get(field::GUEST_CR0) & bits.bits() == bits.bits()
    }

    /// Whether the guest's RFLAGS have all of `bits`.
    pub(super) fn rflags(&self, bits: Rflags) -> bool {
        self.get(field::GUEST_RFLAGS) & bits.bits() == bits.bits()
    }

    /// The guest is in virtual-8086 mode.
    pub(super) fn virtual_8086(&self) -> bool {
        self.rflags(Rflags::VM)
    }

    /// The event to be injected, if there is one.
    pub(super) fn event(&self) -> Option<u32> {
        let word = self.word(field::ENTRY_EVENT);
        (word & event::VALID != 0).then_some(word)
    }

    /// Whether an event of type `kind` is to be injected.
    pub(super) fn injects(&self, kind: u32) -> bool {
        self.event()
            .is_some_and(|word| word & event::TYPE_MASK == kind)
    }

    /// Whether a field that is a physical address, as the guest has them, has
    /// no bit that no address has.
    pub(super) fn is_physical<W: Width, D>(&self, field: Field<W, D>) -> bool {
        self.get(field) >> self.capabilities.physical_bits.clamp(1, 63) == 0
    }

    /// The same for the address of a structure that VMX uses.
    pub(super) fn fits<W: Width, D>(&self, field: Field<W, D>) -> bool {
        self.is_structure(self.get(field))
    }

    fn is_structure(&self, address: u64) -> bool {
        let narrow = self.capabilities.basic & ADDRESSES_32_BIT != 0;
        let bits = if narrow {
            32
        } else {
            self.capabilities.physical_bits
        };
        address >> bits.clamp(1, 63) == 0
    }

    /// Whether the last byte of `count` entries of 16 bytes, and all before it,
    /// have addresses that exist.
    pub(super) fn area_fits<W: Width, V: Width>(&self, area: Field<W>, count: Field<V>) -> bool {
        let last = (self.get(count) * 16).saturating_sub(1);
        let last = self.get(area).checked_add(last);
        last.is_some_and(|last| self.is_structure(last))
    }

    /// Whether a linear address is canonical on this CPU, whatever the paging.
    pub(super) fn canonical<W: Width, D>(&self, field: Field<W, D>) -> bool {
        let unused = 64 - self.capabilities.linear_bits.clamp(32, 64);
        let value = self.get(field) as i64;
        (value << unused) >> unused == value
    }

    /// Whether all eight entries of a PAT are memory types.
    pub(super) fn is_pat<W: Width, D>(&self, field: Field<W, D>) -> bool {
        let types = self.get(field).to_le_bytes();
        types.iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
    }
}

/// A segment register of the guest's.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    selector: Field<W16>,
    limit: Field<W32>,
    rights: Field<W32>,
}

macro_rules! segments {
    ($($name:ident: $selector:ident $limit:ident $rights:ident;)*) => {$(
        pub(super) const $name: Segment = Segment {
            selector: field::$selector,
            limit: field::$limit,
            rights: field::$rights,
        };
    )*};
}
segments! {
    ES: GUEST_ES GUEST_ES_LIMIT GUEST_ES_RIGHTS;
    CS: GUEST_CS GUEST_CS_LIMIT GUEST_CS_RIGHTS;
    SS: GUEST_SS GUEST_SS_LIMIT GUEST_SS_RIGHTS;
    DS: GUEST_DS GUEST_DS_LIMIT GUEST_DS_RIGHTS;
    FS: GUEST_FS GUEST_FS_LIMIT GUEST_FS_RIGHTS;
    GS: GUEST_GS GUEST_GS_LIMIT GUEST_GS_RIGHTS;
    LDTR: GUEST_LDTR GUEST_LDTR_LIMIT GUEST_LDTR_RIGHTS;
    TR: GUEST_TR GUEST_TR_LIMIT GUEST_TR_RIGHTS;
}

impl View<'_> {
    pub(super) fn usable(&self, segment: Segment) -> bool {
        self.clear(segment.rights, u64::from(UNUSABLE))
    }

    /// The low four bits of the access rights.
    pub(super) fn kind(&self, segment: Segment) -> u64 {
        self.get(segment.rights) & 0xf
    }

    pub(super) fn dpl(&self, segment: Segment) -> u64 {
        self.get(segment.rights) >> 5 & 3
    }

    pub(super) fn rpl(&self, segment: Segment) -> u64 {
        self.get(segment.selector) & 3
    }

    /// A segment with bytes missing in its last page cannot count in pages.
    pub(super) fn may_be_granular(&self, segment: Segment) -> bool {
        self.get(segment.limit) & 0xfff == 0xfff || self.clear(segment.rights, GRANULAR)
    }

    /// A segment beyond 1 MiB must count in pages.
    pub(super) fn may_be_bytes(&self, segment: Segment) -> bool {
        self.clear(segment.limit, 0xfff0_0000) || !self.clear(segment.rights, GRANULAR)
    }
}

const GRANULAR: u64 = 1 << 15;
