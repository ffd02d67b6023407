//! What was reached and what was not.

use super::cost::Cost;

/// In per cent, what is not yet worse.
const TOLERANCE: u64 = 2;

/// A sentence for each wanted value that `baseline` has reached and `costs`, of
/// the same operation on the same machine, have not.
pub fn lost(costs: &[Cost], baseline: &[Cost]) -> Vec<String> {
    let sentence = |cost: &Cost, was: &Cost| {
        let row = cost.row()?;
        let lost = row.is_reached(was) && !row.is_reached(cost);
        lost.then(|| {
            let [is, was] = [cost, was].map(|cost| row.shown(row.figure(cost)));
            let most = row.shown(row.wanted.unwrap_or(0));
            let (name, machine) = (row.name, &cost.machine);
            format!("lost: {name} on {machine} is {is}, wanted is at most {most}, and it was {was}")
        })
    };
    compared(costs, baseline, sentence)
}

/// A sentence for each operation that costs notably more than in `baseline`.
pub fn worse(costs: &[Cost], baseline: &[Cost]) -> Vec<String> {
    let sentence = |cost: &Cost, was: &Cost| {
        let row = cost.row()?;
        let [is, was] = [cost, was].map(|cost| row.figure(cost));
        let worse = is * 100 > was * (100 + TOLERANCE);
        worse.then(|| {
            let [is, was] = [is, was].map(|figure| row.shown(figure));
            format!(
                "worse: {} on {}, {is} instead of {was}",
                row.name, cost.machine
            )
        })
    };
    compared(costs, baseline, sentence)
}

/// What `sentence` has to say of each of `costs` and what it was before.
fn compared(
    costs: &[Cost],
    baseline: &[Cost],
    sentence: impl Fn(&Cost, &Cost) -> Option<String>,
) -> Vec<String> {
    let pairs = costs.iter().filter_map(|cost| {
        let was = baseline.iter().find(|was| was.is_of(cost))?;
        Some((cost, was))
    });
    pairs
        .filter_map(|(cost, was)| sentence(cost, was))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(machine: &str, operation: &str, median: u64) -> Cost {
        Cost {
            machine: machine.to_owned(),
            operation: operation.to_owned(),
            min: median,
            median,
            native: Some(1_000_000),
            unit: "ticks".to_owned(),
        }
    }

    fn cost(operation: &str, median: u64) -> Cost {
        on("vtx", operation, median)
    }

    #[test]
    fn a_wanted_value_that_was_reached_may_not_be_lost() {
        let baseline = [
            cost("ping", 90),
            cost("cpuid", 111),
            cost("copy8", 5),
            cost("boot", 1_002_000),
            on("svm", "ping", 91),
        ];
        let lost = |cost: Cost| lost(&[cost], &baseline);
        let ping = "lost: ping on vtx is 91, wanted is at most 90, and it was 90";
        assert_eq!(lost(cost("ping", 91)), [ping]);
        let boot = "lost: boot on vtx is 1.0031 × native, \
                    wanted is at most 1.0030 × native, and it was 1.0020 × native";
        assert_eq!(lost(cost("boot", 1_003_100)), [boot]);
        let kept = [
            cost("ping", 90),
            cost("cpuid", 500),
            cost("copy8", 500),
            cost("boot", 1_003_000),
            on("svm", "ping", 500),
            on("svm", "cpuid", 500),
        ];
        for cost in kept {
            assert!(lost(cost.clone()).is_empty(), "{cost:?}");
        }
    }

    #[test]
    fn two_per_cent_are_not_worse() {
        let baseline = [cost("ping", 100), cost("boot", 1_000_000)];
        let worse = |name, median| worse(&[cost(name, median)], &baseline);
        assert!(worse("ping", 102).is_empty());
        assert!(worse("copy8", 102).is_empty());
        assert!(worse("boot", 1_020_000).is_empty());
        assert_eq!(
            worse("ping", 103),
            ["worse: ping on vtx, 103 instead of 100"]
        );
        assert_eq!(worse("boot", 1_020_001).len(), 1);
    }
}
