//! The active VMCS, with typed fields.

use crate::checked::CHECKS_ENTRIES;
use core::arch::asm;
use x86::segment::{Segment, SegmentName};
use x86::vtx::field::{self, Field, Fields, Natural, ReadWrite, W16, W32, Width};

/// The VMCS that is current on this CPU. Whoever has one knows that this CPU
/// is in VMX operation.
#[derive(Debug)]
pub(crate) struct Vmcs {
    _current: (),
}

impl Vmcs {
    /// # Safety
    /// This CPU is in VMX root operation and stays there, and a VMCS is
    /// current on it and stays so.
    pub(crate) unsafe fn current() -> Self {
        Self { _current: () }
    }

    /// Writes a field.
    #[inline]
    pub(crate) fn write<W: Width>(&self, field: Field<W, ReadWrite>, value: W::Value) {
        let value: u64 = value.into();
        // SAFETY: a VMCS is current, so VMWRITE does not fault. What a field
        // may hold is checked by VM entry; the fields that decide over the
        // hypervisor's own state are written by `setup` alone.
        unsafe {
            asm!("vmwrite {}, {}", in(reg) field.encoding(), in(reg) value, options(nostack));
        }
    }

    /// Reads the field of this encoding, if this CPU's VMCS has it.
    pub(crate) fn try_read(&self, encoding: u64) -> Option<u64> {
        let (value, failed): (u64, u8);
        // SAFETY: a VMCS is current, so VMREAD does not fault; it reads only,
        // and says in the flags whether it did.
        unsafe {
            asm!("vmread {}, {}", "setbe {}", inout(reg) 0u64 => value, in(reg) encoding,
                 out(reg_byte) failed, options(nomem, nostack));
        }
        (failed == 0).then_some(value)
    }

    /// The physical address of the VMCS.
    pub(crate) fn address(&self) -> u64 {
        let mut address = 0u64;
        // SAFETY: in VMX operation VMPTRST stores eight bytes, which are ours.
        unsafe { asm!("vmptrst [{}]", in(reg) &mut address, options(nostack)) };
        address
    }
}

impl Fields for Vmcs {
    /// Reads a field that every CPU has on which Underlay runs: VMREAD of one
    /// that it lacks fails and leaves the register as it was. On the way of
    /// every exit nobody looks whether it failed, but in builds that check
    /// themselves.
    #[inline]
    fn read<W: Width, D>(&self, field: Field<W, D>) -> W::Value {
        if CHECKS_ENTRIES {
            return W::from_raw(self.read_or_stop(field.encoding()));
        }
        let value: u64;
        // SAFETY: a VMCS is current, so VMREAD does not fault; it reads only.
        unsafe {
            asm!("vmread {}, {}", out(reg) value, in(reg) field.encoding(),
                 options(nomem, nostack));
            // VMREAD clears what the field does not fill, which the compiler
            // need not do again. Intel SDM volume 3, "VMREAD".
            core::hint::assert_unchecked(value <= W::MAX);
        }
        W::from_raw(value)
    }
}

impl Vmcs {
    fn read_or_stop(&self, encoding: u64) -> u64 {
        match self.try_read(encoding) {
            Some(value) => value,
            None => crate::exceptions::stop(format_args!("the VMCS has no field {encoding:#x}")),
        }
    }
}

/// The four fields of a segment register of the guest's.
#[derive(Clone, Copy)]
pub(crate) struct SegmentFields {
    selector: Field<W16>,
    base: Field<Natural>,
    limit: Field<W32>,
    rights: Field<W32>,
}

macro_rules! segments {
    ($($name:ident: $selector:ident $base:ident $limit:ident $rights:ident;)*) => {$(
        pub(crate) const $name: SegmentFields = SegmentFields {
            selector: field::$selector,
            base: field::$base,
            limit: field::$limit,
            rights: field::$rights,
        };
    )*};
}
segments! {
    ES: GUEST_ES GUEST_ES_BASE GUEST_ES_LIMIT GUEST_ES_RIGHTS;
    CS: GUEST_CS GUEST_CS_BASE GUEST_CS_LIMIT GUEST_CS_RIGHTS;
    SS: GUEST_SS GUEST_SS_BASE GUEST_SS_LIMIT GUEST_SS_RIGHTS;
    DS: GUEST_DS GUEST_DS_BASE GUEST_DS_LIMIT GUEST_DS_RIGHTS;
    FS: GUEST_FS GUEST_FS_BASE GUEST_FS_LIMIT GUEST_FS_RIGHTS;
    GS: GUEST_GS GUEST_GS_BASE GUEST_GS_LIMIT GUEST_GS_RIGHTS;
    LDTR: GUEST_LDTR GUEST_LDTR_BASE GUEST_LDTR_LIMIT GUEST_LDTR_RIGHTS;
    TR: GUEST_TR GUEST_TR_BASE GUEST_TR_LIMIT GUEST_TR_RIGHTS;
}

/// The fields of a segment register.
pub(crate) const fn segment_fields(name: SegmentName) -> SegmentFields {
    match name {
        SegmentName::Es => ES,
        SegmentName::Cs => CS,
        SegmentName::Ss => SS,
        SegmentName::Ds => DS,
        SegmentName::Fs => FS,
        SegmentName::Gs => GS,
        SegmentName::Ldtr => LDTR,
        SegmentName::Tr => TR,
    }
}

impl Vmcs {
    /// Reads a segment register of the guest's.
    pub(crate) fn read_segment(&self, fields: SegmentFields) -> Segment {
        Segment {
            selector: self.read(fields.selector),
            base: self.read(fields.base),
            limit: self.read(fields.limit),
            rights: self.read(fields.rights),
        }
    }

    /// Writes a segment register of the guest's.
    pub(crate) fn write_segment(&self, fields: SegmentFields, segment: Segment) {
        self.write(fields.selector, segment.selector);
        self.write(fields.base, segment.base);
        self.write(fields.limit, segment.limit);
        self.write(fields.rights, segment.rights);
    }
}
