//! The CPUID policy on the desk.

use super::*;
use crate::fake::{FakeSvm, FakeVtx};
use crate::visible::*;
use crate::vm::Features;
use machine::CodeSize;
use proptest::prelude::*;
use x86::control::Cr4;
use x86::cpuid;

const ALL: Leaf = Leaf {
    eax: !0,
    ebx: !0,
    ecx: !0,
    edx: !0,
};

fn seen(leaf: u32, subleaf: u32, below: Leaf, cr4: Cr4) -> Leaf {
    let vcpu = FakeVtx {
        cr4,
        ..FakeVtx::default()
    };
    visible(leaf, subleaf, below, Presence::Leaf, Features::ALL, &vcpu)
}

#[test]
fn virtualisation_is_hidden() {
    assert_eq!(seen(1, 0, ALL, Cr4::empty()).ecx & cpuid::ECX1_VMX, 0);
    assert_eq!(
        seen(0x8000_0001, 0, ALL, Cr4::empty()).ecx & cpuid::AMD_ECX_SVM,
        0
    );
    assert_eq!(seen(0x8000_000a, 0, ALL, Cr4::empty()), Leaf::default());
}

#[test]
fn mirrored_bits_follow_the_guests_cr4_whatever_is_below() {
    for below in [ALL, Leaf::default()] {
        let xsave = |cr4| seen(1, 0, below, cr4).ecx & cpuid::ECX1_OSXSAVE != 0;
        assert!(xsave(Cr4::OSXSAVE) && !xsave(Cr4::PKE));
        let keys = |cr4| seen(7, 0, below, cr4).ecx & cpuid::ECX7_OSPKE != 0;
        assert!(keys(Cr4::PKE) && !keys(Cr4::OSXSAVE));
    }
}

#[test]
fn the_hypervisor_bit_is_set_on_request_only() {
    let bit = |presence| {
        let leaf = visible(
            1,
            0,
            Leaf::default(),
            presence,
            Features::ALL,
            &FakeVtx::default(),
        );
        leaf.ecx & cpuid::ECX1_HYPERVISOR != 0
    };
    assert!(bit(Presence::Bit) && !bit(Presence::Leaf) && !bit(Presence::Hidden));
}

#[test]
fn features_without_their_control_are_hidden() {
    let none = Features {
        rdtscp: false,
        invpcid: false,
        xsaves: false,
        user_wait: false,
    };
    let seen = |leaf, subleaf| {
        visible(
            leaf,
            subleaf,
            ALL,
            Presence::Leaf,
            none,
            &FakeVtx::default(),
        )
    };
    assert_eq!(seen(7, 0).ebx & EBX7_INVPCID, 0);
    assert_eq!(seen(7, 0).ecx & (ECX7_USER_WAIT | ECX7_RDPID), 0);
    assert_eq!(seen(0xd, 1).eax & EAX_D1_XSAVES, 0);
    assert_eq!(seen(0x8000_0001, 0).edx & AMD_EDX_RDTSCP, 0);
}

#[test]
fn leaves_of_the_hypervisor() {
    let signature = presence_leaf(LEAF_SIGNATURE, Vendor::Intel, None);
    assert_eq!(signature.eax, LEAF_PRINT);
    let spelt = [signature.ebx, signature.ecx, signature.edx]
        .map(u32::to_le_bytes)
        .concat();
    assert_eq!(spelt, b"UnderlayHV\0\0");
    assert_eq!(presence_leaf(LEAF_FEATURES, Vendor::Intel, None).ebx, 1);
    assert_eq!(presence_leaf(LEAF_FEATURES, Vendor::Amd, None).ebx, 2);
    for leaf in [LEAF_PRINT, LEAF_PRINT + 1] {
        assert_eq!(presence_leaf(leaf, Vendor::Amd, None), Leaf::default());
    }
    let printer = Printer::new(x86::Gpa(0x12_3456_7000));
    let features = presence_leaf(LEAF_FEATURES, Vendor::Amd, Some(&printer));
    assert_eq!(features.ebx, 6);
    let print = presence_leaf(LEAF_PRINT, Vendor::Amd, Some(&printer));
    assert_eq!((print.eax, print.ecx, print.ebx), (0xe9, 0x12, 0x3456_7000));
    assert!(is_ours(LEAF_SIGNATURE, Presence::Leaf));
    assert!(!is_ours(LEAF_SIGNATURE, Presence::Hidden));
    assert!(!is_ours(LEAF_RANGE_END + 1, Presence::Leaf));
}

