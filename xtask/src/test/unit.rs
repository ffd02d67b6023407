//! The tests that run on the desk, by cargo.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use super::Tally;
use crate::artefacts;

/// Runs them, shows what cargo says, and counts.
pub fn run() -> Result<Tally> {
    let mut cargo = artefacts::cargo();
    cargo
        .arg("test")
        .args(artefacts::locked())
        .arg("--no-fail-fast");
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo test")?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            if let Some((passed, failed)) = parse(&line) {
                tally.passed += passed;
                tally.failed += failed;
            }
        }
    }
    // Tests that do not compile have no summary line.
    if !child.wait()?.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// `test result: ok. 5 passed; 0 failed; ...`
fn parse(line: &str) -> Option<(usize, usize)> {
    let summary = line.strip_prefix("test result: ")?;
    let count = |word: &str| {
        summary
            .split(['.', ';'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    Some((count("passed")?, count("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cargos_summary() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; finished in 0.00s";
        assert_eq!(parse(line), Some((12, 3)));
        assert_eq!(parse("test a ... ok"), None);
    }
}
