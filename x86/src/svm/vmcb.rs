//! The VMCB. AMD APM volume 2, appendix "Layout of VMCB".

use crate::segment::{Segment, SegmentName};
use core::mem::offset_of;

/// A segment register in the state save area.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct VmcbSegment {
    pub selector: u16,
    /// See [`Segment::svm_attributes`].
    pub attributes: u16,
    pub limit: u32,
    pub base: u64,
}

impl From<Segment> for VmcbSegment {
    fn from(segment: Segment) -> Self {
        Self {
            selector: segment.selector,
            attributes: segment.svm_attributes(),
            limit: segment.limit,
            base: segment.base,
        }
    }
}

/// The control area: what exits, and why the last exit happened.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Control {
    pub intercept_cr: u32,
    pub intercept_dr: u32,
    pub intercept_exceptions: u32,
    pub intercept3: u32,
    pub intercept4: u32,
    pub intercept5: u32,
    _reserved_018: [u8; 0x3c - 0x18],
    pub pause_filter: u32,
    pub io_map: u64,
    pub msr_map: u64,
    pub tsc_offset: u64,
    pub asid: u32,
    pub tlb_control: u8,
    _reserved_05d: [u8; 3],
    pub virtual_interrupt: u64,
    pub interrupt_shadow: u64,
    pub exit_code: u64,
    pub exit_info1: u64,
    pub exit_info2: u64,
    pub exit_event: u64,
    pub nested_control: u64,
    _reserved_098: [u8; 0xa8 - 0x98],
    pub entry_event: u64,
    pub nested_cr3: u64,
    pub virtualisation_control: u64,
    pub clean: u64,
    pub next_rip: u64,
    pub fetched_length: u8,
    pub fetched: [u8; 15],
    _reserved_0e0: [u8; 0x400 - 0xe0],
}

/// The state save area: the guest's registers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Save {
    pub es: VmcbSegment,
    pub cs: VmcbSegment,
    pub ss: VmcbSegment,
    pub ds: VmcbSegment,
    pub fs: VmcbSegment,
    pub gs: VmcbSegment,
    pub gdtr: VmcbSegment,
    pub ldtr: VmcbSegment,
    pub idtr: VmcbSegment,
    pub tr: VmcbSegment,
    _reserved_0a0: [u8; 0xcb - 0xa0],
    pub cpl: u8,
    _reserved_0cc: u32,
    pub efer: u64,
    _reserved_0d8: [u8; 0x148 - 0xd8],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    _reserved_180: [u8; 0x1d8 - 0x180],
    pub rsp: u64,
    _reserved_1e0: [u8; 0x1f8 - 0x1e0],
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    _reserved_248: [u8; 0x268 - 0x248],
    pub pat: u64,
    pub debug_control: u64,
    _reserved_278: [u8; 0xc00 - 0x278],
}

impl Save {
    /// A segment register.
    pub const fn segment(&self, name: SegmentName) -> &VmcbSegment {
        match name {
            SegmentName::Es => &self.es,
            SegmentName::Cs => &self.cs,
            SegmentName::Ss => &self.ss,
            SegmentName::Ds => &self.ds,
            SegmentName::Fs => &self.fs,
            SegmentName::Gs => &self.gs,
            SegmentName::Ldtr => &self.ldtr,
            SegmentName::Tr => &self.tr,
        }
    }

    /// The same, to be changed.
    pub const fn segment_mut(&mut self, name: SegmentName) -> &mut VmcbSegment {
        match name {
            SegmentName::Es => &mut self.es,
            SegmentName::Cs => &mut self.cs,
            SegmentName::Ss => &mut self.ss,
            SegmentName::Ds => &mut self.ds,
            SegmentName::Fs => &mut self.fs,
            SegmentName::Gs => &mut self.gs,
            SegmentName::Ldtr => &mut self.ldtr,
            SegmentName::Tr => &mut self.tr,
        }
    }
}

/// One virtual machine control block: a page.
#[repr(C, align(4096))]
#[derive(Clone, Copy, Debug)]
pub struct Vmcb {
    /// What exits, and why the last exit happened.
    pub control: Control,
    /// The guest's registers.
    pub save: Save,
}

const BLANK_CONTROL: Control = Control {
    intercept_cr: 0,
    intercept_dr: 0,
    intercept_exceptions: 0,
    intercept3: 0,
    intercept4: 0,
    intercept5: 0,
    _reserved_018: [0; 0x3c - 0x18],
    pause_filter: 0,
    io_map: 0,
    msr_map: 0,
    tsc_offset: 0,
    asid: 0,
    tlb_control: 0,
    _reserved_05d: [0; 3],
    virtual_interrupt: 0,
    interrupt_shadow: 0,
    exit_code: 0,
    exit_info1: 0,
    exit_info2: 0,
    exit_event: 0,
    nested_control: 0,
    _reserved_098: [0; 0xa8 - 0x98],
    entry_event: 0,
    nested_cr3: 0,
    virtualisation_control: 0,
    clean: 0,
    next_rip: 0,
    fetched_length: 0,
    fetched: [0; 15],
    _reserved_0e0: [0; 0x400 - 0xe0],
};

