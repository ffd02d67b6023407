//! What Linux reports of CPUs and memory, with Underlay against without: only
//! differences that must be are allowed. And each CPU calls.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use crate::machine::{GO_ON, Machine};
use crate::stage::Boot;
use crate::test::case::{Bench, Variant, judge};
use crate::test::table::Row;

const COMMAND: &str = "cat /proc/cpuinfo; echo ====; cat /proc/iomem";
const CALLS: &str = "grep ^processor /proc/cpuinfo | while read -r _ _ cpu; do
    taskset -c $cpu underlayctl ping >/dev/null || exit 1
done && ";

/// Flags that Linux derives from VMX and SVM; and of the debug store with its
/// sampling, which writes where nested paging does not reach in time: a record
/// that falls due in the hypervisor would be stored into its own memory.
const HIDDEN_FLAGS: [&str; 30] = [
    "bts",
    "ds_cpl",
    "dtes64",
    "dts",
    "pdcm",
    "pebs",
    "vmx",
    "tpr_shadow",
    "vnmi",
    "flexpriority",
    "ept",
    "vpid",
    "ept_ad",
    "svm",
    "npt",
    "lbrv",
    "svm_lock",
    "nrip_save",
    "tsc_scale",
    "vmcb_clean",
    "flushbyasid",
    "decodeassists",
    "pausefilter",
    "pfthreshold",
    "avic",
    "v_vmsave_vmload",
    "vgif",
    "x2avic",
    "v_spec_ctrl",
    "sev",
];

/// Lines that are measured, or that belong to the hidden flags.
const HIDDEN_LINES: [&str; 3] = ["cpu MHz", "bogomips", "vmx flags"];

/// Boots both ways and compares.
pub fn run(bench: &Bench, row: &Row, machine: Machine) -> Result<()> {
    let boot = |name, native, calls| -> Result<String> {
        let report = bench.boot(
            row,
            machine,
            Variant {
                debugger: GO_ON,
                name,
                native,
                boot: Boot::exec(&format!("{calls}{COMMAND}")),
            },
        )?;
        judge(row, machine, &report)?;
        Ok(String::from_utf8_lossy(&report.output).into_owned())
    };
    let (native, ours) = (boot("native", true, "")?, boot("underlay", false, CALLS)?);
    let (native_cpu, native_memory) = native.split_once("====\n").context("no iomem")?;
    let (our_cpu, our_memory) = ours.split_once("====\n").context("no iomem")?;
    compare_cpuinfo(native_cpu, our_cpu)?;
    compare_iomem(native_memory, our_memory)
}

fn compare_cpuinfo(native: &str, ours: &str) -> Result<()> {
    let (native, ours) = (cpu_lines(native), cpu_lines(ours));
    let mut differences = Vec::new();
    for key in native.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        let (a, b) = (native.get(key), ours.get(key));
        if a != b {
            differences.push(difference(key, a, b));
        }
    }
    ensure!(
        differences.is_empty(),
        "/proc/cpuinfo differs:\n{}",
        differences.join("\n")
    );
    Ok(())
}

fn difference(key: &str, native: Option<&String>, ours: Option<&String>) -> String {
    let words = |text: Option<&String>| -> BTreeSet<String> {
        let words = text.into_iter().flat_map(|t| t.split_whitespace());
        words.map(str::to_owned).collect()
    };
    let (native, ours) = (words(native), words(ours));
    let missing: Vec<_> = native.difference(&ours).cloned().collect();
    let added: Vec<_> = ours.difference(&native).cloned().collect();
    format!(
        "{key}: missing [{}], added [{}]",
        missing.join(" "),
        added.join(" ")
    )
}

/// `key#processor` to value, without what may differ.
fn cpu_lines(text: &str) -> BTreeMap<String, String> {
    let mut processor = 0;
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            processor += usize::from(line.is_empty());
            continue;
        };
        let key = key.trim();
        if HIDDEN_LINES.contains(&key) {
            continue;
        }
        let shown = |word: &&str| key != "flags" || !HIDDEN_FLAGS.contains(word);
        let value: Vec<_> = value.split_whitespace().filter(shown).collect();
        lines.insert(format!("{key}#{processor}"), value.join(" "));
    }
    lines
}

/// A range of addresses and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    name: String,
}

fn compare_iomem(native: &str, ours: &str) -> Result<()> {
    let (native, ours) = (ranges(native)?, ranges(ours)?);
    let mut changes = changes(&native, &ours);
    if let Some(table) = changes.iter().position(is_token_table) {
        changes.remove(table);
    }
    let [change] = changes.as_slice() else {
        bail!(
            "/proc/iomem must have one more reserved range, but has these changes: {changes:#x?}"
        );
    };
    ensure!(
        change.name == "System RAM -> Reserved",
        "/proc/iomem differs in an unexpected way: {change:x?}"
    );
    Ok(())
}

