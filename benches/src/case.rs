//! What is measured: a case, and the contenders that are compared in it.

use std::error::Error;
use std::time::{Duration, Instant};

/// Why something could not be measured.
pub(crate) type Failure = Box<dyn Error>;

/// Measures once and returns the figure, in the unit of its case.
pub(crate) type Round = Box<dyn FnMut() -> Result<f64, Failure>>;

/// One comparison.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) higher_is_better: bool,
    pub(crate) repeat: Repeat,
    pub(crate) contenders: &'static [Contender],
    /// What a reader of the figures has to know to read them right.
    pub(crate) note: &'static str,
}

/// How often a case is measured.
#[derive(Clone, Copy)]
pub(crate) enum Repeat {
    /// As many rounds as the run has, after one that is not counted.
    EveryRound,
    /// So many rounds at most, and none before them: a figure that hardly varies, measured in processes of its own.
    AtMost(usize),
}

/// One who takes part in a case.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Sets up what is not to be measured (pools, buffers) once for all rounds.
    pub(crate) prepare: fn() -> Result<Round, Failure>,
}

/// How long a contender is measured in one round, where that is not a matter of one long step. By time and not by
/// number, so that a slow machine takes fewer steps and not longer.
pub(crate) const SPELL: Duration = Duration::from_millis(100);

/// Calls made between two looks at the clock.
const CALLS_BETWEEN_LOOKS: u32 = 100;

/// The mean time of a call in microseconds, over calls made one after the other for a spell.
pub(crate) fn mean_microseconds(mut call: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut calls = 0;
    let started = Instant::now();
    loop {
        for _ in 0..CALLS_BETWEEN_LOOKS {
            call()?;
        }
        calls += CALLS_BETWEEN_LOOKS;
        let elapsed = started.elapsed();
        if elapsed >= SPELL {
            return Ok(microseconds(elapsed) / f64::from(calls));
        }
    }
}

pub(crate) fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The middle of `figures`, or the mean of the two in the middle. There must be at least one.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}
