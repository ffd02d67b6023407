//! The state of the CPU as the firmware has it when the loader calls: what the
//! guest goes on with, and what is put back when Underlay cannot run.

use crate::instructions::{
    read_cr0, read_cr3, read_cr4, read_dr7, read_msr, write_cr0, write_cr4, write_msr,
};
use core::arch::asm;
use x86::segment::{NO_TASK, Segment};
use x86::{Registers, msr};

/// What SGDT and SIDT store.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TablePointer {
    /// Size in bytes less one.
    pub limit: u16,
    /// Linear address.
    pub base: u64,
}

/// What the loader's call left on its stack, lowest address first: the
/// registers that a called function must preserve, and the return address.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Caller {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rip: u64,
}

/// The firmware's CPU state.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Firmware {
    pub caller: Caller,
    /// The stack pointer after the loader's call has returned.
    pub rsp: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub pat: u64,
    pub dr7: u64,
    pub debug_control: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub gdtr: TablePointer,
    pub idtr: TablePointer,
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ldtr: Segment,
    pub tr: Segment,
    fs_base: u64,
    gs_base: u64,
}

macro_rules! selector {
    ($instruction:literal) => {{
        let value: u16;
        // SAFETY: storing a segment selector changes nothing.
        unsafe {
            asm!($instruction, out(reg) value, options(nomem, nostack, preserves_flags));
        }
        value
    }};
}

impl Firmware {
    /// Reads it.
    ///
    /// # Safety
    /// Runs at CPL 0 on the firmware's own tables, called from the entry point
    /// with what it pushed.
    pub(crate) unsafe fn capture(caller: *const Caller) -> Self {
        let mut gdtr = TablePointer::default();
        let mut idtr = TablePointer::default();
        let rflags: u64;
        // SAFETY: stores to two locals and a register, and changes nothing.
        unsafe {
            asm!("sgdt [{}]", in(reg) &mut gdtr, options(nostack, preserves_flags));
            asm!("sidt [{}]", in(reg) &mut idtr, options(nostack, preserves_flags));
            asm!("pushfq", "pop {}", out(reg) rflags, options(preserves_flags));
        }
        // SAFETY: the firmware's GDT is mapped while its tables are in use, as
        // the caller says.
        let segment = |selector| unsafe { load_descriptor(gdtr, selector) };
        let tr = segment(selector!("str {:x}"));
        // SAFETY: all 64-bit CPUs have these registers, IA32_DEBUGCTL included.
        let read = |number| unsafe { read_msr(number) };
        let with_base = |segment: Segment, base| Segment { base, ..segment };
        let (fs_base, gs_base) = (read(msr::FS_BASE), read(msr::GS_BASE));
        Self {
            // SAFETY: the entry point passes what it pushed.
            caller: unsafe { caller.read() },
            rsp: caller as u64 + size_of::<Caller>() as u64,
            rflags,
            cr0: read_cr0(),
            cr3: read_cr3(),
            cr4: read_cr4(),
            efer: read(msr::EFER),
            pat: read(msr::PAT),
            dr7: read_dr7(),
            debug_control: read(msr::DEBUG_CONTROL),
            sysenter_cs: read(msr::SYSENTER_CS),
            sysenter_esp: read(msr::SYSENTER_ESP),
            sysenter_eip: read(msr::SYSENTER_EIP),
            gdtr,
            idtr,
            es: segment(selector!("mov {:x}, es")),
            cs: segment(selector!("mov {:x}, cs")),
            ss: segment(selector!("mov {:x}, ss")),
            ds: segment(selector!("mov {:x}, ds")),
            fs: with_base(segment(selector!("mov {:x}, fs")), fs_base),
            gs: with_base(segment(selector!("mov {:x}, gs")), gs_base),
            ldtr: segment(selector!("sldt {:x}")),
            tr: if tr.rights & x86::segment::UNUSABLE == 0 {
                busy(tr)
            } else {
                NO_TASK
            },
            fs_base,
            gs_base,
        }
    }

