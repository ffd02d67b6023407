//! How statistics and traces are shown, whether they came by calls or were
//! written to the log: as tables for people, and as files for trace viewers.
#![forbid(unsafe_code)]

pub mod statistics;
pub mod trace;

pub use statistics::Table;
pub use trace::Trace;
