//! The MSR policy on the desk.

use super::*;
use crate::fake::{FakeCpu, FakeMemory, FakeSvm, FakeVtx};
use crate::vm::Features;
use abi::handoff::Presence;

fn vm() -> Vm<FakeMemory> {
    Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL)
}

fn with<const V: u8>(msrs: &[(u32, u64)]) -> FakeCpu<V> {
    FakeCpu {
        msrs: msrs.iter().copied().collect(),
        ..FakeCpu::default()
    }
}

/// Writes as the guest of `vcpu` would.
fn write<const V: u8>(vm: &Vm<FakeMemory>, vcpu: &mut FakeCpu<V>, number: u32, value: u64) -> bool {
    let mut cpu = Cpu::new(core::mem::take(vcpu));
    let written = super::write(vm, &mut cpu, number, value);
    *vcpu = cpu.vcpu;
    written
}

#[test]
fn what_exits_is_what_has_a_policy() {
    let vm = vm();
    let mut intel = FakeVtx::default();
    watches(&mut Watches::new(&vm, &mut intel));
    assert_eq!(intel.intercepted.get(&msr::VMX_BASIC), Some(&(true, true)));
    assert_eq!(intel.intercepted.get(&msr::APIC_BASE), Some(&(false, true)));
    assert_eq!(intel.intercepted.get(&msr::EFER), None);
    assert_eq!(intel.intercepted.get(&msr::TSC), None);
    let mut amd = FakeSvm::default();
    watches(&mut Watches::new(&vm, &mut amd));
    assert_eq!(amd.intercepted.get(&msr::EFER), Some(&(true, true)));
    assert_eq!(amd.intercepted.get(&msr::MTRR_DEFAULT_TYPE), None);
    for number in amd.intercepted.keys() {
        assert!(policy(*number, Vendor::Amd).is_some());
    }
}

#[test]
fn vmx_looks_locked_off() {
    let cpu: FakeVtx = with(&[(msr::FEATURE_CONTROL, 0x4_0007)]);
    assert_eq!(read(&cpu, msr::FEATURE_CONTROL), Some(0x4_0001));
    let unlocked: FakeVtx = with(&[(msr::FEATURE_CONTROL, 0)]);
    assert_eq!(read(&unlocked, msr::FEATURE_CONTROL), Some(1));
    let mut cpu: FakeVtx = with(&[(msr::FEATURE_CONTROL, 5), (msr::VMX_BASIC, 1)]);
    assert!(!write(&vm(), &mut cpu, msr::FEATURE_CONTROL, 5));
    assert_eq!(read(&cpu, msr::VMX_BASIC), None);
}

#[test]
fn svm_looks_locked_off() {
    let mut cpu: FakeSvm = with(&[
        (msr::AMD_VM_CR, msr::VM_CR_R_INIT),
        (msr::AMD_VM_HSAVE_PA, 0x1000),
    ]);
    assert_eq!(read(&cpu, msr::AMD_VM_CR), Some(0x18));
    assert_eq!(read(&cpu, msr::AMD_VM_HSAVE_PA), None);
    assert!(!write(&vm(), &mut cpu, msr::AMD_VM_HSAVE_PA, 0));
    assert!(!write(&vm(), &mut cpu, msr::EFER, Efer::SVME.bits()));
    assert!(write(&vm(), &mut cpu, msr::EFER, Efer::LME.bits()));
    assert_eq!(read(&cpu, msr::EFER), Some(Efer::LME.bits()));
}

#[test]
fn the_apic_stays_away_from_the_hypervisors_memory() {
    let mut cpu: FakeVtx = with(&[(msr::APIC_BASE, 0xfee0_0900)]);
    let own = FakeMemory::RESERVED;
    for base in [own.start.0, own.end.0 - PAGE_SIZE] {
        assert!(!write(&vm(), &mut cpu, msr::APIC_BASE, base | 0x900));
    }
    assert_eq!(cpu.msrs[&msr::APIC_BASE], 0xfee0_0900);
    for base in [own.start.0 - PAGE_SIZE, own.end.0] {
        assert!(write(&vm(), &mut cpu, msr::APIC_BASE, base | 0x900));
    }
}

#[test]
fn memory_types_reach_the_nested_tables_or_are_put_back() {
    let vm = vm();
    let mut cpu: FakeVtx = with(&[(0x200, 6), (0x20f, 0)]);
    assert!(write(&vm, &mut cpu, 0x200, 0x1000));
    assert_eq!((vm.memory.followed.get(), cpu.flushes), (1, 1));
    vm.memory.fits.set(false);
    assert!(!write(&vm, &mut cpu, 0x200, 0x2000));
    assert_eq!(cpu.msrs[&0x200], 0x1000);
    assert!(
        !write(&vm, &mut cpu, 0x2ff, 6),
        "a register that the CPU lacks"
    );
}

#[test]
fn states_of_hidden_features_cannot_be_enabled() {
    let mut cpu: FakeVtx = with(&[(msr::XSS, 0)]);
    for bit in [8, 11, 12, 14, 15] {
        assert!(!write(&vm(), &mut cpu, msr::XSS, 1 << bit), "bit {bit}");
    }
    assert!(write(&vm(), &mut cpu, msr::XSS, 1 << 10));
    let mut cpu: FakeSvm = with(&[(msr::XSS, 0)]);
    assert!(!write(&vm(), &mut cpu, msr::XSS, 1 << 11));
}

#[test]
fn locked_accesses_stay_allowed() {
    let mut cpu: FakeVtx = with(&[(msr::MEMORY_CONTROL, 0)]);
    assert!(!write(&vm(), &mut cpu, msr::MEMORY_CONTROL, 1 << 28));
    assert!(write(&vm(), &mut cpu, msr::MEMORY_CONTROL, 1 << 29));
}

#[test]
fn execute_disable_stays_enabled() {
    let mut cpu: FakeVtx = with(&[(msr::MISC_ENABLE, 1)]);
    assert!(!write(&vm(), &mut cpu, msr::MISC_ENABLE, 1 << 34));
    assert!(write(&vm(), &mut cpu, msr::MISC_ENABLE, 0));
    assert_eq!(read(&cpu, msr::MISC_ENABLE), Some(0x1800));
}

#[test]
fn what_would_move_memory_is_frozen() {
    let mut cpu: FakeSvm = with(&[
        (msr::AMD_TOP_MEM, 0x4000_0000),
        (msr::AMD_SYSCFG, 0x10_0000),
    ]);
    assert!(write(&vm(), &mut cpu, msr::AMD_TOP_MEM, 0x4000_0000));
    assert!(!write(&vm(), &mut cpu, msr::AMD_TOP_MEM, 0x2000_0000));
    assert!(write(&vm(), &mut cpu, msr::AMD_SYSCFG, 0x1c_0000));
    assert!(!write(&vm(), &mut cpu, msr::AMD_SYSCFG, 0x80_0000));
}

#[test]
fn unknown_registers_are_what_the_cpu_says() {
    let mut cpu: FakeVtx = with(&[]);
    assert_eq!(read(&cpu, 0x1234_5678), None);
    assert!(!write(&vm(), &mut cpu, 0x1234_5678, 1));
    let mut nested: FakeVtx = with(&[(0x4b56_4d01, 0)]);
    assert!(!write(&vm(), &mut nested, 0x4b56_4d01, 1));
    assert_eq!(read(&nested, 0x4b56_4d01), None);
}
