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
    Goal { case: "rust/roundtrip_empty", bound: Bound::Most(2.0, "ping-pong spinning") },
    Goal { case: "rust/roundtrip_empty", bound: Bound::Most(1.0 / 30.0, "procspawn") },
    Goal { case: "rust/roundtrip_parked", bound: Bound::Most(1.3, "ping-pong futex") },
    Goal { case: "rust/throughput_empty", bound: Bound::Least(1.5, "rayon") },
    Goal { case: "rust/throughput_empty", bound: Bound::Least(100.0, "procspawn") },
    Goal { case: "rust/start_to_first_result", bound: Bound::Most(0.5, "procspawn") },
    Goal { case: "rust/replace_dead_worker", bound: Bound::Most(1.0, "procspawn") },
    Goal { case: "rust/argument_64MiB", bound: Bound::Least(0.8, "memcpy") },
    Goal { case: "rust/result_64MiB", bound: Bound::Least(0.8, "memcpy") },
    Goal { case: "rust/pending_million", bound: Bound::Ceiling(320.0) },
    Goal { case: "rust/pending_million_descriptors", bound: Bound::Ceiling(0.0) },
];

/// What became of a goal.
pub(crate) struct Verdict {
    pub(crate) case: &'static str,
    pub(crate) wanted: String,
    pub(crate) reached: String,
    pub(crate) met: bool,
}

/// Every goal whose case was measured, except where a figure that it needs is missing.
pub(crate) fn verdicts(measured: &[(&Case, Vec<Entry>)]) -> Vec<Verdict> {
    let verdict = |goal: &Goal| {
        let (case, entries) = measured.iter().find(|(case, _)| case.name == goal.case)?;
        goal.verdict(case, entries)
    };
    GOALS.iter().filter_map(verdict).collect()
}

pub(crate) fn print(verdicts: &[Verdict]) {
    println!("\ngoals");
    for Verdict { case, wanted, reached, met } in verdicts {
        let met = if *met { "met" } else { "NOT MET" };
        println!("  {case:<34}{wanted:<36}{met}: {reached}");
    }
}

impl Goal {
    fn verdict(&self, case: &Case, entries: &[Entry]) -> Option<Verdict> {
        let ours = median_of(entries, "procpool")?;
        let ratio_to = |contender| Some(ours / median_of(entries, contender)?);
        let (wanted, reached, met) = match self.bound {
            Bound::Least(factor, contender) => {
                let ratio = ratio_to(contender)?;
                (format!("at least {} {contender}", times(factor)), times(ratio), ratio >= factor)
            }
            Bound::Most(factor, contender) => {
                let ratio = ratio_to(contender)?;
                (format!("at most {} {contender}", times(factor)), times(ratio), ratio <= factor)
            }
            Bound::Ceiling(value) => {
                let with_unit = |value| format!("{} {}", figure(value), case.unit);
                (format!("at most {}", with_unit(value)), with_unit(ours), ours <= value)
            }
        };
        Some(Verdict { case: case.name, wanted, reached, met })
    }
}

fn median_of(entries: &[Entry], contender: &str) -> Option<f64> {
    entries.iter().find(|entry| entry.name == contender)?.median()
}

/// A ratio as people write it: small ones as a share of the other.
fn times(ratio: f64) -> String {
    if ratio < 0.2 { format!("1/{} x", figure(1.0 / ratio)) } else { format!("{} x", figure(ratio)) }
}
