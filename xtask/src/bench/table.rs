//! Costs for people.

use std::fmt::Write;

use super::cost::Cost;
use super::wanted;

/// In per cent, what is not yet worse.
const TOLERANCE: u64 = 2;

/// A row for each cost.
pub fn text(costs: &[Cost], baseline: &[Cost]) -> String {
    let mut text = format!(
        "{:<8}{:<14}{:>10}{:>10}{:>10}{:>10}{:>10}  unit\n",
        "machine", "operation", "least", "median", "native", "before", "wanted"
    );
    let shown = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    for cost in costs {
        let before = baseline.iter().find(|was| was.is_of(cost));
        let word = match wanted::of(cost) {
            Some(_) if !wanted::is_reached(cost) => ", not reached",
            _ => "",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<8}{:<14}{:>10}{:>10}{:>10}{:>10}{:>10}  {}{word}",
            cost.machine,
            cost.operation,
            cost.min,
            cost.median,
            shown(cost.native),
            shown(before.map(|was| was.median)),
            shown(wanted::of(cost)),
            cost.unit,
        );
    }
    text
}

/// A line for each operation that costs more than in `baseline`.
pub fn worse(costs: &[Cost], baseline: &[Cost]) -> String {
    let mut text = String::new();
    for was in baseline {
        let cost = costs.iter().find(|cost| cost.is_of(was));
        if let Some(cost) = cost
            && cost.median * 100 > was.median * (100 + TOLERANCE)
        {
            let _ = writeln!(
                text,
                "worse: {} on {}, {} instead of {} {}",
                cost.operation, cost.machine, cost.median, was.median, cost.unit
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(median: u64) -> [Cost; 1] {
        [Cost {
            machine: "svm".to_owned(),
            operation: "ping".to_owned(),
            min: 1,
            median,
            native: None,
            unit: "ticks".to_owned(),
        }]
    }

    #[test]
    fn two_per_cent_are_not_worse() {
        assert_eq!(worse(&cost(102), &cost(100)), "");
        assert_eq!(worse(&cost(50), &[]), "");
        assert!(worse(&cost(103), &cost(100)).contains("ping on svm, 103 instead of 100"));
    }

    #[test]
    fn what_is_not_reached_is_said() {
        assert!(text(&cost(91), &[]).contains("not reached"));
        assert!(!text(&cost(90), &[]).contains("not reached"));
    }
}
