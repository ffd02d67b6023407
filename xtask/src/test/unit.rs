//! The tests that run on the desk, by cargo.

use std::io::{self, BufRead, BufReader};
use std::process::{ChildStderr, Stdio};
use std::thread;

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
        .stderr(Stdio::piped())
        .spawn()
        .context("running cargo test")?;
    let errors = child.stderr.take();
    let errors = thread::spawn(|| errors.map_or_else(Vec::new, show));
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            count.line(&line);
        }
    }
    let errors = errors.join().unwrap_or_default();
    let passed = child.wait()?.success();
    Ok(count.end(passed, &errors))
}

/// Shows what cargo itself says, and returns its words from the first error on.
fn show(output: ChildStderr) -> Vec<String> {
    let lines = BufReader::new(output).lines().map_while(io::Result::ok);
    let mut errors = Vec::new();
    for line in lines {
        eprintln!("{line}");
        let said = line.trim_start();
        if !errors.is_empty() || said.starts_with("error") {
            errors.push(line);
        }
    }
    errors
}

/// What the lines of the tests have come to.
#[derive(Default)]
struct Count {
    tally: Tally,
    /// Of the program that runs: its tests, and those that have passed.
    running: Option<[usize; 2]>,
}

impl Count {
    fn line(&mut self, line: &str) {
        if let Some(tests) = line.strip_prefix("running ") {
            self.died();
            let tests = tests.split(' ').next().and_then(|n| n.parse().ok());
            self.running = tests.map(|tests| [tests, 0]);
        } else if let Some((passed, failed)) = parse(line) {
            self.tally.passed += passed;
            self.tally.failed += failed;
            self.running = None;
        } else if let Some(test) = line.strip_prefix("test ") {
            if let Some(name) = test.strip_suffix(" ... FAILED") {
                self.tally.failures.push(format!("test {name}"));
            } else if let (Some([_, passed]), true) = (&mut self.running, test.ends_with(" ... ok"))
            {
                *passed += 1;
            }
        }
    }

    /// A program of tests that ended before it said how many passed: which
    /// were left is not known, since they run side by side.
    fn died(&mut self) {
        if let Some([tests, passed]) = self.running.take() {
            self.tally.passed += passed;
            self.tally.failed += tests - passed;
            let left = tests - passed;
            let died = format!("a program ended in the midst of its tests, {left} before the end");
            self.tally.failures.push(died);
        }
    }

    /// All of it, where cargo says whether all `passed`, and said `errors`.
    fn end(mut self, passed: bool, errors: &[String]) -> Tally {
        self.died();
        if !passed {
            // Tests that do not compile have no summary line.
            self.tally.failed = self.tally.failed.max(1);
            self.tally.failures.push(errors.join("\n"));
        }
        self.tally
    }
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

    fn count(lines: &[&str], passed: bool) -> Tally {
        let mut count = Count::default();
        lines.iter().for_each(|line| count.line(line));
        count.end(passed, &["error: it failed".to_owned()])
    }

    #[test]
    fn counts_and_names_what_failed() {
        let tally = count(
            &[
                "running 2 tests",
                "test a::b ... FAILED",
                "test c ... ok",
                "test result: FAILED. 1 passed; 1 failed; 0 ignored; finished in 0.00s",
            ],
            false,
        );
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert_eq!(tally.failures, ["test a::b", "error: it failed"]);
    }

    #[test]
    fn tests_of_a_program_that_died_have_failed() {
        let lines = ["running 3 tests", "test c ... ok", "", "running 1 test"];
        let last = "test result: ok. 1 passed; 0 failed; 0 ignored; finished in 0.00s";
        let tally = count(&[&lines[..], &[last]].concat(), false);
        assert_eq!((tally.passed, tally.failed), (2, 2));
        assert!(tally.failures[0].contains("2 before the end"));
        let tally = count(&lines, true);
        assert_eq!((tally.passed, tally.failed), (1, 3));
    }

    #[test]
    fn tests_that_do_not_compile_are_a_failure() {
        let tally = count(&[], false);
        assert_eq!((tally.passed, tally.failed), (0, 1));
    }
}
