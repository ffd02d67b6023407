//! Model-specific registers. Most are the guest's own and do not exit. Those
//! that do are in one table: the bitmaps follow from it, and so do the answers.

use crate::oddities::Oddity;
use crate::outcome::Outcome;
use crate::peers;
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use core::ops::RangeInclusive;
use machine::{Memory, Vcpu};
use x86::control::{Efer, HIDDEN_STATES};
use x86::cpuid::Vendor;
use x86::{Exception, Exit, Gpa, PAGE_SIZE, apic, msr, mtrr};

/// What is done about accesses to some registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// As on a CPU that lacks the register: #GP.
    Absent,
    /// Reads go through; a write may not change the value.
    Frozen,
    /// Reads go through; a write does nothing.
    Ignored,
    /// The register that locks VMX off: locked.
    FeatureControl,
    /// Where the local APIC is: anywhere but in the hypervisor's memory.
    ApicBase,
    /// Execute-disable stays enabled, sampling stays unavailable.
    MiscEnable,
    /// Extended supervisor states: none of a hidden feature.
    Xss,
    /// Locked accesses to uncacheable memory stay allowed: the hypervisor marks
    /// page-table entries by one, wherever the guest keeps them.
    MemoryControl,
    /// A memory type: the nested tables follow.
    MemoryType,
    /// Extended features: SVME stays set below and looks clear above.
    Efer,
    /// SVM's own switch: looks locked off.
    VmCr,
    /// AMD's system configuration: only the fixed MTRRs' switches change.
    SystemConfiguration,
}

struct Rule {
    vendor: Option<Vendor>,
    numbers: RangeInclusive<u32>,
    policy: Policy,
}

const fn rule(vendor: Option<Vendor>, first: u32, last: u32, policy: Policy) -> Rule {
    Rule {
        vendor,
        numbers: first..=last,
        policy,
    }
}

const BOTH: Option<Vendor> = None;
const INTEL: Option<Vendor> = Some(Vendor::Intel);
const AMD: Option<Vendor> = Some(Vendor::Amd);

