//! What is wanted: a median by operation, on either machine.

use super::cost::Cost;

const WANTED: [(&str, u64); 8] = [
    ("cpuid", 110),
    ("ping", 90),
    ("rdmsr", 150),
    ("port_out", 200),
    ("mmio_write", 900),
    ("resolve6", 700),
    ("read4k", 1500),
    ("memory", 6 << 20),
];

/// What is wanted of `cost`'s operation.
pub fn of(cost: &Cost) -> Option<u64> {
    let row = WANTED.iter().find(|(name, _)| *name == cost.operation);
    row.map(|(_, median)| *median)
}

/// Whether there is something wanted and it is reached.
pub fn is_reached(cost: &Cost) -> bool {
    of(cost).is_some_and(|wanted| cost.median <= wanted)
}

/// A sentence for each wanted value that `baseline` has reached and `costs` have
/// not, or do not know.
pub fn lost(costs: &[Cost], baseline: &[Cost]) -> Vec<String> {
    let machine = costs.first().map(|cost| &cost.machine);
    let reached = baseline.iter().filter(|was| is_reached(was));
    let here = reached.filter(|was| Some(&was.machine) == machine);
    here.filter_map(|was| {
        let cost = costs.iter().find(|cost| cost.is_of(was));
        match cost {
            None => Some(format!("{} was not measured", was.operation)),
            Some(cost) if is_reached(cost) => None,
            Some(cost) => Some(format!(
                "{} costs {} {}, wanted are at most {}; it was {}",
                cost.operation,
                cost.median,
                cost.unit,
                of(cost).unwrap_or(0),
                was.median
            )),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(operation: &str, median: u64) -> Cost {
        Cost {
            machine: "vtx".to_owned(),
            operation: operation.to_owned(),
            min: 0,
            median,
            native: None,
            unit: "ticks".to_owned(),
        }
    }

    #[test]
    fn a_wanted_value_that_was_reached_may_not_be_lost() {
        let baseline = [cost("ping", 90), cost("cpuid", 111), cost("copy8", 5)];
        let lost_of = |costs: &[Cost]| lost(costs, &baseline).len();
        assert_eq!(lost_of(&[cost("ping", 90), cost("cpuid", 500)]), 0);
        assert_eq!(lost_of(&[cost("ping", 91)]), 1);
        assert_eq!(lost_of(&[cost("cpuid", 1)]), 1);
    }
}
