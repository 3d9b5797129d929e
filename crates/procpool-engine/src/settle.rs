//! How the parent ends tasks: cancelled, doomed, lost with their worker, or all of them at the end of the pool.

use crate::arena::Owner;
use crate::faults::{Point, point};
use crate::layout::Seat;
use crate::outcome::{Death, Failure};
use crate::payload::{self, Place};
use crate::policy;
use crate::queue::Entry;
use crate::shared::{Counters, Shared};
use crate::slot::{State, Ticket};
use crate::sync::{Ordering, lock};

impl Shared {
    /// `Ready` → `Cancelled`; false if the task was not queued any more.
    pub(crate) fn cancel(&self, slot: u32, ticket: Ticket, failure: Failure) -> bool {
        let Some(shared) = self.region.slot(slot) else { return false };
        let mut endings = lock(&self.endings);
        let cancelled = shared.word.cancel(ticket);
        if cancelled {
            endings.insert(ticket, failure);
        }
        drop(endings);
        if cancelled {
            point(Point::Cancelled);
            Counters::add(&self.counters.failed, 1);
            self.announce(slot);
        }
        cancelled
    }

    /// Cancels a task that is queued or running, or about to be tried again; false if it has ended, or is ending for good.
    pub(crate) fn cancel_anyway(&self, slot: u32, ticket: Ticket) -> bool {
        let failure = Failure::Cancelled;
        // Between two looks it may go from one to the next.
        while self.may_go_on(slot, ticket) {
            if self.cancel(slot, ticket, failure.clone())
                || self.doom(slot, ticket, failure.clone()).is_some()
            {
                return true;
            }
        }
        false
    }

    /// Whether the task has not ended, and is not doomed for a reason after which it is not tried again. Nor does one go
    /// on that was written over (*I4*).
    fn may_go_on(&self, slot: u32, ticket: Ticket) -> bool {
        let Some(shared) = self.region.slot(slot) else { return false };
        let endings = lock(&self.endings);
        let seen = shared.word.read();
        seen.is_for(ticket)
            && match seen.state() {
                Some(State::Ready | State::Claimed) => true,
                Some(State::Doomed) => !endings.get(&ticket).is_some_and(policy::is_final),
                _ => false,
            }
    }

    /// `Claimed` → `Doomed`, and asks for the worker's death (*I3*). Gives the worker's seat; `None` if the task was
    /// not running, in which case nobody is harmed.
    pub(crate) fn doom(&self, slot: u32, ticket: Ticket, failure: Failure) -> Option<u32> {
        let seat = self
            .mark_doomed(slot, ticket, failure.clone())
            .or_else(|| self.overrule(slot, ticket, failure))?;
        point(Point::Doomed);
        self.request(|requests| requests.kills.push((slot, ticket)));
        Some(seat)
    }

    fn mark_doomed(&self, slot: u32, ticket: Ticket, failure: Failure) -> Option<u32> {
        let mut endings = lock(&self.endings);
        let seat = self.region.slot(slot)?.word.doom(ticket)?;
        endings.insert(ticket, failure);
        Some(seat)
    }

    /// A task that is doomed, or whose worker died, may be tried again: not if this `failure` is final, which comes before
    /// that is decided.
    fn overrule(&self, slot: u32, ticket: Ticket, failure: Failure) -> Option<u32> {
        let mut endings = lock(&self.endings);
        let seat = self.doomed_seat(slot, ticket)?;
        if !policy::is_final(&failure) || endings.get(&ticket).is_some_and(policy::is_final) {
            return None;
        }
        endings.insert(ticket, failure);
        Some(seat)
    }

    /// The worker that is to be killed for a task's sake; `None` once it is dead and settled, so that its successor
    /// in the seat is left alone.
    pub(crate) fn doomed_seat(&self, slot: u32, ticket: Ticket) -> Option<u32> {
        let seen = self.region.slot(slot)?.word.read();
        (seen.is_for(ticket) && seen.state() == Some(State::Doomed)).then(|| seen.seat())
    }

    /// Tells all who wait for the task in `slot` that it has ended. May be repeated (*I5*).
    pub(crate) fn announce(&self, slot: u32) {
        let Some(shared) = self.region.slot(slot) else { return };
        if shared.event.end() {
            self.region.ended().tell(slot);
        }
    }

