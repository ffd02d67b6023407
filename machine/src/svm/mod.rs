//! Running a guest with AMD-V. The mirror of `vtx`: the same files, the same
//! order. AMD APM volume 2, "Secure Virtual Machine".

mod block;
#[cfg(feature = "breakable")]
mod breakage;
mod checks;
mod child;
mod enter;
mod nmis;
mod setup;
mod support;
mod vcpu;

pub use support::{Support, support};
pub use vcpu::SvmCpu;