const BLANK_SAVE: Save = Save {
    es: NO_SEGMENT,
    cs: NO_SEGMENT,
    ss: NO_SEGMENT,
    ds: NO_SEGMENT,
    fs: NO_SEGMENT,
    gs: NO_SEGMENT,
    gdtr: NO_SEGMENT,
    ldtr: NO_SEGMENT,
    idtr: NO_SEGMENT,
    tr: NO_SEGMENT,
    _reserved_0a0: [0; 0xcb - 0xa0],
    cpl: 0,
    _reserved_0cc: 0,
    efer: 0,
    _reserved_0d8: [0; 0x148 - 0xd8],
    cr4: 0,
    cr3: 0,
    cr0: 0,
    dr7: 0,
    dr6: 0,
    rflags: 0,
    rip: 0,
    _reserved_180: [0; 0x1d8 - 0x180],
    rsp: 0,
    _reserved_1e0: [0; 0x1f8 - 0x1e0],
    rax: 0,
    star: 0,
    lstar: 0,
    cstar: 0,
    sfmask: 0,
    kernel_gs_base: 0,
    sysenter_cs: 0,
    sysenter_esp: 0,
    sysenter_eip: 0,
    cr2: 0,
    _reserved_248: [0; 0x268 - 0x248],
    pat: 0,
    debug_control: 0,
    _reserved_278: [0; 0xc00 - 0x278],
};

const NO_SEGMENT: VmcbSegment = VmcbSegment {
    selector: 0,
    attributes: 0,
    limit: 0,
    base: 0,
};

/// A VMCB full of zeros.
pub const fn blank() -> Vmcb {
    Vmcb {
        control: BLANK_CONTROL,
        save: BLANK_SAVE,
    }
}

/// Offset of EXITCODE in the VMCB, for the entry stub.
pub const EXIT_CODE_OFFSET: usize = offset_of!(Vmcb, control) + offset_of!(Control, exit_code);

/// Offset of TLB_CONTROL in the VMCB, for the entry stub.
pub const TLB_CONTROL_OFFSET: usize = offset_of!(Vmcb, control) + offset_of!(Control, tlb_control);

/// Offset of EVENTINJ in the VMCB, for the entry stub.
pub const ENTRY_EVENT_OFFSET: usize = offset_of!(Vmcb, control) + offset_of!(Control, entry_event);

/// Offset of the guest's RAX in the VMCB, for the entry stub.
pub const RAX_OFFSET: usize = offset_of!(Vmcb, save) + offset_of!(Save, rax);

const _: () = {
    assert!(offset_of!(Control, intercept3) == 0x00c);
    assert!(offset_of!(Control, io_map) == 0x040);
    assert!(offset_of!(Control, tsc_offset) == 0x050);
    assert!(offset_of!(Control, asid) == 0x058);
    assert!(offset_of!(Control, tlb_control) == 0x05c);
    assert!(offset_of!(Control, interrupt_shadow) == 0x068);
    assert!(offset_of!(Control, exit_code) == 0x070);
    assert!(offset_of!(Control, exit_event) == 0x088);
    assert!(offset_of!(Control, nested_control) == 0x090);
    assert!(offset_of!(Control, entry_event) == 0x0a8);
    assert!(offset_of!(Control, nested_cr3) == 0x0b0);
    assert!(offset_of!(Control, clean) == 0x0c0);
    assert!(offset_of!(Control, next_rip) == 0x0c8);
    assert!(offset_of!(Control, fetched_length) == 0x0d0);
    assert!(offset_of!(Vmcb, save) == 0x400);
    assert!(offset_of!(Save, tr) == 0x090);
    assert!(offset_of!(Save, cpl) == 0x0cb);
    assert!(offset_of!(Save, efer) == 0x0d0);
    assert!(offset_of!(Save, cr4) == 0x148);
    assert!(offset_of!(Save, rflags) == 0x170);
    assert!(offset_of!(Save, rip) == 0x178);
    assert!(offset_of!(Save, rsp) == 0x1d8);
    assert!(offset_of!(Save, rax) == 0x1f8);
    assert!(offset_of!(Save, cr2) == 0x240);
    assert!(offset_of!(Save, pat) == 0x268);
    assert!(size_of::<Vmcb>() == 4096);
};
