//! SVM on this CPU, and a VMCB in which the guest goes on exactly where the
//! firmware was.

use crate::firmware::Firmware;
use crate::guarded;
use crate::instructions::{read_msr, write_msr};
use core::arch::asm;
use x86::control::{DR6_RESET, Efer};
use x86::msr;
use x86::segment::Segment;
use x86::svm::control::{NESTED_PAGING, TLB_FLUSH_ALL, intercept3, intercept4};
use x86::svm::vmcb::{Control, Save, Vmcb, VmcbSegment};

/// The ASID of the guest; 0 is the hypervisor's.
const GUEST_ASID: u32 = 1;

/// Physical addresses of what the VMCB points at.
pub(crate) struct Pointers {
    pub msr_map: u64,
    pub io_map: u64,
    pub nested_root: u64,
}

/// Enables SVM with `save_area` for the hypervisor's state, and stores in `host`
/// what VMLOAD is to load after each exit. An INIT that hits the hypervisor, or
/// that an exit reported and left pending, becomes #SX: its handler notes it. AMD
/// APM volume 2, "INIT Intercept" and "VM_CR MSR".
pub(crate) fn start(save_area: u64, host: u64) {
    // SAFETY: `support` found SVM, not disabled. The save area and the VMCB
    // are static pages of their own. Interrupts stay off: the guest's flag
    // decides over them while it runs, and the hypervisor has no use for them.
    unsafe {
        write_msr(msr::EFER, read_msr(msr::EFER) | Efer::SVME.bits());
        write_msr(msr::AMD_VM_HSAVE_PA, save_area);
        write_msr(msr::AMD_VM_CR, read_msr(msr::AMD_VM_CR) | msr::VM_CR_R_INIT);
        asm!("cli", options(nomem, nostack));
    }
    save(host);
}

/// Stores in `host` what VMLOAD is to load for the hypervisor.
pub(crate) fn save(host: u64) {
    // SAFETY: SVM is on, and the VMCB is a static page of its own, which only
    // VMLOAD reads.
    unsafe { asm!("vmsave rax", in("rax") host, options(nostack)) };
}

/// Holds NMIs back until the next exit.
pub(crate) fn hold_nmis() {
    // SAFETY: SVM is on. `enter` sets the flag again, whether or not the
    // guest was entered.
    unsafe { asm!("clgi", options(nomem, nostack)) };
}

/// Disables SVM.
pub(crate) fn stop() {
    // SAFETY: called after `start` and when no guest is to run any more.
    unsafe {
        write_msr(
            msr::AMD_VM_CR,
            read_msr(msr::AMD_VM_CR) & !msr::VM_CR_R_INIT,
        );
        write_msr(msr::AMD_VM_HSAVE_PA, 0);
        write_msr(msr::EFER, read_msr(msr::EFER) & !Efer::SVME.bits());
    }
}

/// Whether the CPU takes these EFER bits: they are loaded into the
/// hypervisor's own EFER for a moment, where none of them but those of its
/// own mode, which stay, means anything to it.
pub(crate) fn accepts_efer(efer: Efer) -> bool {
    let own = Efer::LME | Efer::LMA | Efer::NXE | Efer::SVME | Efer::SCE;
    // SAFETY: the own bits stay set; the register exists, and the second
    // write puts back a value that was in force.
    unsafe {
        let before = read_msr(msr::EFER);
        let accepted = guarded::write_msr(msr::EFER, (efer | own).bits());
        write_msr(msr::EFER, before);
        accepted
    }
}

/// Fills in everything.
pub(crate) fn fill(vmcb: &mut Vmcb, firmware: &Firmware, pointers: &Pointers) {
    controls(&mut vmcb.control, pointers);
    guest_registers(&mut vmcb.save, firmware);
    guest_segments(&mut vmcb.save, firmware);
}

