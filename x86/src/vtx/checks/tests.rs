use super::breakages::{self, Base, Breakage, DESK_VMCS};
use super::*;
use crate::cpuid::Leaf;
use crate::msr;
use crate::vtx::control::{Allowed, ept, pin, processor, secondary};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeSet;

fn allowed(must: u32, may: u32) -> Allowed {
    Allowed {
        msr: 0,
        value: u64::from(must) | u64::from(may | must) << 32,
    }
}

/// A CPU that has everything, but for some bits of each word.
fn rich() -> Capabilities {
    Capabilities {
        basic: 0,
        pin: allowed(0x16, 0xff),
        processor: allowed(0x0400_6172, 0xfffb_fffe),
        // No CPU requires one of these; the rule wants to be broken.
        secondary: allowed(1 << 28, 0x17ff_ffff),
        tertiary: 0x1e,
        exit: allowed(0x3_6dfb, 0xf7ff_ffff),
        secondary_exit: 1 << 3,
        entry: allowed(0x11fb, 0xff_ffff),
        misc: 1 << 30 | 4 << 16 | 7 << 6,
        cr0: [0x8000_0021, 0xffff_ffff],
        cr4: [0x2000, 0xff_3fff],
        ept_vpid: u64::MAX,
        vm_functions: 1,
        physical_bits: 40,
        linear_bits: 48,
        performance: 0x1_0007_0000_000f,
        has_rtm: true,
        has_sgx: true,
    }
}

/// The same without what a CPU may lack.
fn lean() -> Capabilities {
    Capabilities {
        ept_vpid: ept::NEEDED,
        has_rtm: false,
        has_sgx: false,
        ..rich()
    }
}

fn cpu_of(row: &Breakage) -> Capabilities {
    if row.lean { lean() } else { rich() }
}

struct Good(Snapshot);

impl Good {
    fn put<W: Width>(&mut self, fields: &[(Field<W>, u64)]) {
        for (field, value) in fields {
            self.0.set(field.encoding(), *value);
        }
    }
}

fn controls(good: &mut Good, long: bool) {
    let secondary = secondary::EPT | secondary::VPID | secondary::UNRESTRICTED | 1 << 28;
    let entry = 0x11fb | 1 << 2 | 1 << 14 | 1 << 15 | u64::from(long) << 9;
    good.put(&[
        (
            field::PIN_CONTROLS,
            u64::from(0x16 | pin::NMI_EXITING | pin::VIRTUAL_NMIS),
        ),
        (
            field::PROCESSOR_CONTROLS,
            u64::from(0x0400_6172 | processor::SECONDARY | processor::MSR_BITMAPS),
        ),
        (field::SECONDARY_CONTROLS, u64::from(secondary)),
        (field::EXIT_CONTROLS, 0x3_6dfb | 1 << 9 | 0xf << 18),
        (field::ENTRY_CONTROLS, entry),
    ]);
    good.put(&[(field::VPID, 1)]);
    good.put(&[
        (field::EPT_POINTER, 0x10_001e),
        (field::MSR_BITMAP, 0x2000),
        (field::VMCS_LINK, u64::MAX),
    ]);
}

const PAT: u64 = 0x0007_0406_0007_0406;
const LONG_EFER: u64 = 0xd01;

fn host(good: &mut Good) {
    good.put(&[
        (field::HOST_CR0, 0x8001_0031),
        (field::HOST_CR3, 0x1000),
        (field::HOST_CR4, 0x2620),
        (field::HOST_RIP, 0x10_0000),
    ]);
    good.put(&[(field::HOST_EFER, LONG_EFER), (field::HOST_PAT, PAT)]);
    good.put(&[
        (field::HOST_CS, 8),
        (field::HOST_SS, 0x10),
        (field::HOST_DS, 0x10),
        (field::HOST_ES, 0x10),
        (field::HOST_TR, 0x18),
    ]);
}

