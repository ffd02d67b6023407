//! The tables in bench/README.md, each between two comments. The rest of the page
//! is written by people.

use std::fmt::Write;

use anyhow::{Context, Result};

use crate::bench::cost::Cost;
use crate::bench::loads::{self, ALL, LOADS, Rate};
use crate::bench::operation::{OPERATIONS, OTHERS, Operation};
use crate::machine::Machine;

/// Behind each table.
const END: &str = "<!-- end -->";

/// `page` with its tables made again.
pub fn page(page: &str, costs: &[Cost], rates: &[Rate]) -> Result<String> {
    let tables = [
        ("operations", operations()),
        ("costs-vtx", compared(Machine::Vtx, costs)),
        ("costs-svm", compared(Machine::Svm, costs)),
        ("loads", working(rates)),
    ];
    let mut page = page.to_owned();
    for (name, table) in tables {
        page = replaced(&page, name, &table)
            .with_context(|| format!("bench/README.md has no place for the table `{name}`"))?;
    }
    Ok(page)
}

fn replaced(page: &str, name: &str, table: &str) -> Option<String> {
    let begin = format!("<!-- {name}: made by cargo xtask generate -->\n");
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}{table}{END}{after}"))
}

fn operations() -> String {
    let mut table = String::from("| operation | ring | what is done |\n|---|---|---|\n");
    for Operation {
        name,
        ring,
        sentence,
        ..
    } in OPERATIONS
    {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{name}` | {ring} | {sentence} |");
    }
    table
}

fn compared(machine: Machine, costs: &[Cost]) -> String {
    let others = OTHERS.join(" | ");
    let mut table = format!("| operation | {others} | wanted | Underlay | | natively |\n|---");
    table += &"|---:".repeat(OTHERS.len() + 2);
    table += "|---|---:|\n";
    for row in OPERATIONS {
        let shown =
            |figure: Option<u64>| figure.map_or("–".to_owned(), |figure| row.shown(figure));
        let cost = costs
            .iter()
            .find(|cost| cost.operation == row.name && cost.machine == machine.name());
        let others: Vec<String> = row.elsewhere(machine).into_iter().map(shown).collect();
        let native = cost.and_then(|cost| cost.native);
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} | {} | {} |",
            row.name,
            others.join(" | "),
            shown(row.wanted),
            shown(cost.map(|cost| row.figure(cost))),
            verdict(&row, cost),
            native.map_or("–".to_owned(), |native| format!("{native}")),
        );
    }
    table
}

/// Whether what is wanted is reached, if anything is wanted.
fn verdict(row: &Operation, cost: Option<&Cost>) -> &'static str {
    match (row.wanted, cost) {
        (None, _) => "",
        (_, None) => "not measured",
        (_, Some(cost)) if row.is_reached(cost) => "reached",
        _ => "**not reached**",
    }
}

fn working(rates: &[Rate]) -> String {
    let mut table = String::from("| machine, reason |");
    for load in LOADS {
        let _ = write!(table, " {} |", load.name);
    }
    table += "\n|---";
    table += &"|---:".repeat(LOADS.len());
    table += "|\n| |";
    for load in LOADS {
        let _ = write!(table, " {} |", load.sentence);
    }
    table.push('\n');
    for machine in [Machine::Vtx.name(), Machine::Svm.name()] {
        for reason in loads::reasons(rates, machine) {
            let fields = LOADS.iter();
            let fields = fields.map(|load| loads::per_second(rates, machine, load.name, reason));
            let fields: Vec<String> = fields.map(|field| format!("{field:.1}")).collect();
            let reason = if reason == ALL { "all" } else { reason };
            let _ = writeln!(table, "| {machine}, {reason} | {} |", fields.join(" | "));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_between_the_comments_changes() {
        let page = "before\n<!-- a: made by cargo xtask generate -->\nold\n<!-- end -->\nbehind\n";
        let made = replaced(page, "a", "new\n").unwrap();
        assert_eq!(made, page.replace("old", "new"));
        assert_eq!(replaced(&made, "a", "new\n").unwrap(), made);
        assert!(replaced(page, "b", "new\n").is_none());
    }

    #[test]
    fn what_is_not_reached_is_said() {
        let cost = |median| Cost {
            machine: "vtx".to_owned(),
            operation: "ping".to_owned(),
            min: median,
            median,
            native: None,
            unit: "ticks".to_owned(),
        };
        let row = |median| {
            let table = compared(Machine::Vtx, &[cost(median)]);
            table
                .lines()
                .find(|line| line.contains("ping"))
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            row(90),
            "| `ping` | 42 | 364 | 815 | 1,092 | 90 | 90 | reached | – |"
        );
        assert!(row(91).contains("| 91 | **not reached** |"));
        assert!(compared(Machine::Svm, &[cost(1)]).contains("| 90 | – | not measured |"));
    }
}
