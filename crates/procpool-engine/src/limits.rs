//! Limits of running tasks: how long, and with how much memory.
//!
//! A task over its limit is doomed by a change of its own slot, and only then is its worker killed (*I3*): one that
//! ends at that very moment has ended, and nobody is harmed. Time counts from the claim, which the worker writes down
//! and, for tasks that have a limit, tells the supervisor.

use std::time::{Duration, Instant};

use crate::layout::Seat;
use crate::os::{clock, process};
use crate::outcome::Failure;
use crate::slot::Ticket;
use crate::supervisor::Supervisor;
use crate::sync::lock;

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
                self.shared.doom(task.slot, task.ticket, Failure::TimedOut { ran: task.ran });
            }
        }
        self.measure_memory(now);
        let requests = std::mem::take(&mut *lock(&self.shared.requests));
        self.obey(requests);
        for member in self.members_mut().filter(|member| member.kill_at.is_some_and(|at| at <= now)) {
            member.kill();
        }
    }

    /// When the first running task reaches its time limit.
    pub(crate) fn next_time_limit(&self) -> Option<Instant> {
        let left = self.timed_tasks().into_iter().map(|task| task.timeout.saturating_sub(task.ran)).min()?;
        Instant::now().checked_add(left)
    }

    /// The running tasks that have a time limit, and how long they have run.
    fn timed_tasks(&self) -> Vec<TimedTask> {
        let extras = lock(&self.shared.extras);
        if extras.is_empty() {
            return Vec::new();
        }
        let timed = self.members().filter_map(|(seat, _)| {
            let words = self.shared.region.seat(seat)?;
            let entry = words.current()?;
            let extra = extras.get(&entry.slot).filter(|extra| extra.ticket as u32 == entry.tag)?;
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
                self.shared.doom(entry.slot, ticket, Failure::MemoryLimit { seen, limit });
            }
        }
        // A worker that begins a task while nobody measures is found by the watch, at the latest.
        self.next_measure = (running || self.next_watch.is_some()).then(|| now + MEASURE);
    }
}
