//! What the test guests share. Each guest is a small UEFI program in
//! `src/bin` that checks one behaviour and reports on the third serial port:
//!
//! ```ignore
//! #![cfg_attr(target_os = "uefi", no_main, no_std)]
//! tests::guest!(check);
//! fn check(report: &mut tests::Report) {
//!     report.equal("the answer", answer(), 42);
//! }
//! ```
//!
//! On the developer's own machine the guests compile to nothing, so that one
//! `cargo clippy` covers everything.
#![cfg_attr(target_os = "uefi", no_std)]

#[doc(hidden)]
pub extern crate alloc;

pub mod apic;
pub mod attempt;
pub mod call;
pub mod cases;
pub mod chain;
pub mod cpu;
#[cfg(target_os = "uefi")]
pub mod emulated;
pub mod firmware_tables;
pub mod linear;
pub mod machine;
#[cfg(target_os = "uefi")]
pub mod narrow;
pub mod native;
pub mod print;
pub mod processors;
pub mod random;
mod report;
pub mod reserved;
#[cfg(target_os = "uefi")]
pub mod rights;
pub mod sandbox;
pub mod second_cpu;
mod serial;
pub mod transcript;
pub mod two_cpus;

pub use attempt::{Fault, attempt};
pub use report::{Report, run};
#[doc(hidden)]
pub use uefi;

/// Makes `$check`, a `fn(&mut Report)`, the whole program: it runs as a UEFI
/// application, the report is closed when it returns, and the machine halts.
#[macro_export]
macro_rules! guest {
    ($check:path) => {
        $crate::program!(|| $crate::run($check));
    };
}

/// Makes `$run`, a `fn() -> Status`, the whole program. What it returns goes to
/// the firmware.
#[macro_export]
macro_rules! program {
    ($run:expr) => {
        #[cfg(target_os = "uefi")]
        #[$crate::uefi::entry]
        fn main() -> $crate::uefi::Status {
            let run: fn() -> $crate::uefi::Status = $run;
            run()
        }
        #[cfg(not(target_os = "uefi"))]
        fn main() {
            let _: fn() -> $crate::uefi::Status = $run;
        }
    };
}
