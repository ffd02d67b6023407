//! VT-x as data: VMCS fields, controls, capabilities, exit decoding. The
//! mirror of `svm`. Intel SDM volume 3, part "Virtual-Machine Extensions".

pub mod checks;
pub mod control;
pub mod exit;
pub mod field;