proptest! {
    /// A guest never sees a feature bit that the CPU below lacks, but for the
    /// two that mirror its own CR4.
    #[test]
    fn nothing_is_invented(
        leaf in prop::sample::select(vec![0u32, 1, 6, 7, 0xd, 0x12, 0x14, 0x8000_0001, 0x8000_0008]),
        subleaf in 0u32..40,
        eax: u32, ebx: u32, ecx: u32, edx: u32,
    ) {
        let below = Leaf { eax, ebx, ecx, edx };
        let got = seen(leaf, subleaf, below, Cr4::empty());
        prop_assert_eq!(got.eax & !eax, 0);
        prop_assert_eq!(got.ebx & !ebx, 0);
        prop_assert_eq!(got.ecx & !ecx, 0);
        prop_assert_eq!(got.edx & !edx, 0);
    }
}

/// Every bit that is to be hidden, by leaf, subleaf and register, from the
/// manuals' tables and not from the code.
#[test]
fn what_needs_help_is_hidden() {
    type Row = (u32, u32, fn(Leaf) -> u32, &'static [u32]);
    let hidden: [Row; 9] = [
        // DTES64, DS-CPL, VMX, SMX, PDCM
        (1, 0, |leaf| leaf.ecx, &[2, 4, 5, 6, 15]),
        // DS
        (1, 0, |leaf| leaf.edx, &[21]),
        // Hardware feedback, thread director
        (6, 0, |leaf| leaf.eax, &[19, 23]),
        // Processor trace
        (7, 0, |leaf| leaf.ebx, &[25]),
        // CET_SS, KL, PKS
        (7, 0, |leaf| leaf.ecx, &[7, 23, 31]),
        // UINTR, PCONFIG, architectural LBR, CET_IBT
        (7, 0, |leaf| leaf.edx, &[5, 18, 19, 20]),
        // LASS, FRED, NMI_SRC, LAM, MSRLIST
        (7, 1, |leaf| leaf.eax, &[6, 17, 20, 26, 27]),
        // PT, CET_U, CET_S, UINTR, LBR states
        (0xd, 1, |leaf| leaf.ecx, &[8, 11, 12, 14, 15]),
        // SVM, SKINIT
        (0x8000_0001, 0, |leaf| leaf.ecx, &[2, 12]),
    ];
    for (leaf, subleaf, register, bits) in hidden {
        let seen = register(seen(leaf, subleaf, ALL, Cr4::all()));
        for bit in bits {
            assert_eq!(seen >> bit & 1, 0, "leaf {leaf:#x}.{subleaf} bit {bit}");
        }
    }
    for leaf in [0x14, 0x19, 0x1b, 0x1c, 0x8000_000a, 0x8000_001f] {
        assert_eq!(
            seen(leaf, 0, ALL, Cr4::empty()),
            Leaf::default(),
            "leaf {leaf:#x}"
        );
    }
    for state in [8, 11, 12, 14, 15] {
        assert_eq!(
            seen(0xd, state, ALL, Cr4::empty()),
            Leaf::default(),
            "state {state}"
        );
    }
    assert_eq!(
        seen(0x8000_0008, 0, ALL, Cr4::empty()).ebx >> 3 & 1,
        0,
        "INVLPGB"
    );
}

#[test]
fn intel_shows_syscall_to_64_bit_code_only() {
    let syscall = |leaf: Leaf| leaf.edx & AMD_EDX_SYSCALL != 0;
    for size in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
        let intel = FakeVtx {
            size,
            ..FakeVtx::default()
        };
        let seen = visible(0x8000_0001, 0, ALL, Presence::Leaf, Features::ALL, &intel);
        assert_eq!(syscall(seen), size == CodeSize::Bits64);
        let amd = FakeSvm {
            size,
            ..FakeSvm::default()
        };
        assert!(syscall(visible(
            0x8000_0001,
            0,
            ALL,
            Presence::Leaf,
            Features::ALL,
            &amd
        )));
    }
}
