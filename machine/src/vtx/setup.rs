//! VMX operation on this CPU, and a VMCS in which the guest goes on exactly
//! where the firmware was.

use super::block::{self, Vmcs};
use super::enter::{Frame, exit_point};
use super::support::Support;
use crate::boot::Boot;
use crate::firmware::Firmware;
use crate::instructions::{read_cr4, write_cr4};
use crate::region::Page;
use abi::refusal::Refusal;
use core::arch::asm;
use x86::control::{Cr4, GUEST_CR4};
use x86::segment::{Segment, UNUSABLE};
use x86::vtx::field;

/// The PAT that the hypervisor's own tables rely on: entry 0 is write-back.
/// The value after reset. Intel SDM volume 3, "Programming the PAT".
const OWN_PAT: u64 = 0x0007_0406_0007_0406;

/// The VPID of the guest; 0 is the hypervisor's.
const GUEST_VPID: u16 = 1;

/// Physical addresses of what the VMCS points at.
pub(crate) struct Pointers {
    pub msr_bitmap: u64,
    /// Two pages.
    pub io_bitmaps: u64,
    pub ept: u64,
}

/// Enters VMX operation and makes a fresh VMCS current.
pub(crate) fn start(
    support: &Support,
    vmxon: &'static mut Page,
    vmcs: &'static mut Page,
) -> Result<Vmcs, Refusal> {
    for page in [&mut *vmxon, &mut *vmcs] {
        page.0[..4].copy_from_slice(&support.revision.to_le_bytes());
    }
    let vmxon_at = core::ptr::from_ref(vmxon) as u64;
    let vmcs_at = core::ptr::from_ref(vmcs) as u64;
    let failed: u8;
    // SAFETY: CR4 takes the fixed bits, VMXE among them, which `support` read.
    // Both pages are static, unique, aligned and carry the revision; linear
    // addresses equal physical ones; IA32_FEATURE_CONTROL allows VMXON.
    unsafe {
        write_cr4(read_cr4() | support.cr4_fixed);
        asm!(
            "vmxon [{vmxon}]",
            "jbe 2f",
            "vmclear [{vmcs}]",
            "jbe 2f",
            "vmptrld [{vmcs}]",
            "2: setbe {failed}",
            vmxon = in(reg) &vmxon_at,
            vmcs = in(reg) &vmcs_at,
            failed = out(reg_byte) failed,
            options(nostack),
        );
    }
    if failed != 0 {
        stop();
        return Err(Refusal::EntryFailed { code: 0, detail: 0 });
    }
    // SAFETY: all three instructions succeeded, and only `stop` undoes them.
    Ok(unsafe { Vmcs::current() })
}

/// Leaves VMX operation.
pub(crate) fn stop() {
    // SAFETY: called where VMXON was tried. VMXOFF outside VMX operation raises
    // #UD, so it is guarded by CR4.VMXE, which only `start` sets; a VMXON that
    // failed leaves nothing to switch off but the bit.
    unsafe {
        if read_cr4() & Cr4::VMXE.bits() != 0 {
            crate::guarded::vmx_off();
            write_cr4(read_cr4() & !Cr4::VMXE.bits());
        }
    }
}

/// Fills in everything.
pub(crate) fn fill(
    vmcs: &Vmcs,
    boot: &Boot,
    support: &Support,
    pointers: &Pointers,
    frame: &Frame,
) {
    controls(vmcs, support, pointers);
    own_state(vmcs, boot, frame);
    guest_registers(vmcs, &boot.firmware, support);
    guest_segments(vmcs, &boot.firmware);
}

pub(super) fn controls(vmcs: &Vmcs, support: &Support, pointers: &Pointers) {
    vmcs.write(field::VPID, GUEST_VPID);
    vmcs.write(field::PIN_CONTROLS, support.pin);
    vmcs.write(field::PROCESSOR_CONTROLS, support.processor);
    vmcs.write(field::SECONDARY_CONTROLS, support.secondary);
    vmcs.write(field::EXIT_CONTROLS, support.exit);
    vmcs.write(field::ENTRY_CONTROLS, support.entry);
    vmcs.write(field::EXCEPTION_BITMAP, 0);
    vmcs.write(field::PAGE_FAULT_MASK, 0);
    vmcs.write(field::PAGE_FAULT_MATCH, 0);
    vmcs.write(field::CR3_TARGETS, 0);
    vmcs.write(field::EXIT_MSR_STORES, 0);
    vmcs.write(field::EXIT_MSR_LOADS, 0);
    vmcs.write(field::ENTRY_MSR_LOADS, 0);
    vmcs.write(field::ENTRY_EVENT, 0);
    vmcs.write(field::MSR_BITMAP, pointers.msr_bitmap);
    vmcs.write(field::IO_BITMAP_A, pointers.io_bitmaps);
    vmcs.write(field::IO_BITMAP_B, pointers.io_bitmaps + x86::PAGE_SIZE);
    vmcs.write(field::EPT_POINTER, pointers.ept);
    vmcs.write(field::VMCS_LINK, u64::MAX);
    if support.has(x86::vtx::control::secondary::XSAVES) {
        vmcs.write(field::XSS_EXITING_BITMAP, 0);
    }
}