/// Whether it is the page that the firmware takes for the table with the owner
/// token.
fn is_token_table(change: &Range) -> bool {
    const LAST_BYTE: u64 = 0xfff;
    change.name == "System RAM -> ACPI Tables" && change.last - change.first == LAST_BYTE
}

/// The outer ranges: the kernel's own places inside are random.
fn ranges(text: &str) -> Result<Vec<Range>> {
    let outer = text
        .lines()
        .filter(|l| !l.starts_with(' ') && !l.is_empty());
    outer
        .map(|line| range(line).with_context(|| format!("in `{line}`")))
        .collect()
}

fn range(line: &str) -> Result<Range> {
    let (span, name) = line.split_once(" : ").context("no name")?;
    let (first, last) = span.split_once('-').context("no range")?;
    Ok(Range {
        first: u64::from_str_radix(first, 16)?,
        last: u64::from_str_radix(last, 16)?,
        name: name.to_owned(),
    })
}

/// Where the two maps name something else, as `old -> new`, neighbours joined.
fn changes(native: &[Range], ours: &[Range]) -> Vec<Range> {
    let edges = |r: &Range| [Some(r.first), r.last.checked_add(1)];
    let edges = native.iter().chain(ours).flat_map(edges).flatten();
    let edges: Vec<u64> = edges.collect::<BTreeSet<_>>().into_iter().collect();
    let mut changes: Vec<Range> = Vec::new();
    for pair in edges.windows(2) {
        let (old, new) = (name_at(native, pair[0]), name_at(ours, pair[0]));
        if old == new {
            continue;
        }
        let name = format!("{old} -> {new}");
        match changes.last_mut() {
            Some(last) if last.last + 1 == pair[0] && last.name == name => last.last = pair[1] - 1,
            _ => changes.push(Range {
                first: pair[0],
                last: pair[1] - 1,
                name,
            }),
        }
    }
    changes
}

fn name_at(ranges: &[Range], address: u64) -> &str {
    let holds = |r: &&Range| (r.first..=r.last).contains(&address);
    ranges.iter().find(holds).map_or("nothing", |r| &r.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: &str = "00000000-00000fff : Reserved\n00001000-3fffffff : System RAM\n  \
                          01000000-01ffffff : Kernel code\n";

    #[test]
    fn one_reserved_range_more_is_right() {
        let ours = "00000000-00000fff : Reserved\n00001000-2fffffff : System RAM\n\
                    30000000-301fffff : Reserved\n30200000-3fffffff : System RAM\n";
        compare_iomem(NATIVE, ours).unwrap();
    }

    #[test]
    fn one_page_more_of_acpi_tables_is_right() {
        let ours = |behind: u64| {
            format!(
                "00000000-00000fff : Reserved\n00001000-2fffffff : System RAM\n\
                 30000000-301fffff : Reserved\n30200000-3effffff : System RAM\n\
                 3f000000-{:x} : ACPI Tables\n{behind:x}-3fffffff : System RAM\n",
                behind - 1
            )
        };
        compare_iomem(NATIVE, &ours(0x3f00_1000)).unwrap();
        assert!(compare_iomem(NATIVE, &ours(0x3f00_2000)).is_err());
        let tables_only = "00000000-00000fff : Reserved\n00001000-3effffff : System RAM\n\
                           3f000000-3f000fff : ACPI Tables\n3f001000-3fffffff : System RAM\n";
        assert!(compare_iomem(NATIVE, tables_only).is_err());
    }

    #[test]
    fn none_or_two_or_another_kind_are_wrong() {
        assert!(compare_iomem(NATIVE, NATIVE).is_err());
        let two = "00000000-00001fff : Reserved\n00002000-3ffeffff : System RAM\n\
                   3fff0000-3fffffff : Reserved\n";
        assert!(compare_iomem(NATIVE, two).is_err());
        let gone = "00000000-00000fff : Reserved\n00001000-2fffffff : System RAM\n";
        assert!(compare_iomem(NATIVE, gone).is_err());
    }

    #[test]
    fn only_the_flags_of_virtualisation_may_go() {
        let native = "processor : 0\nflags : fpu vmx ept sse\ncpu MHz : 1.0\n\n";
        compare_cpuinfo(native, "processor : 0\nflags : fpu sse\ncpu MHz : 2.0\n\n").unwrap();
        let error = compare_cpuinfo(native, "processor : 0\nflags : fpu\n\n").unwrap_err();
        assert!(error.to_string().contains("missing [sse]"), "{error}");
    }
}
