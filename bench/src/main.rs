//! Times exits and calls, each by itself, from inside the guest. One line for
//! each operation: its name, the least and the median of many singles, the unit.
//! `cargo xtask bench` reads them.
//! With `path=NAME` on the command line it does one operation between two
//! magic breakpoints of Bochs'; with `only=memory` it says what is not the guest's.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod child;
#[cfg(target_os = "uefi")]
mod operations;
#[cfg(target_os = "uefi")]
mod timer;

tests::guest!(measure);

#[cfg(not(target_os = "uefi"))]
fn measure(_: &mut tests::Report) {}

#[cfg(target_os = "uefi")]
fn measure(report: &mut tests::Report) {
    let options = tests::transcript::Options::of_this_guest();
    if options.value("only") == Some("memory") {
        return operations::memory(report);
    }
    let mut timer = timer::Timer::new();
    let offer = tests::print::offer();
    let mut operations = operations::everywhere();
    if let Some(offer) = offer {
        operations.extend(operations::beneath(&mut timer, offer));
    }
    let mut child = child::Child::new();
    operations.extend(child.iter().flat_map(operations::turns));
    if let Some(name) = options.value("path") {
        return operations::mark(report, &mut timer, &operations, child.as_mut(), name);
    }
    for operation in &operations {
        operations::measure(report, &mut timer, operation);
    }
    if let Some(child) = &mut child {
        operations::measure_within(report, child);
    }
}