    /// The registers with which the loader's call returns 0.
    pub(crate) fn returning(&self) -> Registers {
        let caller = &self.caller;
        Registers {
            rax: 0,
            rbx: caller.rbx,
            rbp: caller.rbp,
            r12: caller.r12,
            r13: caller.r13,
            r14: caller.r14,
            r15: caller.r15,
            ..Registers::default()
        }
    }

    /// Puts the firmware's state back, as far as the hypervisor changed it,
    /// but for CR3, which who switched tables has restored.
    ///
    /// # Safety
    /// The firmware's tables are in use, and neither VMX nor SVM.
    pub(crate) unsafe fn restore(&self) {
        // SAFETY: all of this was in force when the loader called, and the
        // firmware's memory has not changed since.
        unsafe {
            asm!("lgdt [{}]", in(reg) &self.gdtr, options(readonly, nostack));
            asm!("lidt [{}]", in(reg) &self.idtr, options(readonly, nostack));
            asm!(
                "push {cs}", "lea {at}, [rip + 2f]", "push {at}", "retfq", "2:",
                "mov ss, {ss:x}", "mov ds, {ds:x}", "mov es, {es:x}", "mov fs, {fs:x}",
                "mov gs, {gs:x}",
                cs = in(reg) u64::from(self.cs.selector), at = out(reg) _,
                ss = in(reg) self.ss.selector, ds = in(reg) self.ds.selector,
                es = in(reg) self.es.selector, fs = in(reg) self.fs.selector,
                gs = in(reg) self.gs.selector,
            );
            write_msr(msr::FS_BASE, self.fs_base);
            write_msr(msr::GS_BASE, self.gs_base);
            write_msr(msr::PAT, self.pat);
            write_msr(msr::DEBUG_CONTROL, self.debug_control);
            write_msr(msr::SYSENTER_CS, self.sysenter_cs);
            write_msr(msr::SYSENTER_ESP, self.sysenter_esp);
            write_msr(msr::SYSENTER_EIP, self.sysenter_eip);
            asm!("mov dr7, {}", in(reg) self.dr7, options(nostack, preserves_flags));
            self.restore_task();
            write_msr(msr::EFER, self.efer);
            write_cr4(self.cr4);
            write_cr0(self.cr0);
        }
    }
}

impl Firmware {
    /// Loads the firmware's task register again, if it had one: its descriptor
    /// says busy, which LTR refuses.
    ///
    /// # Safety
    /// The firmware's tables and GDT are in use.
    unsafe fn restore_task(&self) {
        const BUSY: u64 = 1 << 41;
        if self.tr.selector == 0 {
            return;
        }
        let descriptor = (self.gdtr.base + u64::from(self.tr.selector & !7)) as *mut u64;
        // SAFETY: `capture` found the descriptor within the table's limit.
        unsafe {
            descriptor.write_volatile(descriptor.read_volatile() & !BUSY);
            asm!("ltr {:x}", in(reg) self.tr.selector, options(nostack, preserves_flags));
        }
    }
}

/// The segment that `selector` names in the GDT.
///
/// # Safety
/// `gdtr` is the GDT in use, mapped.
unsafe fn load_descriptor(gdtr: TablePointer, selector: u16) -> Segment {
    let offset = u64::from(selector & !7);
    let is_local = selector & 4 != 0;
    if offset == 0 || is_local || offset + 7 > u64::from(gdtr.limit) {
        return Segment::null(selector);
    }
    let at = (gdtr.base + offset) as *const u64;
    let has_high = offset + 15 <= u64::from(gdtr.limit);
    // SAFETY: both reads are within the limit of the table.
    let (low, high) = unsafe {
        let high = if has_high {
            at.add(1).read_unaligned()
        } else {
            0
        };
        (at.read_unaligned(), high)
    };
    Segment::from_descriptor(selector, low, high)
}

/// A task segment as VM entry wants it.
fn busy(task: Segment) -> Segment {
    Segment {
        rights: task.rights | 2,
        ..task
    }
}
