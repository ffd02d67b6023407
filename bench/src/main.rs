//! Times exits and calls, each by itself, from inside the guest. One line for
//! each operation: its name, the least and the median of many singles, the unit.
//! `cargo xtask bench` reads them.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod operations;
#[cfg(target_os = "uefi")]
mod timer;

tests::guest!(measure);

#[cfg(not(target_os = "uefi"))]
fn measure(_: &mut tests::Report) {}

#[cfg(target_os = "uefi")]
fn measure(report: &mut tests::Report) {
    let mut timer = timer::Timer::new();
    let offer = tests::print::offer();
    for operation in operations::everywhere() {
        operations::measure(report, &mut timer, &operation);
    }
    let Some(offer) = offer else {
        return;
    };
    for operation in operations::beneath(&mut timer, offer) {
        operations::measure(report, &mut timer, &operation);
    }
    operations::memory(report);
}
