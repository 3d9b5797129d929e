//! What the supervisor says of itself, for `dump`: written down whenever it goes to sleep or wakes.

use std::collections::VecDeque;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::slot::Ticket;
use crate::sync::Instant;

/// So many times are remembered at which the number of tasks was noted: an hour, for a pool that is always at work.
const MILESTONES: usize = 3600;

/// The supervisor's record of what it does.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) is_asleep: bool,
    /// Asleep, or at work.
    pub(crate) since: Instant,
    /// When it will look again by itself.
    pub(crate) until: Option<Instant>,
    /// How many workers there should be.
    pub(crate) target: usize,
    /// Seats for which the launcher was asked.
    pub(crate) awaited: Vec<usize>,
    /// No launch before this.
    pub(crate) launches_from: Option<Instant>,
    /// Deaths that count against the restart intensity.
    pub(crate) deaths: usize,
    /// How many tasks had been accepted when.
    milestones: VecDeque<(Ticket, Instant)>,
}

impl View {
    pub(crate) fn new(target: usize) -> Self {
        Self {
            is_asleep: false,
            since: Instant::now(),
            until: None,
            target,
            awaited: Vec::new(),
            launches_from: None,
            deaths: 0,
            milestones: VecDeque::new(),
        }
    }

    /// Notes how many tasks have been accepted by now.
    pub(crate) fn note_accepted(&mut self, accepted: Ticket) {
        if self.milestones.back().is_some_and(|&(before, _)| before == accepted) {
            return;
        }
        if self.milestones.len() == MILESTONES {
            self.milestones.pop_front();
        }
        self.milestones.push_back((accepted, Instant::now()));
    }

    /// When a task was first known to have been accepted.
    pub(crate) fn known_since(&self, ticket: Ticket) -> Option<Instant> {
        let first = self.milestones.partition_point(|&(accepted, _)| accepted < ticket);
        self.milestones.get(first).map(|&(_, at)| at)
    }
}

impl Display for View {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let now = Instant::now();
        let seconds = |span: Duration| format!("{:.1} s", span.as_secs_f64());
        let passed = seconds(now.saturating_duration_since(self.since));
        match (self.is_asleep, self.until) {
            (false, _) => write!(f, "at work for {passed}")?,
            (true, None) => write!(f, "asleep for {passed}, until somebody wakes it")?,
            (true, Some(until)) if until < now => {
                write!(f, "asleep for {passed}, should be awake for {}", seconds(now - until))?;
            }
            (true, Some(until)) => write!(f, "asleep for {passed}, looks again in {}", seconds(until - now))?,
        }
        write!(f, "; wants {} workers", self.target)?;
        if !self.awaited.is_empty() {
            write!(f, "; waits for the start of those in seats {:?}", self.awaited)?;
        }
        if let Some(at) = self.launches_from.filter(|&at| at > now) {
            write!(f, "; starts none for {}", seconds(at - now))?;
        }
        if self.deaths > 0 {
            write!(f, "; {} workers died in a row without a task", self.deaths)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_task_is_known_from_the_first_milestone_that_has_it() {
        let mut view = View::new(1);
        assert_eq!(view.known_since(1), None);
        view.note_accepted(5);
        view.note_accepted(5);
        view.note_accepted(9);
        let (first, second) = (view.milestones[0].1, view.milestones[1].1);
        assert_eq!(view.milestones.len(), 2);
        assert_eq!((view.known_since(1), view.known_since(5)), (Some(first), Some(first)));
        assert_eq!((view.known_since(6), view.known_since(9)), (Some(second), Some(second)));
        assert_eq!(view.known_since(10), None);
    }
}
