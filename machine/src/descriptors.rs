//! GDT, TSS and IDT of one CPU.

use crate::boot::vendor;
use crate::exceptions::{self, Stacks};
use crate::region::{Exhausted, Region};
use x86::cpuid::Vendor;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

/// The tables of one CPU; never changed once made.
pub(crate) struct Descriptors {
    gdt: &'static GlobalDescriptorTable,
    idt: &'static InterruptDescriptorTable,
    /// The same for a CPU without a TSS.
    early: &'static InterruptDescriptorTable,
    tss: &'static TaskStateSegment,
    code: SegmentSelector,
    data: SegmentSelector,
    task: SegmentSelector,
}

/// What the VMCS wants to know of the hypervisor's own segments.
pub(crate) struct HostSegments {
    pub code: u16,
    pub data: u16,
    pub task: u16,
    pub gdt_base: u64,
    pub idt_base: u64,
    pub tss_base: u64,
}

impl Descriptors {
    /// Tables with the four exception stacks at these tops.
    pub(crate) fn new(region: &mut Region, stacks: [u64; 4]) -> Result<Self, Exhausted> {
        let mut task_state = TaskStateSegment::new();
        let mut tops = [VirtAddr::zero(); 7];
        for (slot, top) in tops.iter_mut().zip(stacks) {
            *slot = VirtAddr::new(top);
        }
        task_state.interrupt_stack_table = tops;
        let tss: &'static TaskStateSegment = region.place(task_state)?;
        let gdt = region.place(GlobalDescriptorTable::new())?;
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let task = gdt.append(Descriptor::tss_segment(tss));
        let idt = region.place(InterruptDescriptorTable::new())?;
        exceptions::fill(idt, code, handler_stacks());
        let early = region.place(InterruptDescriptorTable::new())?;
        exceptions::fill(early, code, Stacks::None);
        Ok(Self {
            gdt,
            idt,
            early,
            tss,
            code,
            data,
            task,
        })
    }

    /// Loads the tables and the segments, but for the TSS: firmware may have
    /// none, as on its APs, and there is no way back to that. An AP that came
    /// back with one would fault when OVMF loads it again.
    pub(crate) fn load(&self) {
        self.gdt.load();
        self.early.load();
        // SAFETY: the selectors name descriptors of the table just loaded: a
        // flat 64-bit code segment and a flat data segment.
        unsafe {
            CS::set_reg(self.code);
            DS::set_reg(self.data);
            ES::set_reg(self.data);
            SS::set_reg(self.data);
        }
    }

    /// Loads the TSS, and with it the stacks for exceptions.
    pub(crate) fn load_task(&self) {
        // SAFETY: the GDT is in use; the selector names a TSS of its own that
        // was not loaded before.
        unsafe { load_tss(self.task) };
        self.idt.load();
    }

    pub(crate) fn host(&self) -> HostSegments {
        HostSegments {
            code: self.code.0,
            data: self.data.0,
            task: self.task.0,
            gdt_base: core::ptr::from_ref(self.gdt) as u64,
            idt_base: core::ptr::from_ref(self.idt) as u64,
            tss_base: core::ptr::from_ref(self.tss) as u64,
        }
    }
}

fn handler_stacks() -> Stacks {
    match vendor() {
        Some(Vendor::Amd) => Stacks::AllButNmi,
        _ => Stacks::All,
    }
}
