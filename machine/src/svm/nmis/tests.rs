//! The guest between an NMI and the IRET that ends it.

use super::*;
use x86::Event;
use x86::event::EventType;
use x86::svm::vmcb::blank;

const IRET: u64 = 0x1000;
const GENERAL_PROTECTION: u8 = 13;
const OLD_BREAKPOINT: u64 = 1 << 1;

/// A guest that has an NMI in hand and is at the IRET.
fn at_iret() -> (Nmis, Vmcb) {
    let (mut nmis, mut vmcb) = (Nmis::default(), blank());
    assert!(!nmis.are_blocked(&vmcb));
    nmis.begin(&mut vmcb.control);
    assert_ne!(vmcb.control.intercept3 & intercept3::IRET, 0);
    vmcb.save.rip = IRET;
    vmcb.save.dr6 = OLD_BREAKPOINT;
    vmcb.control.intercept_exceptions = 1 << 14;
    nmis.end(&mut vmcb);
    (nmis, vmcb)
}

fn exception(vector: u8) -> Exit {
    let event = Event {
        kind: EventType::Exception,
        vector,
        error: None,
    };
    Exit::Exception { event, detail: 0 }
}

#[test]
fn nmis_are_blocked_until_the_iret_has_run() {
    let (mut nmis, mut vmcb) = at_iret();
    assert!(nmis.are_blocked(&vmcb), "it has not run yet");
    assert_eq!(vmcb.control.intercept3 & intercept3::IRET, 0, "but can");
    vmcb.save.rip = IRET + 2;
    assert!(!nmis.are_blocked(&vmcb));
    nmis.begin(&mut vmcb.control);
    vmcb.save.rip = IRET;
    assert!(
        nmis.are_blocked(&vmcb),
        "the next NMI has an end of its own"
    );
}

#[test]
fn an_nmi_that_comes_at_the_iret_waits_for_a_step() {
    let (mut nmis, mut vmcb) = at_iret();
    nmis.step(&mut vmcb);
    assert_ne!(vmcb.save.rflags & Rflags::TF.bits(), 0);
    assert!(nmis.are_blocked(&vmcb));
    assert_eq!(nmis.stepped(&mut vmcb, Exit::Nmi), Stepped::Not);
    assert!(nmis.are_stepping() && nmis.are_blocked(&vmcb));
    vmcb.save.rip = 0x2000;
    vmcb.save.rflags = Rflags::FIXED.bits();
    vmcb.save.dr6 |= DR6_SINGLE_STEP;
    assert_eq!(nmis.stepped(&mut vmcb, exception(DEBUG)), Stepped::Over);
    assert!(!nmis.are_blocked(&vmcb) && !nmis.are_stepping());
    assert_eq!(vmcb.save.dr6, OLD_BREAKPOINT, "as the guest had it");
    assert_eq!(vmcb.control.intercept_exceptions, 1 << 14);
}

#[test]
fn nothing_is_stepped_over_in_the_middle_of_the_handler() {
    let (mut nmis, mut vmcb) = (Nmis::default(), blank());
    nmis.begin(&mut vmcb.control);
    nmis.step(&mut vmcb);
    assert!(!nmis.are_stepping());
    assert_eq!(vmcb.save.rflags & Rflags::TF.bits(), 0);
}

#[test]
fn a_breakpoint_behind_the_iret_is_the_guests() {
    let (mut nmis, mut vmcb) = at_iret();
    nmis.step(&mut vmcb);
    vmcb.save.rip = 0x2000;
    vmcb.save.dr6 |= DR6_SINGLE_STEP | 1;
    assert_eq!(nmis.stepped(&mut vmcb, exception(DEBUG)), Stepped::Trap);
    assert_eq!(vmcb.save.dr6, OLD_BREAKPOINT | 1, "but the step is not");
    assert!(!nmis.are_blocked(&vmcb));
}

#[test]
fn the_guests_own_step_stays_its_own() {
    let (mut nmis, mut vmcb) = at_iret();
    vmcb.save.rflags = Rflags::TF.bits();
    nmis.step(&mut vmcb);
    vmcb.save.rip = 0x2000;
    vmcb.save.dr6 |= DR6_SINGLE_STEP;
    assert_eq!(nmis.stepped(&mut vmcb, exception(DEBUG)), Stepped::Trap);
    assert_eq!(vmcb.save.dr6, OLD_BREAKPOINT | DR6_SINGLE_STEP);
}

#[test]
fn behind_a_fault_of_the_iret_the_next_one_counts() {
    let (mut nmis, mut vmcb) = at_iret();
    nmis.step(&mut vmcb);
    let found = nmis.stepped(&mut vmcb, exception(GENERAL_PROTECTION));
    assert_eq!(found, Stepped::Fault);
    assert_eq!(vmcb.save.rflags & Rflags::TF.bits(), 0);
    vmcb.save.rip = 0x3000;
    assert!(nmis.are_blocked(&vmcb));
    assert_ne!(vmcb.control.intercept3 & intercept3::IRET, 0);
}