/// What belongs to hidden features is absent: see `cpuid`. What moves memory
/// under the hypervisor's feet, or makes the CPU store to addresses that no
/// table translates, is frozen or absent. Microcode is loaded through the
/// guest's addresses while the hypervisor runs on the same CPU, which the
/// manuals leave undefined: ignored.
static RULES: &[Rule] = &[
    rule(BOTH, msr::APIC_BASE, msr::APIC_BASE, Policy::ApicBase),
    rule(
        INTEL,
        msr::FEATURE_CONTROL,
        msr::FEATURE_CONTROL,
        Policy::FeatureControl,
    ),
    rule(
        INTEL,
        msr::MEMORY_CONTROL,
        msr::MEMORY_CONTROL,
        Policy::MemoryControl,
    ),
    rule(
        INTEL,
        msr::BIOS_UPDATE_TRIGGER,
        msr::BIOS_UPDATE_TRIGGER,
        Policy::Ignored,
    ),
    rule(
        INTEL,
        msr::SMM_MONITOR_CONTROL,
        msr::SMM_MONITOR_CONTROL,
        Policy::Absent,
    ),
    rule(
        INTEL,
        msr::MISC_ENABLE,
        msr::MISC_ENABLE,
        Policy::MiscEnable,
    ),
    rule(
        INTEL,
        msr::MTRR_VARIABLE_BASE,
        msr::MTRR_VARIABLE_BASE + 2 * mtrr::VARIABLE_MAX as u32 - 1,
        Policy::MemoryType,
    ),
    rule(
        INTEL,
        msr::MTRR_FIXED_64K,
        msr::MTRR_FIXED_64K,
        Policy::MemoryType,
    ),
    rule(
        INTEL,
        msr::MTRR_FIXED_16K,
        msr::MTRR_FIXED_16K + 1,
        Policy::MemoryType,
    ),
    rule(
        INTEL,
        msr::MTRR_FIXED_4K,
        msr::MTRR_FIXED_4K_LAST,
        Policy::MemoryType,
    ),
    rule(
        INTEL,
        msr::MTRR_DEFAULT_TYPE,
        msr::MTRR_DEFAULT_TYPE,
        Policy::MemoryType,
    ),
    rule(INTEL, msr::PEBS_ENABLE, msr::PEBS_ENABLE, Policy::Absent),
    rule(INTEL, msr::VMX_BASIC, msr::VMX_LAST, Policy::Absent),
    rule(INTEL, msr::RTIT_FIRST, msr::RTIT_LAST, Policy::Absent),
    rule(INTEL, msr::DS_AREA, msr::DS_AREA, Policy::Absent),
    rule(INTEL, msr::TME_ACTIVATE, msr::TME_LAST, Policy::Frozen),
    rule(BOTH, msr::XSS, msr::XSS, Policy::Xss),
    rule(BOTH, msr::CET_FIRST, msr::CET_LAST, Policy::Absent),
    rule(INTEL, msr::PKRS, msr::PKRS, Policy::Absent),
    rule(
        INTEL,
        msr::USER_INTERRUPT_FIRST,
        msr::USER_INTERRUPT_LAST,
        Policy::Absent,
    ),
    rule(
        INTEL,
        msr::ARCH_LBR_RECORDS_FIRST,
        msr::ARCH_LBR_RECORDS_LAST,
        Policy::Absent,
    ),
    rule(
        INTEL,
        msr::ARCH_LBR_FIRST,
        msr::ARCH_LBR_LAST,
        Policy::Absent,
    ),
    rule(
        INTEL,
        msr::ARCH_LBR_FROM_FIRST,
        msr::ARCH_LBR_TO_LAST,
        Policy::Absent,
    ),
    rule(
        INTEL,
        msr::HARDWARE_FEEDBACK_FIRST,
        msr::HARDWARE_FEEDBACK_LAST,
        Policy::Absent,
    ),
    rule(AMD, msr::EFER, msr::EFER, Policy::Efer),
    rule(
        AMD,
        msr::AMD_SYSCFG,
        msr::AMD_SYSCFG,
        Policy::SystemConfiguration,
    ),
    rule(AMD, msr::AMD_IORR_FIRST, msr::AMD_TOP_MEM, Policy::Frozen),
    rule(AMD, msr::AMD_TOP_MEM2, msr::AMD_TOP_MEM2, Policy::Frozen),
    rule(
        AMD,
        msr::AMD_PATCH_LOADER,
        msr::AMD_PATCH_LOADER,
        Policy::Ignored,
    ),
    rule(
        AMD,
        msr::AMD_MMIO_CONFIG_BASE,
        msr::AMD_MMIO_CONFIG_BASE,
        Policy::Frozen,
    ),
    rule(AMD, msr::AMD_SMM_BASE, msr::AMD_SMM_MASK, Policy::Frozen),
    rule(AMD, msr::AMD_VM_CR, msr::AMD_VM_CR, Policy::VmCr),
    rule(AMD, msr::AMD_VM_HSAVE_PA, msr::AMD_SMM_KEY, Policy::Absent),
];

/// Numbers that a hypervisor below this one might give a meaning: where
/// Underlay itself runs in a virtual machine, its guest must not reach through.
const OF_HYPERVISORS: [RangeInclusive<u32>; 2] =
    [0x4000_0000..=0x4000_ffff, 0x4b56_4d00..=0x4b56_4dff];

impl Policy {
    /// Which accesses exit: read, write.
    const fn exits(self) -> (bool, bool) {
        match self {
            Self::Frozen
            | Self::Ignored
            | Self::ApicBase
            | Self::Xss
            | Self::MemoryControl
            | Self::MemoryType
            | Self::SystemConfiguration => (false, true),
            Self::Absent | Self::FeatureControl | Self::MiscEnable | Self::Efer | Self::VmCr => {
                (true, true)
            }
        }
    }
}

/// What the table says.
pub fn watches<V: Vcpu, M: Memory>(watches: &mut Watches<V, M>) {
    for rule in RULES.iter().filter(|rule| applies(rule, V::VENDOR)) {
        let (read, write) = rule.policy.exits();
        watches.msrs(rule.numbers.clone(), read, write);
    }
}

const fn applies(rule: &Rule, vendor: Vendor) -> bool {
    match rule.vendor {
        None => true,
        Some(only) => only as u8 == vendor as u8,
    }
}

/// Registers of each range that a vendor's bitmap has.
const RANGE: u32 = 0x2000;
/// All of them.
const REGISTERS: usize = 3 * RANGE as usize;

