//! Every instruction that one operation costs, as Bochs executes them, with the
//! function that it belongs to.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Context, Result, anyhow, ensure};

use super::measure::with_children;
use crate::artefacts;
use crate::machine::Machine;
use crate::session::EMULATOR_SAYS;
use crate::stage::Boot;
use crate::test::case::{Bench, Variant};
use crate::test::table::Row;

/// Up to the first magic breakpoint, with each instruction to the second, and no
/// further.
const DEBUGGER: &str = "c\ntrace on\nc\nq\n";

/// Boots the guest on Bochs for `operation`; a listing, and how many
/// instructions each function has in it.
pub fn listing(bench: &Bench, row: &Row, operation: &str) -> Result<String> {
    let report = bench.boot(
        &with_children(row.clone()),
        Machine::Vtx,
        Variant {
            name: "boot",
            native: false,
            debugger: DEBUGGER,
            boot: Boot::Efi {
                program: artefacts::bench_guest(),
                arguments: format!("path={operation}"),
            },
        },
    )?;
    let said = Bench::dir(row, Machine::Vtx)
        .join("boot")
        .join(EMULATOR_SAYS);
    let said = fs::read(&said).context("reading what Bochs said")?;
    let said = String::from_utf8_lossy(&said);
    let steps = steps(&said);
    ensure!(!steps.is_empty(), "the guest did not do `{operation}`");
    let log = String::from_utf8_lossy(&report.log);
    let base = base(&log).context("the log does not say where Underlay is")?;
    let names = Names::read(&artefacts::unsealed(), base)?;
    text(&steps, &names)
}

/// An executed instruction.
#[derive(Debug, PartialEq)]
struct Step<'a> {
    address: u64,
    instruction: &'a str,
}

/// What `said` has of the form
/// `(0).[TIME] [PHYSICAL] CS:ADDRESS (CONTEXT): INSTRUCTION ; BYTES`.
fn steps(said: &str) -> Vec<Step<'_>> {
    said.lines().filter_map(step).collect()
}

fn step(line: &str) -> Option<Step<'_>> {
    let rest = line.trim_start_matches('\r').strip_prefix("(0).[")?;
    let (place, instruction) = rest.split_once("): ")?;
    let (_, place) = place.split_once("] [")?;
    let (_, place) = place.split_once("] ")?;
    let address = place.split_once(" (")?.0.split_once(':')?.1;
    Some(Step {
        address: u64::from_str_radix(address, 16).ok()?,
        instruction: instruction.split(" ; ").next()?.trim_end(),
    })
}

/// `Underlay VERSION at 0xBASE, SIZE KiB`.
fn base(log: &str) -> Option<u64> {
    let words = log.split("] Underlay ").nth(1)?;
    let base = words.split_once(" at 0x")?.1.split_once(',')?.0;
    u64::from_str_radix(base, 16).ok()
}

/// Functions of the hypervisor by their addresses.
struct Names {
    loader: Loader,
    base: u64,
}

impl Names {
    fn read(file: &Path, base: u64) -> Result<Self> {
        let loader = Loader::new(file).map_err(|error| anyhow!("{error}"))?;
        Ok(Self { loader, base })
    }

    /// From the outermost function to the one that was inlined last.
    fn of(&self, address: u64) -> Result<Vec<String>> {
        let wrong = |error| anyhow!("reading what is known of {address:#x}: {error}");
        let Some(inside) = address.checked_sub(self.base) else {
            return Ok(vec!["guest".to_owned()]);
        };
        let mut frames = self.loader.find_frames(inside).map_err(wrong)?;
        let mut names = Vec::new();
        while let Some(frame) = frames.next().map_err(|error| anyhow!("{error}"))? {
            let name = frame.function.as_ref();
            let name = name.and_then(|name| Some(name.demangle().ok()?.into_owned()));
            names.push(short(&name.unwrap_or_else(|| "guest".to_owned())));
        }
        names.reverse();
        if names.is_empty() {
            // The entry stubs are assembler, of which only the symbols tell.
            let symbol = self.loader.find_symbol(inside);
            names.push(symbol.map_or("guest".to_owned(), mangled));
        }
        Ok(names)
    }
}

fn mangled(symbol: &str) -> String {
    let name = addr2line::demangle_auto(symbol.into(), None);
    short(&name)
}

/// Without generic arguments.
fn short(name: &str) -> String {
    let mut depth = 0;
    let mut kept = String::new();
    for letter in name.chars() {
        depth += i32::from(letter == '<');
        if depth == 0 {
            kept.push(letter);
        }
        depth -= i32::from(letter == '>');
    }
    let parts: Vec<&str> = kept.split("::").filter(|part| !part.is_empty()).collect();
    let from = parts.len().saturating_sub(2);
    parts[from..].join("::")
}

fn text(steps: &[Step<'_>], names: &Names) -> Result<String> {
    let mut text = String::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut before = String::new();
    for step in steps {
        let way = names.of(step.address)?.join(" > ");
        if way != before {
            writeln!(text, "{way}")?;
        }
        writeln!(text, "    {}", step.instruction)?;
        *counts.entry(way.clone()).or_default() += 1;
        before = way;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    writeln!(text, "\n{} instructions:", steps.len())?;
    for (way, count) in counts {
        writeln!(text, "{count:>6}  {way}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_bochs_is_a_step() {
        let line = "(0).[2181512] [0x00000003de1f57c] 0008:000000003de1f57c (unk. ctxt): push rbx                  ; 53";
        let expected = Step {
            address: 0x3de1_f57c,
            instruction: "push rbx",
        };
        assert_eq!(steps(line), [expected]);
        assert_eq!(steps("Next at t=0\n<bochs:1> c"), []);
    }

    #[test]
    fn names_are_without_their_generic_arguments() {
        assert_eq!(short("hypervisor::run::run<VtxCpu, Memory>"), "run::run");
        assert_eq!(short("<machine::A as x86::B>::load"), "load");
    }

    #[test]
    fn the_log_says_where_it_is() {
        let log = "noise\n[ 0.1 cpu0 INFO  start] Underlay 0.1.0 at 0x3de00000, 2048 KiB\n";
        assert_eq!(base(log), Some(0x3de0_0000));
    }
}