    /// Supervisor: settles everything that a worker left, which the kernel reported dead. Gives how many tasks were
    /// lost with it.
    pub(crate) fn settle_death(&self, seat: u32, death: &Death) -> usize {
        point(Point::Settles);
        let live = lock(&self.books).live();
        let mut lost = 0;
        for (slot, ticket) in live {
            let Some(shared) = self.region.slot(slot) else { continue };
            let seen = shared.word.read();
            if !seen.is_for(ticket) || seen.seat() != seat {
                continue;
            }
            match seen.state() {
                Some(State::Claimed | State::Doomed) => {
                    lost += 1;
                    self.lose(slot, ticket, seat, death);
                }
                Some(State::Done) => {
                    self.rescue(slot, ticket, seat);
                    self.announce(slot);
                }
                _ => {}
            }
        }
        self.region.small().recover(Owner::worker(seat));
        self.region.large().recover(Owner::worker(seat));
        point(Point::Recovered);
        self.region.idlers().bury(seat);
        point(Point::Buried);
        self.wake_all();
        // It may have told the collector and died before it woke it.
        self.region.ended().shake();
        lost
    }

    /// `Claimed`, `Doomed` → `Lost`, or another attempt.
    fn lose(&self, slot: u32, ticket: Ticket, seat: u32, death: &Death) {
        let ran = self.ran(slot, ticket);
        // Who dooms it has written down why, and may do so until it is ended or ready again.
        let _ = self.region.slot(slot).and_then(|shared| shared.word.doom(ticket));
        point(Point::Seals);
        let doomed = lock(&self.endings).get(&ticket).cloned();
        self.take_back_argument(slot, ticket, seat);
        let failure = doomed.unwrap_or_else(|| Failure::Died {
            last: Death { ticket: Some(ticket), ..death.clone() },
            earlier: Vec::new(),
        });
        if self.try_again((slot, ticket), &failure, ran) {
            Counters::add(&self.counters.retries, 1);
            self.wake_for_push();
        } else {
            let failure = self.with_earlier_deaths(slot, ticket, failure);
            self.end_without_reply(slot, ticket, failure);
        }
    }

    /// The worker may have kept the argument of a task that it did not end, see `Lease::keep`. The parent gives it back
    /// when the outcome is taken, so until then it must be the parent's, also where there is no other attempt.
    fn take_back_argument(&self, slot: u32, ticket: Ticket, seat: u32) {
        let mut extras = lock(&self.extras);
        if let Some(argument) = extras.get_mut(slot, ticket).and_then(|extra| extra.argument) {
            argument.adopt(&self.region, Owner::worker(seat), Owner::PARENT);
        }
    }

    fn end_without_reply(&self, slot: u32, ticket: Ticket, failure: Failure) {
        let Some(shared) = self.region.slot(slot) else { return };
        lock(&self.endings).entry(ticket).or_insert(failure);
        Counters::add(&self.counters.failed, 1);
        shared.word.settle(ticket);
        point(Point::Lost);
        self.announce(slot);
    }

    /// The worker died after it had finished: its reply becomes the parent's before `recover` frees the rest.
    fn rescue(&self, slot: u32, ticket: Ticket, seat: u32) {
        let Some(shared) = self.region.slot(slot) else { return };
        if let Ok(Place::Block { block, .. }) = payload::read(&self.region, shared) {
            let mut rescued = lock(&self.rescued);
            let still_there = self.is_ended(slot, ticket);
            if still_there && block.adopt(&self.region, Owner::worker(seat), Owner::PARENT) {
                rescued.insert(ticket);
                point(Point::Rescued);
            }
        }
    }

    /// Ends every queued task with `failure`, and dooms every running one to it. All workers are about to be told to
    /// end, and have their grace for that.
    pub(crate) fn end_all(&self, failure: &Failure) {
        let live = lock(&self.books).live();
        for (slot, ticket) in live {
            if !self.cancel(slot, ticket, failure.clone()) {
                self.mark_doomed(slot, ticket, failure.clone());
            }
        }
    }

    /// After the last worker's death: no task is left without an end, whatever a worker wrote (*I4*).
    pub(crate) fn end_rest(&self, failure: &Failure) {
        let live = lock(&self.books).live();
        for (slot, ticket) in live {
            if !self.is_ended(slot, ticket) {
                self.end_without_reply(slot, ticket, failure.clone());
            }
        }
    }

    /// Wakes everybody who sleeps: after a death a wake-up may be lost, and when the pool closes all must look. Not by
    /// the bits of those who sleep: a worker may have died after it cleared a bit and before it rang the bed (*I5*).
    pub(crate) fn wake_all(&self) {
        let seats = self.seats.load(Ordering::SeqCst);
        self.region.idlers().mend(seats as usize);
        for seat in (0..seats).filter_map(|seat| self.region.seat(seat)) {
            seat.bed.ring();
        }
    }