fn registers(good: &mut Good, cr0: u64, cr4: u64, efer: u64, rflags: u64) {
    good.put(&[
        (field::GUEST_CR0, cr0),
        (field::GUEST_CR3, 0x1000),
        (field::GUEST_CR4, cr4),
        (field::GUEST_DR7, 0x400),
        (field::GUEST_RIP, 0x1234),
        (field::GUEST_RFLAGS, rflags),
    ]);
    good.put(&[(field::GUEST_EFER, efer), (field::GUEST_PAT, PAT)]);
}

/// CS with `code`, and the others with `data` as rights.
fn segments(good: &mut Good, selector: u64, limit: u64, code: u64, data: u64) {
    let rights = [
        field::GUEST_ES_RIGHTS,
        field::GUEST_SS_RIGHTS,
        field::GUEST_DS_RIGHTS,
        field::GUEST_FS_RIGHTS,
        field::GUEST_GS_RIGHTS,
    ];
    good.put(&rights.map(|field| (field, data)));
    good.put(&[
        (field::GUEST_CS_RIGHTS, code),
        (field::GUEST_TR_RIGHTS, 0x8b),
        (field::GUEST_TR_LIMIT, 0xffff),
        (field::GUEST_LDTR_RIGHTS, 1 << 16),
        (field::GUEST_GDTR_LIMIT, 0xffff),
    ]);
    let all = [
        (field::GUEST_ES, field::GUEST_ES_BASE, field::GUEST_ES_LIMIT),
        (field::GUEST_CS, field::GUEST_CS_BASE, field::GUEST_CS_LIMIT),
        (field::GUEST_SS, field::GUEST_SS_BASE, field::GUEST_SS_LIMIT),
        (field::GUEST_DS, field::GUEST_DS_BASE, field::GUEST_DS_LIMIT),
        (field::GUEST_FS, field::GUEST_FS_BASE, field::GUEST_FS_LIMIT),
        (field::GUEST_GS, field::GUEST_GS_BASE, field::GUEST_GS_LIMIT),
    ];
    for (selectors, bases, limits) in all {
        good.put(&[(selectors, selector)]);
        good.put(&[(bases, if limit == 0xffff { selector << 4 } else { 0 })]);
        good.put(&[(limits, limit)]);
    }
}

fn good(base: Base) -> Snapshot {
    let mut good = Good(Snapshot::blank(DESK_VMCS));
    controls(&mut good, base == Base::Long);
    host(&mut good);
    match base {
        Base::Long => {
            registers(&mut good, 0x8001_0033, 0x2660, LONG_EFER, 0x202);
            segments(&mut good, 0x38, 0xffff_ffff, 0xa09b, 0xc093);
        }
        Base::Pae => {
            registers(&mut good, 0x8001_0033, 0x2660, 0x800, 0x202);
            segments(&mut good, 0x38, 0xffff_ffff, 0xc09b, 0xc093);
            good.put(&[
                (field::GUEST_PDPTE0, 0x2001),
                (field::GUEST_PDPTE1, 0x3001),
                (field::GUEST_PDPTE2, 0x4001),
                (field::GUEST_PDPTE3, 0x5001),
            ]);
        }
        Base::Virtual8086 => {
            registers(&mut good, 0x8001_0033, 0x2000, 0, 0x2_0202);
            segments(&mut good, 0x1000, 0xffff, 0xf3, 0xf3);
        }
        Base::Real => {
            registers(&mut good, 0x30, 0x2000, 0, 2);
            segments(&mut good, 0xf000, 0xffff, 0x9b, 0x93);
        }
    }
    good.0
}

fn broken_on(snapshot: &Snapshot, cpu: &Capabilities) -> Vec<Broken> {
    let mut found = Vec::new();
    check(snapshot, cpu, &mut |broken| found.push(broken));
    found
}

fn break_it(row: &Breakage) -> Snapshot {
    let mut snapshot = good(row.base);
    for change in row.changes {
        let value = change.of(snapshot.value(change.field));
        snapshot.set(change.field, value);
    }
    snapshot
}

