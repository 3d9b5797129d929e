//! Measures a case: in every round each contender once, and each round begins with another one.

use crate::case::{Case, Failure, Repeat, Round, median};

/// What was measured of one contender.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// One figure per round.
    pub(crate) figures: Vec<f64>,
    /// Why there are no (more) figures: a contender that fails once is left out from then on.
    pub(crate) failure: Option<Failure>,
}

impl Entry {
    /// The median over the rounds; none where the contender failed.
    pub(crate) fn median(&self) -> Option<f64> {
        let complete = self.failure.is_none() && !self.figures.is_empty();
        complete.then(|| median(&self.figures))
    }

    /// The lowest and the highest figure.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let lowest = self.figures.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (lowest, highest)
    }
}

/// A contender with its setup, alive for as long as its case is measured.
struct Participant {
    entry: Entry,
    round: Option<Round>,
}

/// Measures `case` in at most `rounds` rounds. All setups are gone when this returns.
pub(crate) fn run(case: &Case, rounds: usize) -> Vec<Entry> {
    let mut participants: Vec<Participant> = case
        .contenders
        .iter()
        .map(|contender| Participant::new(contender.name, (contender.prepare)()))
        .collect();
    let rounds = match case.repeat {
        Repeat::EveryRound => {
            participants.iter_mut().for_each(Participant::warm_up);
            rounds
        }
        Repeat::AtMost(limit) => rounds.min(limit),
    };
    for round in 0..rounds {
        let first = round % participants.len();
        let (later, sooner) = participants.split_at_mut(first);
        sooner.iter_mut().chain(later).for_each(Participant::measure);
    }
    participants.into_iter().map(|participant| participant.entry).collect()
}

impl Participant {
    fn new(name: &'static str, prepared: Result<Round, Failure>) -> Self {
        let (round, failure) = match prepared {
            Ok(round) => (Some(round), None),
            Err(failure) => (None, Some(failure)),
        };
        Participant { entry: Entry { name, figures: Vec::new(), failure }, round }
    }

    fn warm_up(&mut self) {
        self.measure();
        self.entry.figures.clear();
    }

    fn measure(&mut self) {
        let Some(round) = &mut self.round else { return };
        match round() {
            Ok(figure) => self.entry.figures.push(figure),
            Err(failure) => {
                self.entry.failure = Some(failure);
                self.round = None;
            }
        }
    }
}
