//! Costs for people.

use std::fmt::Write;

use super::cost::Cost;
use super::operation::{Kind, Operation};

/// A row for each cost.
pub fn text(costs: &[Cost], baseline: &[Cost]) -> String {
    let mut text = format!(
        "{:<8}{:<13}{:>12}{:>12}{:>12}{:>12}{:>12}  unit\n",
        "machine", "operation", "least", "median", "native", "before", "wanted"
    );
    let shown = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    for cost in costs {
        let before = baseline.iter().find(|was| was.is_of(cost));
        let row = cost.row();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<8}{:<13}{:>12}{:>12}{:>12}{:>12}{:>12}  {}{}",
            cost.machine,
            cost.operation,
            cost.min,
            cost.median,
            shown(cost.native),
            shown(before.map(|was| was.median)),
            shown(row.and_then(|row| row.most(cost))),
            cost.unit,
            row.map_or(String::new(), |row| remarks(row, cost)),
        );
    }
    text
}

fn remarks(row: &Operation, cost: &Cost) -> String {
    let figure = match row.kind {
        Kind::Boot => format!(", {}", row.shown(row.figure(cost))),
        _ => String::new(),
    };
    let is_missed = row.wanted.is_some() && !row.is_reached(cost);
    figure + if is_missed { ", not reached" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(operation: &str, median: u64) -> String {
        let cost = Cost {
            machine: "svm".to_owned(),
            operation: operation.to_owned(),
            min: median,
            median,
            native: Some(2_000_000),
            unit: "ticks".to_owned(),
        };
        text(&[cost], &[])
    }

    #[test]
    fn what_is_not_reached_is_said() {
        assert!(text_of("ping", 91).contains("not reached"));
        assert!(!text_of("ping", 90).contains("not reached"));
        assert!(!text_of("copy8", 9000).contains("not reached"));
    }

    #[test]
    fn a_boot_may_cost_so_much_more_than_natively() {
        let text = text_of("boot", 2_003_000);
        assert!(
            text.contains(" 2006000  ticks, 1.0015 × native\n"),
            "{text}"
        );
    }
}