#[test]
fn good_states_break_nothing() {
    for base in [Base::Long, Base::Pae, Base::Virtual8086, Base::Real] {
        for cpu in [rich(), lean()] {
            let broken = broken_on(&good(base), &cpu);
            assert_eq!(broken, [], "{base:?}");
        }
    }
}

#[test]
fn there_are_many_rules_with_names_of_their_own() {
    let names: BTreeSet<_> = rules().map(|(rule, _)| rule.name).collect();
    assert_eq!(names.len(), count());
    assert!(names.len() >= 150, "{}", names.len());
    println!("{} rules", names.len());
    for (number, (rule, _)) in rules().enumerate() {
        assert_eq!(rule_name(number), Some(rule.name));
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(rule.name.chars().all(kebab), "{}", rule.name);
        assert_ne!(field::name(rule.field), "unknown", "{}", rule.name);
    }
    assert_eq!(rule_name(count()), None);
}

#[test]
fn each_rule_is_broken_singly() {
    for row in breakages::all() {
        let snapshot = break_it(row);
        let broken = broken_on(&snapshot, &cpu_of(row));
        let found: BTreeSet<_> = broken.iter().map(|broken| broken.rule).collect();
        let wanted: BTreeSet<_> = row.also.iter().copied().chain([row.rule]).collect();
        assert_eq!(found, wanted, "breaking {}", row.rule);
    }
}

#[test]
fn every_rule_has_a_breakage_and_at_least_60_are_made_for_real() {
    let broken: BTreeSet<_> = breakages::all().map(|row| row.rule).collect();
    let all: BTreeSet<_> = rules().map(|(rule, _)| rule.name).collect();
    assert_eq!(broken, all);
    let for_real: BTreeSet<_> = breakages::for_real().map(|row| row.rule).collect();
    println!("{} for real", for_real.len());
    assert!(for_real.len() >= 60, "{}", for_real.len());
}

/// A rule about two fields shows one of them, which need not be the changed one.
#[test]
fn a_broken_rule_shows_the_field_and_what_it_holds() {
    for row in breakages::all() {
        let snapshot = break_it(row);
        for broken in broken_on(&snapshot, &cpu_of(row)) {
            let known = field::ALL.iter().find(|(_, name)| *name == broken.field);
            let (encoding, _) = known.expect("a field of the table");
            assert_eq!(broken.value, snapshot.value(u64::from(*encoding)));
            assert!(!broken.right.is_empty());
            let [only] = row.changes else { continue };
            let elsewhere = row.rule.ends_with("-granularity-bytes")
                || row.rule == "guest-v86-in-real-mode"
                || !row.also.is_empty();
            assert!(
                u64::from(*encoding) == only.field || elsewhere,
                "{}",
                row.rule
            );
        }
    }
}

#[test]
fn what_is_shown_names_everything() {
    let mut snapshot = good(Base::Long);
    snapshot.set(field::VPID.encoding(), 0);
    let broken = broken_on(&snapshot, &rich());
    let texts: Vec<String> = broken.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "vpid-zero: VPID is 0x0, right: a VPID other than 0, which is the hypervisor's \
          (manual: \"VM-Execution Control Fields\")"
        ]
    );
}