/// The place of a register that is in one of the ranges.
#[inline]
const fn place(number: u32) -> Option<usize> {
    let range = match number & !(RANGE - 1) {
        0 => 0,
        0xc000_0000 => 1,
        0xc001_0000 => 2,
        _ => return None,
    };
    Some((range * RANGE + number % RANGE) as usize)
}

/// What the rules say of each, so that no access has to search them.
type Policies = [Option<Policy>; REGISTERS];

static OF_INTEL: Policies = policies(Vendor::Intel);
static OF_AMD: Policies = policies(Vendor::Amd);

const fn policies(vendor: Vendor) -> Policies {
    let mut all = [None; REGISTERS];
    let mut rules = RULES;
    // From the last on: the first rule for a register counts.
    while let Some((rule, rest)) = rules.split_last() {
        let mut number = *rule.numbers.start();
        while applies(rule, vendor) && number <= *rule.numbers.end() {
            if let Some(place) = place(number)
                && let Some((entry, _)) = all.split_at_mut(place).1.split_first_mut()
            {
                *entry = Some(rule.policy);
            }
            number += 1;
        }
        rules = rest;
    }
    all
}

#[inline]
fn policy(number: u32, vendor: Vendor) -> Option<Policy> {
    let all = match vendor {
        Vendor::Intel => &OF_INTEL,
        Vendor::Amd => &OF_AMD,
    };
    match place(number).and_then(|place| all.get(place)) {
        Some(policy) => *policy,
        None => of_others(number, vendor),
    }
}

/// Of a register that is in no bitmap: it exits always.
#[cold]
fn of_others(number: u32, vendor: Vendor) -> Option<Policy> {
    let mut rules = RULES.iter().filter(|rule| applies(rule, vendor));
    let found = rules
        .find(|rule| rule.numbers.contains(&number))
        .map(|rule| rule.policy);
    let foreign = OF_HYPERVISORS
        .iter()
        .any(|numbers| numbers.contains(&number));
    found.or(foreign.then_some(Policy::Absent))
}

/// Answers RDMSR and WRMSR.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match *exit {
        Exit::ReadMsr { number } => {
            if answer_read(&mut cpu.vcpu, number) {
                Outcome::Done
            } else {
                refuse(vm, cpu, number)
            }
        }
        Exit::WriteMsr { number, value } => {
            if write(vm, cpu, number, value) {
                Outcome::Done
            } else {
                refuse(vm, cpu, number)
            }
        }
        _ => Outcome::Pass,
    }
}

/// Does RDMSR in the registers of `vcpu`; false for #GP.
#[inline]
pub fn answer_read<V: Vcpu>(vcpu: &mut V, number: u32) -> bool {
    let value = read(vcpu, number);
    if let Some(value) = value {
        vcpu.registers_mut().set_edx_eax(value);
    }
    value.is_some()
}

/// #GP, which is odd where the CPU, and no policy, refuses: a system knows its
/// CPU's registers.
fn refuse<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>, number: u32) -> Outcome {
    if policy(number, V::VENDOR).is_none() {
        let what = format_args!("{number:#x}, rip {:#x}", cpu.vcpu.rip());
        vm.oddities.note(Oddity::UnknownMsr, what);
    }
    Outcome::Fault(Exception::GeneralProtection(0))
}

/// The value that the guest reads, or None for #GP.
fn read<V: Vcpu>(vcpu: &V, number: u32) -> Option<u64> {
    match policy(number, V::VENDOR) {
        Some(Policy::Absent) => None,
        Some(Policy::Efer) => Some(vcpu.efer().bits()),
        Some(Policy::FeatureControl) => {
            let hidden = msr::FEATURE_CONTROL_VMX
                | msr::FEATURE_CONTROL_VMX_IN_SMX
                | msr::FEATURE_CONTROL_SENTER;
            Some((vcpu.read_msr(number)? & !hidden) | msr::FEATURE_CONTROL_LOCK)
        }
        Some(Policy::MiscEnable) => {
            Some(vcpu.read_msr(number)? | msr::MISC_ENABLE_NO_BTS | msr::MISC_ENABLE_NO_PEBS)
        }
        Some(Policy::VmCr) => {
            let real = vcpu.read_msr(number)? & !msr::VM_CR_R_INIT;
            Some(real | msr::VM_CR_SVMDIS | msr::VM_CR_LOCK)
        }
        _ => vcpu.read_msr(number),
    }
}

