//! Further attempts at a task whose worker died, or was killed for its time.
//!
//! Between two attempts the task may have to wait. Then it is `Ready` and has no entry in the queue: nobody runs it, it
//! holds no worker, and it is cancelled and terminated like any other task that is ready. When its time has come the
//! supervisor makes the entry. Should a worker find an old entry of the task, because the dead one had no time to help
//! the queue's head past it, the attempt begins early, and the new entry is the stale one.

use std::time::Duration;

use crate::faults::{Point, point};
use crate::outcome::{Death, Failure};
use crate::policy;
use crate::queue::Entry;
use crate::region::Phase;
use crate::shared::Shared;
use crate::slot::{State, Ticket};
use crate::sync::{Instant, lock};

impl Shared {
    /// Supervisor: gives a lost task another attempt, now or later; false where it has none left. `ran` is how long it
    /// ran this time.
    pub(crate) fn try_again(
        &self,
        (slot, ticket): (u32, Ticket),
        failure: &Failure,
        ran: Option<Duration>,
    ) -> bool {
        let stopped = self.phase() == Phase::Stopped;
        let mut extras = lock(&self.extras);
        let Some(extra) = extras.get_mut(slot, ticket) else { return false };
        if stopped || !policy::tries_again(failure, extra.retries_left()) {
            return false;
        }
        let death = match failure {
            Failure::Died { last, .. } => Some(last.clone()),
            _ => None,
        };
        extra.attempts.note(death, ran);
        let pause = policy::pause_before_attempt(extra.attempts.failed);
        drop(extras);
        self.enqueue_again(slot, ticket, pause)
    }

    /// Makes a lost task ready, and puts it on the queue after `pause`; false where that cannot be.
    fn enqueue_again(&self, slot: u32, ticket: Ticket, pause: Duration) -> bool {
        let mut books = lock(&self.books);
        let mut extras = lock(&self.extras);
        let Some(shared) = self.region.slot(slot) else { return false };
        let Some(extra) = extras.get(slot, ticket) else { return false };
        let Some(copy) = &extra.copy else { return false };
        // Somebody may have ended it for good, since its worker died.
        let mut endings = lock(&self.endings);
        if endings.get(&ticket).is_some_and(policy::is_final) {
            return false;
        }
        endings.remove(&ticket);
        copy.write(shared, extra.limits);
        if let Some(at) = Instant::now().checked_add(pause).filter(|_| !pause.is_zero()) {
            extras.postpone(slot, ticket, at);
            shared.word.publish(ticket);
            point(Point::Postponed);
            return true;
        }
        shared.word.publish(ticket);
        point(Point::ReadyAgain);
        self.region.queue().push(&mut books.tail, Entry::new(slot, ticket)).is_ok()
    }

    /// Supervisor: puts tasks on the queue that have waited long enough.
    pub(crate) fn resume_waiting(&self, now: Instant) {
        if lock(&self.extras).waiting.first().is_none_or(|at| now < at) {
            return;
        }
        let mut books = lock(&self.books);
        let due = lock(&self.extras).take_resuming(now);
        for &(slot, ticket) in due.iter().filter(|&&(slot, ticket)| self.is_ready(slot, ticket)) {
            point(Point::Resumes);
            // A full queue is looked at again by the audit.
            let _ = self.region.queue().push(&mut books.tail, Entry::new(slot, ticket));
            point(Point::Resumed);
        }
        drop(books);
        self.wake_for_push();
    }

    /// How many tasks are off the queue until their next attempt.
    pub(crate) fn waiting(&self) -> usize {
        let waiting: Vec<(u32, Ticket)> = lock(&self.extras).waiting.tasks().collect();
        waiting.into_iter().filter(|&(slot, ticket)| self.is_ready(slot, ticket)).count()
    }

    pub(crate) fn is_ready(&self, slot: u32, ticket: Ticket) -> bool {
        let word = self.region.slot(slot).map(|slot| slot.word.read());
        word.is_some_and(|word| word.is_for(ticket) && word.state() == Some(State::Ready))
    }

    /// All deaths that a task has caused before this one, for its last error.
    pub(crate) fn with_earlier_deaths(&self, slot: u32, ticket: Ticket, failure: Failure) -> Failure {
        match failure {
            Failure::Died { last, .. } => {
                let mut extras = lock(&self.extras);
                let extra = extras.get_mut(slot, ticket);
                let earlier: Vec<Death> =
                    extra.map(|extra| std::mem::take(&mut extra.attempts.deaths)).unwrap_or_default();
                Failure::Died { last, earlier }
            }
            other => other,
        }
    }
}
