//! AMD-V as data: the VMCB and exit decoding. The mirror of `vtx`. AMD APM
//! volume 2, "Secure Virtual Machine".

pub mod checks;
pub mod control;
pub mod exit;
pub mod field;
pub mod vmcb;