/// What exits: what must (VMRUN), what would reach around the hypervisor (the
/// SVM instructions, INVD, INIT, shutdown, some MSRs), what it serves (CPUID,
/// calls), and NMIs, by which other CPUs call. Interrupts go to the guest
/// directly.
pub(super) fn controls(control: &mut Control, pointers: &Pointers) {
    control.intercept3 = intercept3::INIT
        | intercept3::NMI
        | intercept3::CPUID
        | intercept3::INVD
        | intercept3::INVLPGA
        | intercept3::IO
        | intercept3::MSR
        | intercept3::SHUTDOWN;
    control.intercept4 = intercept4::VMRUN
        | intercept4::VMMCALL
        | intercept4::VMLOAD
        | intercept4::VMSAVE
        | intercept4::STGI
        | intercept4::CLGI
        | intercept4::SKINIT;
    control.msr_map = pointers.msr_map;
    control.io_map = pointers.io_map;
    control.asid = GUEST_ASID;
    control.tlb_control = TLB_FLUSH_ALL;
    control.nested_control = NESTED_PAGING;
    control.nested_cr3 = pointers.nested_root;
}

fn guest_registers(save: &mut Save, firmware: &Firmware) {
    save.cr0 = firmware.cr0;
    save.cr3 = firmware.cr3;
    save.cr4 = firmware.cr4;
    save.cr2 = 0;
    save.efer = firmware.efer | Efer::SVME.bits();
    save.pat = firmware.pat;
    save.dr6 = DR6_RESET;
    save.dr7 = firmware.dr7;
    save.debug_control = firmware.debug_control;
    save.sysenter_cs = firmware.sysenter_cs;
    save.sysenter_esp = firmware.sysenter_esp;
    save.sysenter_eip = firmware.sysenter_eip;
    save.rip = firmware.caller.rip;
    save.rsp = firmware.rsp;
    save.rflags = firmware.rflags;
    save.cpl = 0;
    keep_syscall_registers(save);
}

/// What VMLOAD loads for the guest beside segments is still what the firmware
/// left: the hypervisor has not written it.
fn keep_syscall_registers(save: &mut Save) {
    const STAR: u32 = 0xc000_0081;
    // SAFETY: every 64-bit CPU has these registers.
    let read = |number| unsafe { read_msr(number) };
    save.star = read(STAR);
    save.lstar = read(STAR + 1);
    save.cstar = read(STAR + 2);
    save.sfmask = read(STAR + 3);
    save.kernel_gs_base = read(0xc000_0102);
}

fn guest_segments(save: &mut Save, firmware: &Firmware) {
    save.es = firmware.es.into();
    save.cs = firmware.cs.into();
    save.ss = firmware.ss.into();
    save.ds = firmware.ds.into();
    save.fs = firmware.fs.into();
    save.gs = firmware.gs.into();
    save.ldtr = firmware.ldtr.into();
    save.tr = firmware.tr.into();
    save.gdtr = table(firmware.gdtr.limit, firmware.gdtr.base);
    save.idtr = table(firmware.idtr.limit, firmware.idtr.base);
}

fn table(limit: u16, base: u64) -> VmcbSegment {
    VmcbSegment {
        limit: u32::from(limit),
        base,
        ..VmcbSegment::default()
    }
}

/// Segments and tables after INIT. AMD APM volume 2, "Processor
/// Initialization State".
pub(crate) fn reset_segments(save: &mut Save) {
    let data = Segment {
        selector: 0,
        base: 0,
        limit: 0xffff,
        rights: 0x93,
    };
    let code = Segment {
        selector: 0xf000,
        base: 0xffff_0000,
        limit: 0xffff,
        rights: 0x9b,
    };
    let table = VmcbSegment {
        limit: 0xffff,
        ..VmcbSegment::default()
    };
    save.cs = code.into();
    save.ss = data.into();
    save.ds = data.into();
    save.es = data.into();
    save.fs = data.into();
    save.gs = data.into();
    save.ldtr = Segment {
        rights: 0x82,
        ..data
    }
    .into();
    save.tr = Segment {
        rights: 0x8b,
        ..data
    }
    .into();
    save.gdtr = table;
    save.idtr = table;
}
