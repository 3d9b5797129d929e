//! Which tasks something is to happen to, and when: in order of time.

use std::collections::BTreeSet;

use crate::slot::Ticket;
use crate::sync::Instant;

/// Times of tasks. An entry whose task has ended does no harm: whoever takes it looks at the slot.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    entries: BTreeSet<(Instant, u32, Ticket)>,
}

impl Agenda {
    /// True when nothing is to happen before this.
    pub(crate) fn insert(&mut self, at: Instant, slot: u32, ticket: Ticket) -> bool {
        let is_first = self.first().is_none_or(|first| at < first);
        self.entries.insert((at, slot, ticket));
        is_first
    }

    pub(crate) fn remove(&mut self, at: Instant, slot: u32, ticket: Ticket) {
        self.entries.remove(&(at, slot, ticket));
    }

    /// When the first of them is due.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.entries.first().map(|&(at, ..)| at)
    }

    /// Takes out what is due at `now`, the earliest first.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(u32, Ticket)> {
        let mut due = Vec::new();
        while let Some(entry) = self.entries.pop_first() {
            if entry.0 > now {
                self.entries.insert(entry);
                break;
            }
            due.push((entry.1, entry.2));
        }
        due
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = (u32, Ticket)> {
        self.entries.iter().map(|&(_, slot, ticket)| (slot, ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_due_comes_out_in_order_of_time_and_once() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut agenda = Agenda::default();
        assert!(agenda.insert(at(5), 1, 10));
        assert!(agenda.insert(at(2), 2, 20));
        assert!(!agenda.insert(at(3), 3, 30));
        assert!(!agenda.insert(at(9), 4, 40));
        agenda.remove(at(3), 3, 30);
        assert_eq!(agenda.first(), Some(at(2)));
        assert_eq!(agenda.take_due(at(1)), []);
        assert_eq!(agenda.take_due(at(5)), [(2, 20), (1, 10)]);
        assert_eq!(agenda.take_due(at(5)), []);
        assert_eq!(agenda.tasks().collect::<Vec<_>>(), [(4, 40)]);
    }
}