/// A CPU that has nothing optional has no field that is optional: reading one
/// would fail.
#[test]
fn fields_that_a_cpu_lacks_are_not_read() {
    let bare = Capabilities {
        pin: allowed(0x16, 0x3f),
        processor: allowed(0x0400_6172, 0x0401_e172),
        secondary: allowed(0, 0),
        tertiary: 0,
        exit: allowed(0x3_6dff, 0x3_6fff),
        secondary_exit: 0,
        entry: allowed(0x11ff, 0x13ff),
        ept_vpid: 0,
        ..rich()
    };
    let asked = RefCell::new(BTreeSet::new());
    let read = |cpu: &Capabilities| {
        asked.borrow_mut().clear();
        Snapshot::take(0, cpu, &mut |encoding| {
            asked.borrow_mut().insert(encoding);
            encoding
        })
    };
    read(&bare);
    for absent in [
        field::VPID.encoding(),
        field::EPT_POINTER.encoding(),
        field::MSR_BITMAP.encoding(),
        field::SECONDARY_CONTROLS.encoding(),
        field::GUEST_EFER.encoding(),
        field::HOST_PAT.encoding(),
        field::GUEST_PDPTE0.encoding(),
        field::GUEST_S_CET.encoding(),
        field::EXIT_REASON.encoding(),
    ] {
        assert!(!asked.borrow().contains(&absent), "{absent:#x}");
    }
    assert!(asked.borrow().contains(&field::GUEST_CR0.encoding()));
    let all = read(&rich());
    assert_eq!(all.value(field::GUEST_S_CET.encoding()), 0x6828);
    assert!(asked.borrow().contains(&field::TSC_MULTIPLIER.encoding()));
}

#[test]
fn a_cpu_is_asked_only_for_registers_that_it_has() {
    let mut asked = Vec::new();
    let no_secondary = |number| match number {
        msr::VMX_PROCESSOR_CONTROLS => 0x0401_e172_0400_6172,
        _ => 0,
    };
    let cpu = Capabilities::read(
        &mut |number| {
            asked.push(number);
            no_secondary(number)
        },
        &|_, _| Leaf::default(),
    );
    assert!(!asked.contains(&msr::VMX_SECONDARY_CONTROLS));
    assert!(!asked.contains(&msr::VMX_EPT_VPID));
    assert!(!asked.contains(&msr::VMX_TERTIARY_CONTROLS));
    assert!(asked.contains(&msr::VMX_MISC));
    assert!(!cpu.has_field(field::SECONDARY_CONTROLS.encoding()));
}

proptest! {
    /// Whatever a VMCS and a CPU hold, the rules are answered, and each at most
    /// once.
    #[test]
    fn any_state_has_an_answer(values in prop::collection::vec(any::<u64>(), field::ALL.len()),
                               bits in 0u32..80, linear in 0u32..80, word: u64) {
        let cpu = Capabilities {
            pin: Allowed { msr: 0, value: word },
            physical_bits: bits,
            linear_bits: linear,
            ..rich()
        };
        let mut values = values.into_iter();
        let snapshot = Snapshot::take(0, &cpu, &mut |_| values.next().unwrap_or(0));
        let numbers: Vec<_> = broken_on(&snapshot, &cpu).iter().map(|b| b.number).collect();
        prop_assert!(numbers.is_sorted_by(|a, b| a < b));
    }

    /// An address with a bit beyond the width is named, one below it is not.
    #[test]
    fn the_width_of_addresses_is_kept(bits in 32u32..52, bit in 12u32..63) {
        let cpu = Capabilities { physical_bits: bits, ..rich() };
        let mut snapshot = good(Base::Long);
        snapshot.set(field::MSR_BITMAP.encoding(), 1 << bit);
        let named = broken_on(&snapshot, &cpu).iter().any(|b| b.rule == "msr-bitmap-width");
        prop_assert_eq!(named, bit >= bits);
    }

    /// Canonical is what sign extension from the CPU's width gives.
    #[test]
    fn canonical_addresses_are_kept(value: u64, bits in prop::sample::select(vec![48u32, 57])) {
        let cpu = Capabilities { linear_bits: bits, ..rich() };
        let mut snapshot = good(Base::Long);
        snapshot.set(field::HOST_GS_BASE.encoding(), value);
        let named = broken_on(&snapshot, &cpu).iter().any(|b| b.rule == "host-gs-base-canonical");
        let upper = value >> (bits - 1);
        prop_assert_eq!(!named, upper == 0 || upper == u64::MAX >> (bits - 1));
    }
}
