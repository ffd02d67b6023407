//! Registers as programs see them, and as vCPUs have them.

use super::Child;
use crate::vm::Cpu;
use abi::Errno;
use abi::record::VmRegisters;
use machine::{ChildVcpu, Vcpu};
use x86::segment::{Segment, TableRegister};
use x86::{Event, Registers, State};

impl<V: Vcpu> Child<V> {
    /// The registers of vCPU `number`.
    pub fn registers(&self, cpu: &mut Cpu<V>, number: u64) -> Result<VmRegisters, Errno> {
        self.loaded(cpu, number, |child| Ok(told(&child.vcpu.state())))
    }

    /// Sets them. An exit that waits for an answer waits no longer.
    pub fn set_registers(
        &self,
        cpu: &mut Cpu<V>,
        number: u64,
        wanted: &VmRegisters,
    ) -> Result<(), Errno> {
        let state = meant(wanted).filter(State::is_loadable);
        let state = state.ok_or(Errno::InvalidArgument)?;
        self.loaded(cpu, number, |child| {
            child.vcpu.set_state(&state);
            child.program.reset();
            Ok(())
        })
    }

    /// Raises `event` in vCPU `number`.
    pub fn inject(&self, cpu: &mut Cpu<V>, number: u64, event: Event) -> Result<(), Errno> {
        self.loaded(cpu, number, |child| {
            super::drive::raise(&mut child.vcpu, event)
        })
    }

    fn loaded<R>(
        &self,
        cpu: &mut Cpu<V>,
        number: u64,
        act: impl FnOnce(&mut Cpu<V::Child>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.with_vcpu(number, |child| {
            child.vcpu.load(&mut cpu.vcpu);
            let done = act(child);
            child.vcpu.unload(&mut cpu.vcpu);
            done
        })
    }
}

/// RSP has its number among the general registers, and its place elsewhere.
fn told(state: &State) -> VmRegisters {
    let general = |number: usize| state.registers.general(number as u8);
    VmRegisters {
        general: core::array::from_fn(|number| general(number).unwrap_or(state.rsp)),
        rip: state.rip,
        rflags: state.rflags,
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        efer: state.efer,
        selectors: state.segments.map(|segment| u64::from(segment.selector)),
        bases: state.segments.map(|segment| segment.base),
        limits: state.segments.map(|segment| u64::from(segment.limit)),
        rights: state.segments.map(|segment| u64::from(segment.rights)),
        gdt_base: state.gdt.base,
        gdt_limit: u64::from(state.gdt.limit),
        idt_base: state.idt.base,
        idt_limit: u64::from(state.idt.limit),
        debug: state.debug,
        system_call: state.system_call,
        system_enter: state.system_enter,
        xcr0: state.xcr0,
    }
}

/// None where a value is too wide for its register.
fn meant(record: &VmRegisters) -> Option<State> {
    let (mut registers, mut rsp) = (Registers::default(), 0);
    for (number, value) in (0..).zip(record.general) {
        *registers.general_mut(number).unwrap_or(&mut rsp) = value;
    }
    let table = |base, limit| {
        let limit = u32::from(u16::try_from(limit).ok()?);
        Some(TableRegister { base, limit })
    };
    Some(State {
        registers,
        rsp,
        rip: record.rip,
        rflags: record.rflags,
        cr0: record.cr0,
        cr2: record.cr2,
        cr3: record.cr3,
        cr4: record.cr4,
        efer: record.efer,
        segments: segments(record)?,
        gdt: table(record.gdt_base, record.gdt_limit)?,
        idt: table(record.idt_base, record.idt_limit)?,
        debug: record.debug,
        system_call: record.system_call,
        system_enter: record.system_enter,
        xcr0: record.xcr0,
    })
}

fn segments(record: &VmRegisters) -> Option<[Segment; 8]> {
    let mut segments = [Segment::default(); 8];
    let selectors = record.selectors.into_iter().zip(record.bases);
    let limits = record.limits.into_iter().zip(record.rights);
    for (segment, ((selector, base), (limit, rights))) in
        segments.iter_mut().zip(selectors.zip(limits))
    {
        *segment = Segment {
            selector: u16::try_from(selector).ok()?,
            base,
            limit: u32::try_from(limit).ok()?,
            rights: u32::try_from(rights).ok()?,
        };
    }
    Some(segments)
}
