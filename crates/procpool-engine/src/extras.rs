//! What only some tasks have: an argument in a block, limits, attempts behind them. The parent's own.

use std::collections::HashMap;
use std::time::Duration;

use crate::agenda::Agenda;
use crate::block::Block;
use crate::outcome::Death;
use crate::queue::Entry;
use crate::slot::Ticket;
use crate::submit::{Copy, Limits};
use crate::sync::Instant;

/// The deaths that are remembered of one task, which may be tried without end.
const REMEMBERED: usize = 1000;

/// What only tasks with an argument in a block, a time limit or retries have.
#[derive(Debug)]
pub(crate) struct Extra {
    pub(crate) ticket: Ticket,
    /// The argument's block: the parent's until the outcome is taken.
    pub(crate) argument: Option<Block>,
    pub(crate) limits: Limits,
    /// The payload as it was, for another attempt.
    pub(crate) copy: Option<Copy>,
    pub(crate) attempts: Attempts,
}

/// The attempts at a task that failed.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    pub(crate) failed: u32,
    /// How the workers of these ended, but for those that the pool killed itself; the oldest first.
    pub(crate) deaths: Vec<Death>,
    /// How long the last one ran.
    pub(crate) ran: Option<Duration>,
    /// The task is off the queue until then.
    pub(crate) resumes: Option<Instant>,
}

impl Attempts {
    /// Notes one more that failed: for its worker's death, or without one for its time.
    pub(crate) fn note(&mut self, death: Option<Death>, ran: Option<Duration>) {
        self.failed += 1;
        self.ran = ran;
        if self.deaths.len() == REMEMBERED {
            self.deaths.remove(0);
        }
        self.deaths.extend(death);
    }
}

impl Extra {
    pub(crate) fn new(ticket: Ticket, argument: Option<Block>, limits: Limits, copy: Option<Copy>) -> Self {
        Self { ticket, argument, limits, copy, attempts: Attempts::default() }
    }

    pub(crate) fn retries_left(&self) -> u32 {
        self.limits.retries.saturating_sub(self.attempts.failed)
    }

    /// When its deadline is; `None` also for one beyond what the clock can say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.limits.deadline.and_then(|deadline| deadline.at())
    }
}

/// All extras, by slot, and what is to happen to their tasks.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    by_slot: HashMap<u32, Extra>,
    pub(crate) deadlines: Agenda,
    /// Tasks off the queue until their next attempt.
    pub(crate) waiting: Agenda,
}

impl Extras {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    pub(crate) fn get(&self, slot: u32, ticket: Ticket) -> Option<&Extra> {
        self.by_slot.get(&slot).filter(|extra| extra.ticket == ticket)
    }

    pub(crate) fn get_mut(&mut self, slot: u32, ticket: Ticket) -> Option<&mut Extra> {
        self.by_slot.get_mut(&slot).filter(|extra| extra.ticket == ticket)
    }

    /// That of the task which a queue's entry is about.
    pub(crate) fn named(&self, entry: Entry) -> Option<&Extra> {
        self.by_slot.get(&entry.slot).filter(|extra| extra.ticket as u32 == entry.tag)
    }

    /// True where the task has a deadline that comes before all others.
    pub(crate) fn insert(&mut self, slot: u32, extra: Extra) -> bool {
        let (ticket, deadline) = (extra.ticket, extra.deadline());
        self.by_slot.insert(slot, extra);
        deadline.is_some_and(|at| self.deadlines.insert(at, slot, ticket))
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Extra> {
        let extra = self.by_slot.remove(&slot)?;
        if let Some(at) = extra.deadline() {
            self.deadlines.remove(at, slot, extra.ticket);
        }
        if let Some(at) = extra.attempts.resumes {
            self.waiting.remove(at, slot, extra.ticket);
        }
        Some(extra)
    }

    /// Keeps the task off the queue until `at`.
    pub(crate) fn postpone(&mut self, slot: u32, ticket: Ticket, at: Instant) {
        let Some(extra) = self.get_mut(slot, ticket) else { return };
        if let Some(before) = extra.attempts.resumes.replace(at) {
            self.waiting.remove(before, slot, ticket);
        }
        self.waiting.insert(at, slot, ticket);
    }

    /// The tasks whose next attempt is due.
    pub(crate) fn take_resuming(&mut self, now: Instant) -> Vec<(u32, Ticket)> {
        let due = self.waiting.take_due(now);
        for &(slot, ticket) in &due {
            if let Some(extra) = self.get_mut(slot, ticket) {
                extra.attempts.resumes = None;
            }
        }
        due
    }

    pub(crate) fn is_waiting(&self, slot: u32, ticket: Ticket) -> bool {
        self.get(slot, ticket).is_some_and(|extra| extra.attempts.resumes.is_some())
    }
}
