//! What the project wants to reach, compared with what was measured.

use crate::case::Case;
use crate::report::figure;
use crate::rounds::Entry;

struct Goal {
    case: &'static str,
    bound: Bound,
}

/// What procpool's figure has to be.
enum Bound {
    /// At least so many times another contender's.
    Least(f64, &'static str),
    /// At most so many times another contender's.
    Most(f64, &'static str),
    /// At most this, whatever the others reach.
    Ceiling(f64),
}

const GOALS: &[Goal] = &[
    Goal { case: "rust/roundtrip_empty", bound: Bound::Most(1.0 / 30.0, "procspawn") },
    Goal { case: "rust/roundtrip_empty", bound: Bound::Most(3.0, "ping-pong spinning") },
    Goal { case: "rust/throughput_empty", bound: Bound::Least(1.0, "rayon") },
    Goal { case: "rust/throughput_empty", bound: Bound::Least(100.0, "procspawn") },
    Goal { case: "rust/start_to_first_result", bound: Bound::Most(1.0, "procspawn") },
    Goal { case: "rust/argument_64MiB", bound: Bound::Least(0.5, "memcpy") },
    Goal { case: "rust/result_64MiB", bound: Bound::Least(0.5, "memcpy") },
    Goal { case: "rust/pending_million", bound: Bound::Ceiling(320.0) },
    Goal { case: "rust/pending_million_descriptors", bound: Bound::Ceiling(0.0) },
];

/// Prints every goal whose case was measured, met or not.
pub(crate) fn print(measured: &[(&Case, Vec<Entry>)]) {
    println!("\ngoals");
    for goal in GOALS {
        let Some((case, entries)) = measured.iter().find(|(case, _)| case.name == goal.case) else {
            continue;
        };
        let wanted = format!("{} {}", goal.bound.words(), case.unit);
        let verdict = match (goal.bound.limit(entries), median_of(entries, "procpool")) {
            (Some(limit), Some(ours)) => {
                let met = if goal.bound.allows(ours, limit) { "met" } else { "NOT MET" };
                format!("{met}: {} against {}", figure(ours), figure(limit))
            }
            _ => "not measured".to_owned(),
        };
        println!("  {:<34}{wanted:<42}{verdict}", goal.case);
    }
}

fn median_of(entries: &[Entry], contender: &str) -> Option<f64> {
    entries.iter().find(|entry| entry.name == contender)?.median()
}

impl Bound {
    fn words(&self) -> String {
        match self {
            Bound::Least(factor, contender) => format!("at least {} x {contender}", figure(*factor)),
            Bound::Most(factor, contender) if *factor < 1.0 => {
                format!("at most 1/{} of {contender}", figure(1.0 / factor))
            }
            Bound::Most(factor, contender) => format!("at most {} x {contender}", figure(*factor)),
            Bound::Ceiling(value) => format!("at most {}", figure(*value)),
        }
    }

    /// The bound in the unit of the case; none where the other contender has no figure.
    fn limit(&self, entries: &[Entry]) -> Option<f64> {
        match self {
            Bound::Least(factor, contender) | Bound::Most(factor, contender) => {
                Some(factor * median_of(entries, contender)?)
            }
            Bound::Ceiling(value) => Some(*value),
        }
    }

    fn allows(&self, ours: f64, limit: f64) -> bool {
        match self {
            Bound::Least(..) => ours >= limit,
            Bound::Most(..) | Bound::Ceiling(_) => ours <= limit,
        }
    }
}
