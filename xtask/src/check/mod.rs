//! `cargo xtask check`: what a change must keep to, one line for each rule.

mod forbidden;
mod imports;
mod lints;
mod sizes;
mod sources;

use std::time::Instant;

use anyhow::Result;

use crate::{generate, setup};
use sources::Sources;

/// Check format, lints, import rules, sizes and documentation.
///
/// Prints one line for each check, and below it what is wrong and where.
#[derive(clap::Args)]
pub struct Args {}

/// What is wrong, one entry for each place; or why it cannot be said.
type Findings = Result<Vec<String>>;

type Check = (&'static str, fn(&Sources) -> Findings);

/// Quick ones first.
const CHECKS: [Check; 12] = [
    ("format: rustfmt has nothing to change", lints::format),
    ("imports: crates import only what they may", imports::crates),
    (
        "imports: vtx and svm do not know each other",
        imports::vendors,
    ),
    (
        "imports: controllers and services stand alone",
        imports::families,
    ),
    (
        "unsafe: forbidden in abi, x86, views and xtask, denied in hypervisor",
        forbidden::unsafe_code,
    ),
    ("static mut: nowhere", forbidden::static_mut),
    ("sizes: functions and files are small", sizes::check),
    (
        "generated: the pages made from tables are up to date",
        generated,
    ),
    ("clippy: what runs on the desk", lints::desk),
    ("clippy: what runs in the machine", lints::targets),
    (
        "clippy: nothing in abi, x86 and hypervisor can panic",
        lints::panics,
    ),
    ("documentation: no warnings", lints::documentation),
];

fn generated(_: &Sources) -> Findings {
    generate::stale()
}

/// `cargo xtask check`.
pub fn command(_: &Args) -> Result<u8> {
    setup::ensure()?;
    let sources = Sources::read()?;
    let mut failed = 0;
    for (sentence, check) in CHECKS {
        let start = Instant::now();
        let findings = check(&sources).unwrap_or_else(|error| vec![format!("{error:#}")]);
        let word = if findings.is_empty() { "ok  " } else { "FAIL" };
        println!("{word} {sentence} ({:.1} s)", start.elapsed().as_secs_f64());
        for finding in &findings {
            println!("     {}", finding.trim_end().replace('\n', "\n     "));
        }
        failed += usize::from(!findings.is_empty());
    }
    for line in sizes::figures(&sources) {
        println!("{line}");
    }
    println!("{} checks kept, {failed} broken", CHECKS.len() - failed);
    Ok(u8::from(failed > 0))
}