    /// Supervisor: compares what the region says with the private books, and sets right what cannot be (*I4*, *I5*).
    /// `alive` tells whether a process sits in a seat. Gives how many tasks are not finished.
    pub(crate) fn audit(&self, alive: impl Fn(u32) -> bool) -> usize {
        let live = lock(&self.books).live();
        let mut unfinished = 0;
        for (slot, ticket) in live {
            if self.is_ended(slot, ticket) {
                self.repeat_announcement(slot);
                continue;
            }
            unfinished += 1;
            if self.is_impossible(slot, ticket, &alive) && self.still_holds(slot, ticket) {
                self.end_impossible(slot, ticket, &alive);
            }
        }
        // The private books know who listens, whatever became of the slot's event and the collector's bed (*I4*).
        let due = self.collector.due(self);
        if !due.is_empty() {
            due.into_iter().for_each(|slot| self.region.ended().tell(slot));
            self.region.ended().shake();
        }
        if unfinished > 0 {
            self.restate();
            self.audit_queue();
        }
        unfinished
    }

    /// Ends a task whose slot was written over; but first whoever runs it, so that it writes there no more (*I3*).
    fn end_impossible(&self, slot: u32, ticket: Ticket, alive: &impl Fn(u32) -> bool) {
        let entry = Some(Entry::new(slot, ticket));
        let runs_it = |&seat: &u32| {
            let words = self.region.seat(seat).filter(|_| alive(seat));
            words.is_some_and(|words| words.current() == entry && words.began().is_some())
        };
        if let Some(seat) = (0..self.seats.load(Ordering::Relaxed)).find(runs_it) {
            return self.request(|requests| requests.suspects.push(seat));
        }
        Counters::add(&self.counters.repairs, 1);
        self.end_without_reply(slot, ticket, Failure::Corrupt);
    }

    fn repeat_announcement(&self, slot: u32) {
        if self.region.slot(slot).is_some_and(|shared| shared.event.is_awaited()) {
            self.announce(slot);
        }
    }

    fn still_holds(&self, slot: u32, ticket: Ticket) -> bool {
        lock(&self.books).tickets.get(slot as usize) == Some(&ticket) && !self.is_ended(slot, ticket)
    }

    /// Whether a slot says what no worker that keeps to the protocol lets it say.
    fn is_impossible(&self, slot: u32, ticket: Ticket, alive: &impl Fn(u32) -> bool) -> bool {
        let Some(shared) = self.region.slot(slot) else { return true };
        let seen = shared.word.read();
        if !seen.is_for(ticket) {
            return true;
        }
        match seen.state() {
            Some(State::Ready) => false,
            // Who dooms a task has written down why.
            Some(State::Doomed) => !alive(seen.seat()) || !lock(&self.endings).contains_key(&ticket),
            Some(State::Claimed) => {
                // A worker names its task before it claims it, and names no other before that has ended.
                let named = self.region.seat(seen.seat()).and_then(Seat::current);
                let held = alive(seen.seat()) && named == Some(Entry::new(slot, ticket));
                !held && shared.word.read() == seen
            }
            Some(State::Done | State::Cancelled | State::Lost) => false,
            Some(State::Free) | None => true,
        }
    }

    /// Sees to it that every ready task has an entry that workers will come to.
    fn audit_queue(&self) {
        let mut books = lock(&self.books);
        let queue = self.region.queue();
        let sane = queue.mend(&mut books.tail);
        // Counted first: workers go on to take tasks, so that there may be more entries than tasks, but never fewer.
        let queued = queue.length();
        let mut ready: Vec<(u32, Ticket)> = books.live();
        let extras = lock(&self.extras);
        ready.retain(|&(slot, ticket)| self.is_ready(slot, ticket) && !extras.is_waiting(slot, ticket));
        drop(extras);
        if !ready.is_empty() && (!sane || (ready.len() as u64) > queued) {
            Counters::add(&self.counters.repairs, 1);
            ready.sort_unstable_by_key(|&(_, ticket)| ticket);
            for (slot, ticket) in &ready {
                // A full queue is looked at again by the next audit.
                let _ = queue.push(&mut books.tail, Entry::new(*slot, *ticket));
            }
        }
        drop(books);
        if !ready.is_empty() {
            self.wake_all();
        }
    }

    /// How many tasks workers have ended since the pool began.
    pub(crate) fn finished(&self, seats: impl Iterator<Item = u32>) -> u64 {
        let counts = seats.filter_map(|seat| Some(self.region.seat(seat)?.finished.load(Ordering::Relaxed)));
        // What workers count is believed as little as all that they write: the sum may be nonsense, not a panic.
        counts.fold(self.counters.finished_by_dead.load(Ordering::Relaxed), u64::wrapping_add)
    }
}