fn own_state(vmcs: &Vmcs, boot: &Boot, frame: &Frame) {
    let host = boot.descriptors.host();
    vmcs.write(field::HOST_CR0, boot.own.cr0);
    vmcs.write(field::HOST_CR3, boot.own.cr3);
    vmcs.write(field::HOST_CR4, read_cr4());
    vmcs.write(field::HOST_EFER, boot.own.efer);
    vmcs.write(field::HOST_PAT, OWN_PAT);
    vmcs.write(field::HOST_CS, host.code);
    for selector in [field::HOST_SS, field::HOST_DS, field::HOST_ES] {
        vmcs.write(selector, host.data);
    }
    vmcs.write(field::HOST_FS, 0);
    vmcs.write(field::HOST_GS, 0);
    vmcs.write(field::HOST_TR, host.task);
    vmcs.write(field::HOST_FS_BASE, 0);
    vmcs.write(field::HOST_GS_BASE, core::ptr::from_ref(boot.percpu) as u64);
    vmcs.write(field::HOST_TR_BASE, host.tss_base);
    vmcs.write(field::HOST_GDTR_BASE, host.gdt_base);
    vmcs.write(field::HOST_IDTR_BASE, host.idt_base);
    vmcs.write(field::HOST_SYSENTER_CS, 0);
    vmcs.write(field::HOST_SYSENTER_ESP, 0);
    vmcs.write(field::HOST_SYSENTER_EIP, 0);
    vmcs.write(field::HOST_RSP, frame.end_of_registers());
    vmcs.write(field::HOST_RIP, exit_point as *const () as u64);
}

fn guest_registers(vmcs: &Vmcs, firmware: &Firmware, support: &Support) {
    vmcs.write(field::CR0_MASK, support.cr0_fixed);
    vmcs.write(field::CR0_SHADOW, firmware.cr0);
    vmcs.write(field::GUEST_CR0, firmware.cr0 | support.cr0_fixed);
    vmcs.write(field::GUEST_CR3, firmware.cr3);
    vmcs.write(field::CR4_MASK, !GUEST_CR4.bits() | support.cr4_fixed);
    vmcs.write(field::CR4_SHADOW, firmware.cr4 & GUEST_CR4.bits());
    vmcs.write(
        field::GUEST_CR4,
        (firmware.cr4 & GUEST_CR4.bits()) | support.cr4_fixed,
    );
    vmcs.write(field::GUEST_EFER, firmware.efer);
    vmcs.write(field::GUEST_PAT, firmware.pat);
    vmcs.write(field::GUEST_DR7, firmware.dr7);
    vmcs.write(field::GUEST_DEBUG_CONTROL, firmware.debug_control);
    vmcs.write(field::GUEST_SYSENTER_CS, firmware.sysenter_cs as u32);
    vmcs.write(field::GUEST_SYSENTER_ESP, firmware.sysenter_esp);
    vmcs.write(field::GUEST_SYSENTER_EIP, firmware.sysenter_eip);
    vmcs.write(field::GUEST_RIP, firmware.caller.rip);
    vmcs.write(field::GUEST_RSP, firmware.rsp);
    vmcs.write(field::GUEST_RFLAGS, firmware.rflags);
    vmcs.write(field::GUEST_INTERRUPTIBILITY, 0);
    vmcs.write(field::GUEST_ACTIVITY, 0);
    vmcs.write(field::GUEST_PENDING_DEBUG, 0);
}

fn guest_segments(vmcs: &Vmcs, firmware: &Firmware) {
    vmcs.write_segment(block::ES, firmware.es);
    vmcs.write_segment(block::CS, firmware.cs);
    vmcs.write_segment(block::SS, firmware.ss);
    vmcs.write_segment(block::DS, firmware.ds);
    vmcs.write_segment(block::FS, firmware.fs);
    vmcs.write_segment(block::GS, firmware.gs);
    vmcs.write_segment(block::LDTR, firmware.ldtr);
    vmcs.write_segment(block::TR, firmware.tr);
    vmcs.write(field::GUEST_GDTR_BASE, firmware.gdtr.base);
    vmcs.write(field::GUEST_GDTR_LIMIT, u32::from(firmware.gdtr.limit));
    vmcs.write(field::GUEST_IDTR_BASE, firmware.idtr.base);
    vmcs.write(field::GUEST_IDTR_LIMIT, u32::from(firmware.idtr.limit));
}

/// Segments and tables after INIT. Intel SDM volume 3, "IA-32 and Intel 64
/// Processor States Following Power-up, Reset, or INIT".
pub(crate) fn reset_segments(vmcs: &Vmcs) {
    let data = Segment {
        selector: 0,
        base: 0,
        limit: 0xffff,
        rights: 0x93,
    };
    for fields in [block::ES, block::SS, block::DS, block::FS, block::GS] {
        vmcs.write_segment(fields, data);
    }
    let code = Segment {
        selector: 0xf000,
        base: 0xffff_0000,
        limit: 0xffff,
        rights: 0x9b,
    };
    vmcs.write_segment(block::CS, code);
    vmcs.write_segment(
        block::LDTR,
        Segment {
            rights: 0x82 | UNUSABLE,
            ..data
        },
    );
    vmcs.write_segment(
        block::TR,
        Segment {
            rights: 0x8b,
            ..data
        },
    );
    vmcs.write(field::GUEST_GDTR_BASE, 0);
    vmcs.write(field::GUEST_GDTR_LIMIT, 0xffff);
    vmcs.write(field::GUEST_IDTR_BASE, 0);
    vmcs.write(field::GUEST_IDTR_LIMIT, 0xffff);
}
