//! Limits of tasks: how long they run, until when they have ended, and with how much memory.
//!
//! A task over its limit is doomed by a change of its own slot, and only then is its worker killed (*I3*): one that
//! ends at that very moment has ended, and nobody is harmed. A time-out counts from the claim, which the worker writes
//! down and, for tasks that have one, tells the supervisor; a deadline from the submission, so it is known beforehand.

use std::time::Duration;

use crate::faults::{Point, point};
use crate::layout::Seat;
use crate::os::{clock, process};
use crate::outcome::{Failure, TimeLimit};
use crate::queue::Entry;
use crate::shared::Shared;
use crate::slot::{State, Ticket};
use crate::supervisor::Supervisor;
use crate::sync::{Instant, Ordering, lock};

/// Where memory is limited hard, running workers are measured this often.
const MEASURE: Duration = Duration::from_millis(20);

/// A running task that has a time limit.
struct TimedTask {
    slot: u32,
    ticket: Ticket,
    timeout: Duration,
    ran: Duration,
}

impl Supervisor {
    /// Kills workers whose task has reached a limit, and those that were told to end and did not in time.
    pub(crate) fn enforce_limits(&mut self) {
        let now = Instant::now();
        for task in self.timed_tasks() {
            if task.ran >= task.timeout {
                point(Point::Overran);
                let limit = TimeLimit::Timeout(task.timeout);
                self.shared.doom(task.slot, task.ticket, Failure::TimedOut { ran: Some(task.ran), limit });
            }
        }
        self.shared.enforce_deadlines(now);
        self.measure_memory(now);
        let requests = std::mem::take(&mut *lock(&self.shared.requests));
        self.obey(requests);
        for member in self.members_mut().filter(|member| member.kill_at.is_some_and(|at| at <= now)) {
            member.kill();
        }
    }

    /// When a task reaches its deadline, or has waited long enough for its next attempt.
    pub(crate) fn next_of_tasks(&self) -> Option<Instant> {
        let extras = lock(&self.shared.extras);
        [extras.deadlines.first(), extras.waiting.first()].into_iter().flatten().min()
    }

    /// When the first running task reaches its time limit.
    pub(crate) fn next_time_limit(&self) -> Option<Instant> {
        let left = self.timed_tasks().into_iter().map(|task| task.timeout.saturating_sub(task.ran)).min()?;
        Instant::now().checked_add(left)
    }

    /// The running tasks that have a time limit, and how long they have run. Not those that are doomed: until their
    /// worker is dead there is nothing to do about them, and their time is over, so nobody would sleep until then.
    fn timed_tasks(&self) -> Vec<TimedTask> {
        let extras = lock(&self.shared.extras);
        if extras.is_empty() {
            return Vec::new();
        }
        let timed = self.members().filter_map(|(seat, _)| {
            let words = self.shared.region.seat(seat)?;
            let entry = words.current()?;
            let extra =
                extras.named(entry).filter(|extra| self.shared.is_claimed(entry.slot, extra.ticket))?;
            let (timeout, ran) = (extra.limits.timeout?, clock::since(words.began()?));
            Some(TimedTask { slot: entry.slot, ticket: extra.ticket, timeout, ran })
        });
        timed.collect()
    }

    fn measure_memory(&mut self, now: Instant) {
        let Some(limit) = self.shared.config.memory_hard else { return };
        if self.next_measure.is_some_and(|at| now < at) {
            return;
        }
        let mut running = false;
        for (seat, member) in self.members() {
            // Without a beginning it has not claimed what it names: that task may be another worker's.
            let words = self.shared.region.seat(seat).filter(|words| words.began().is_some());
            let Some(entry) = words.and_then(Seat::current) else { continue };
            running = true;
            let Some(seen) = process::resident_bytes(member.pid).filter(|&seen| seen > limit) else {
                continue;
            };
            let ticket = lock(&self.shared.books).tickets.get(entry.slot as usize).copied();
            if let Some(ticket) = ticket.filter(|&ticket| ticket as u32 == entry.tag) {
                let peak = process::peak_bytes(member.pid).unwrap_or(seen).max(seen);
                self.shared.doom(entry.slot, ticket, Failure::MemoryLimit { seen, peak, limit });
            }
        }
        // Tasks that are not finished may begin at any moment, and a worker takes a gigabyte in a second.
        let is_watched = self.shared.watched.load(Ordering::Acquire);
        self.next_measure = (running || is_watched).then(|| now + MEASURE);
    }
}

impl Shared {
    /// Ends every task whose deadline has come.
    pub(crate) fn enforce_deadlines(&self, now: Instant) {
        if lock(&self.extras).deadlines.first().is_none_or(|at| now < at) {
            return;
        }
        let due = {
            // A task has its deadline before it is ready, under this lock: without it, one might be missed between the
            // two.
            let _books = lock(&self.books);
            lock(&self.extras).deadlines.take_due(now)
        };
        due.into_iter().for_each(|(slot, ticket)| {
            point(Point::Due);
            self.end_at_deadline(slot, ticket);
        });
    }

    fn is_claimed(&self, slot: u32, ticket: Ticket) -> bool {
        let word = self.region.slot(slot).map(|slot| slot.word.read());
        word.is_some_and(|word| word.is_for(ticket) && word.state() == Some(State::Claimed))
    }

    fn end_at_deadline(&self, slot: u32, ticket: Ticket) {
        let known = lock(&self.extras).get(slot, ticket).and_then(|extra| {
            let limit = TimeLimit::Deadline(extra.limits.deadline?.span);
            Some((limit, extra.attempts.ran))
        });
        let Some((limit, ran)) = known else { return };
        if !self.cancel(slot, ticket, Failure::TimedOut { ran, limit }) {
            let ran = Some(self.ran(slot, ticket).unwrap_or_default());
            self.doom(slot, ticket, Failure::TimedOut { ran, limit });
        }
    }

    /// How long the worker that has the task has run it; `None` where it has only just begun.
    pub(crate) fn ran(&self, slot: u32, ticket: Ticket) -> Option<Duration> {
        let holder = self.region.slot(slot)?.word.read().seat();
        let words = self.region.seat(holder)?;
        let is_named = words.current() == Some(Entry::new(slot, ticket));
        words.began().filter(|_| is_named).map(clock::since)
    }
}
