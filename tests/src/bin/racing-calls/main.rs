//! One CPU makes calls while another changes what they lead to: page-table
//! entries of every level, lists, names; and both use the log, shared buffers
//! and the shell at once. A call copies from a page that it may read, or fails;
//! one that fails has written nothing, and none reaches Underlay.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

mod copies;
mod flips;
mod program;
mod together;

use tests::Report;
use tests::call::alive;
use tests::processors::Others;
use tests::transcript::Options;

tests::guest!(check);

/// Calls of each kind, if the command line does not say.
const RANDOM: u64 = 800;

fn check(report: &mut Report) {
    let calls = Options::of_this_guest().random(RANDOM);
    let others = Others::new();
    report.holds("there is another CPU", others.count() > 0);
    copies::check(report, &others, calls);
    program::check(report, &others, calls);
    together::check(report, &others, calls);
    others.stop();
    report.holds("ping answers at the end", alive());
}
