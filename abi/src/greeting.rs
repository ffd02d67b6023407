//! The greeting: the hypervisor writes it to its log, and clients show it to
//! the person who asked.

/// The logo, one line per element.
pub const LOGO: [&str; 6] = [
    r" _   _           _           _             ",
    r"| | | |_ __   __| | ___ _ __| | __ _ _   _ ",
    r"| | | | '_ \ / _` |/ _ \ '__| |/ _` | | | |",
    r"| |_| | | | | (_| |  __/ |  | | (_| | |_| |",
    r" \___/|_| |_|\__,_|\___|_|  |_|\__,_|\__, |",
    r"                                     |___/ ",
];

/// What is said below the logo.
pub const GREETING: &str = "Hello from below: this machine runs on Underlay.";
