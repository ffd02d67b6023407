//! Running a guest with VT-x. The mirror of `svm`: the same files, the same
//! order. Intel SDM volume 3, part "Virtual-Machine Extensions".

mod block;
#[cfg(feature = "breakable")]
mod breakage;
mod checks;
mod child;
mod enter;
mod setup;
mod support;
mod vcpu;

pub use support::{Support, support};
pub use vcpu::VtxCpu;