/// Writes for the guest; false for #GP.
fn write<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, number: u32, value: u64) -> bool {
    let vcpu = &mut cpu.vcpu;
    match policy(number, V::VENDOR) {
        Some(Policy::Absent | Policy::FeatureControl) => false,
        Some(Policy::Ignored) => true,
        Some(Policy::Frozen | Policy::VmCr) => read(vcpu, number) == Some(value),
        Some(Policy::Efer) => vcpu.set_efer(Efer::from_bits_retain(value)),
        Some(Policy::ApicBase) => write_apic_base(vm, cpu, value),
        Some(Policy::Xss) => value & u64::from(HIDDEN_STATES) == 0 && vcpu.write_msr(number, value),
        Some(Policy::MemoryControl) => {
            value & msr::MEMORY_CONTROL_NO_UC_LOCK == 0 && vcpu.write_msr(number, value)
        }
        Some(Policy::MiscEnable) => write_misc_enable(vcpu, value),
        Some(Policy::MemoryType) => write_memory_type(vm, cpu, number, value),
        Some(Policy::SystemConfiguration) => {
            let changed = vcpu.read_msr(number).map(|old| old ^ value);
            let free = msr::AMD_SYSCFG_FIXED_MTRRS;
            changed.is_some_and(|bits| bits & !free == 0) && vcpu.write_msr(number, value)
        }
        None => vcpu.write_msr(number, value),
    }
}

/// With several CPUs it stays where it is watched, and on: by it they call each
/// other.
fn write_apic_base<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, value: u64) -> bool {
    if vm.peers.are_several() && !apic::is_usual(value) {
        let what = format_args!("IA32_APIC_BASE = {value:#x}, refused");
        vm.oddities.note(Oddity::Apic, what);
        return false;
    }
    if in_reserved(vm, value) {
        return false;
    }
    let written = cpu.vcpu.write_msr(msr::APIC_BASE, value);
    if written && vm.peers.are_several() {
        vm.peers.note_address(cpu.number, V::adopt_address());
        let boot = value & apic::BASE_BOOT != 0;
        vm.peers.note_boot(cpu.number, boot);
    }
    written
}

/// The CPU answers accesses to the APIC's page before memory does, the
/// hypervisor's accesses too.
fn in_reserved<M: Memory>(vm: &Vm<M>, apic_base: u64) -> bool {
    let page = Gpa(apic_base & msr::APIC_BASE_ADDRESS);
    let reserved = vm.memory.reserved();
    page.0.saturating_add(PAGE_SIZE) > reserved.start.0 && page < reserved.end
}

/// With execute-disable off, the hypervisor's own page tables would be
/// malformed.
fn write_misc_enable<V: Vcpu>(vcpu: &mut V, value: u64) -> bool {
    value & msr::MISC_ENABLE_NO_XD == 0 && vcpu.write_msr(msr::MISC_ENABLE, value)
}

/// A memory type that the nested tables cannot follow is put back. With several
/// CPUs each writes its own, one after another, with its MTRRs off meanwhile:
/// the tables follow the first that has them on again.
fn write_memory_type<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    number: u32,
    value: u64,
) -> bool {
    let Some(old) = cpu.vcpu.read_msr(number) else {
        return false;
    };
    if !cpu.vcpu.write_msr(number, value) {
        return false;
    }
    if vm.peers.are_several() && !vm.memory.types_changed() {
        return true;
    }
    peers::alone(vm, cpu, |cpu| {
        follow(vm, &mut cpu.vcpu, number, [old, value])
    })
}

fn follow<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    vcpu: &mut V,
    number: u32,
    [old, value]: [u64; 2],
) -> bool {
    let followed = vm.memory.follow_mtrrs().is_ok();
    if !followed {
        let what = format_args!("MSR {number:#x} = {value:#x}, refused");
        vm.oddities.note(Oddity::MemoryTypes, what);
        vcpu.write_msr(number, old);
        if vm.memory.follow_mtrrs().is_err() {
            log::error!("MSR {number:#x}: the memory types before do not fit either");
        }
    }
    vcpu.flush_nested();
    followed
}

#[cfg(test)]
mod tests;
