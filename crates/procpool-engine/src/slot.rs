//! One task's life: the state word, and the event that tells of its end. The only place where states change.
//!
//! # The states
//!
//! | from | to | who, and only who | how |
//! |---|---|---|---|
//! | `Free` | `Ready` | parent | [`Word::publish`], then the queue |
//! | `Ready` | `Claimed(worker)` | that worker | [`Word::claim`] |
//! | `Ready` | `Cancelled` | parent | [`Word::cancel`] |
//! | `Claimed(worker)` | `Done` | that worker | [`Word::finish`], after the reply is written |
//! | `Claimed(worker)` | `Doomed(worker)` | parent | [`Word::doom`], before it kills that worker for this task's sake |
//! | `Claimed`, `Doomed(worker)` | `Lost` | parent | [`Word::settle`], only after the kernel reported that worker dead |
//! | `Lost` | `Ready` | parent | [`Word::publish`]: another attempt |
//! | `Done`, `Cancelled`, `Lost` | `Free` | parent | [`Word::release`], after the outcome was taken |
//!
//! *I1*: whoever wants a task changes **this word** by a compare-and-swap that includes the ticket. So at every
//! instruction the parent can read who holds what, there is no lock that a worker could die holding, and no
//! state in which a task is nobody's.
//!
//! *I3*: the parent changes `Claimed` only to `Doomed`, and takes the slot back only after that worker's death.
//!
//! The word is the truth. The [`Event`] beside it only tells who waits to look again: it may be repeated, and the
//! supervisor does repeat it after every death (*I5*).

use std::time::Duration;

use crate::faults::{Point, point};
use crate::sync::{AtomicU32, AtomicU64, Ordering, futex};

/// A task's number. Never reused in the life of a pool; the word holds its low 48 bits.
pub type Ticket = u64;

const TICKET_BITS: u32 = 48;
const TICKET_MASK: u64 = (1 << TICKET_BITS) - 1;
const SEAT_BITS: u32 = 12;
const SEAT_MASK: u64 = (1 << SEAT_BITS) - 1;

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// No task.
    Free = 0,
    /// Accepted, waiting for a worker; or, off the queue, for its next attempt.
    Ready = 1,
    /// A worker has it.
    Claimed = 2,
    /// A worker has it and will be killed for it; it can no longer finish.
    Doomed = 3,
    /// Ended by its worker; the reply is in the slot.
    Done = 4,
    /// Ended by the parent before a worker took it.
    Cancelled = 5,
    /// Ended by the death of its worker.
    Lost = 6,
}

impl State {
    /// Whether nothing more will happen to the task.
    pub(crate) fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Lost)
    }
}

/// A word that was read: state, seat of the worker, low bits of the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    fn pack(state: State, seat: u32, ticket: Ticket) -> Self {
        let state = u64::from(state as u8) << (TICKET_BITS + SEAT_BITS);
        let seat = (u64::from(seat) & SEAT_MASK) << TICKET_BITS;
        Self(state | seat | (ticket & TICKET_MASK))
    }

    /// The state; `None` for a value that nobody writes who keeps to the protocol (*I4*).
    pub(crate) fn state(self) -> Option<State> {
        Some(match self.0 >> (TICKET_BITS + SEAT_BITS) {
            0 => State::Free,
            1 => State::Ready,
            2 => State::Claimed,
            3 => State::Doomed,
            4 => State::Done,
            5 => State::Cancelled,
            6 => State::Lost,
            _ => return None,
        })
    }

    /// The seat of the worker that has, or had, the task.
    pub(crate) fn seat(self) -> u32 {
        // The mask keeps twelve bits.
        ((self.0 >> TICKET_BITS) & SEAT_MASK) as u32
    }

    /// Whether this is about `ticket`.
    pub(crate) fn is_for(self, ticket: Ticket) -> bool {
        self.0 & TICKET_MASK == ticket & TICKET_MASK
    }

    /// The ticket's low 48 bits.
    pub(crate) fn ticket(self) -> Ticket {
        self.0 & TICKET_MASK
    }

    /// The low 32 bits of the ticket: what a queue entry carries.
    pub(crate) fn tag(self) -> u32 {
        self.0 as u32
    }
}

/// The state word of a slot.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Word(AtomicU64);

impl Word {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// What the word says now.
    pub(crate) fn read(&self) -> Snapshot {
        // ORDER: Acquire, partner of `finish` and `settle`: who sees the end of a task sees its outcome; and of `claim`.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// Parent: `Free` or `Lost` → `Ready`. The payload is written; the slot is the parent's alone.
    pub(crate) fn publish(&self, ticket: Ticket) {
        // ORDER: Release, partner of `claim`: who claims the task sees its payload.
        self.0.store(Snapshot::pack(State::Ready, 0, ticket).0, Ordering::Release);
    }

    /// Worker: `Ready` → `Claimed(seat)`, if the slot still is what `seen` said.
    pub(crate) fn claim(&self, seen: Snapshot, seat: u32) -> bool {
        let claimed = Snapshot::pack(State::Claimed, seat, seen.0);
        // ORDER: Acquire, partner of `publish`; Release, partner of `read`: who sees the claim sees that the worker's
        // seat names this task, which it wrote before. The audit takes a claim without that for rubbish.
        seen.state() == Some(State::Ready) && self.swap(seen, claimed, Ordering::AcqRel)
    }

    /// Worker: `Claimed(seat)` → `Done`. False when the task was doomed meanwhile: then this worker is about to
    /// be killed, and must touch nothing more.
    pub(crate) fn finish(&self, ticket: Ticket, seat: u32) -> bool {
        let held = Snapshot::pack(State::Claimed, seat, ticket);
        // ORDER: Release, partner of `read`: the reply is visible to whoever sees `Done`.
        self.swap(held, Snapshot::pack(State::Done, seat, ticket), Ordering::Release)
    }

    /// Parent: `Ready` → `Cancelled`. False when a worker has it already or it has ended.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        let queued = Snapshot::pack(State::Ready, 0, ticket);
        self.swap(queued, Snapshot::pack(State::Cancelled, 0, ticket), Ordering::AcqRel)
    }

    /// Parent: `Claimed(worker)` → `Doomed(worker)`. Gives the seat of the worker that is to be killed; `None`
    /// when the task is not running, so that nobody is killed for a task that has just ended.
    pub(crate) fn doom(&self, ticket: Ticket) -> Option<u32> {
        let seen = self.read();
        let running = seen.state() == Some(State::Claimed) && seen.is_for(ticket);
        let doomed = Snapshot::pack(State::Doomed, seen.seat(), ticket);
        (running && self.swap(seen, doomed, Ordering::AcqRel)).then(|| seen.seat())
    }

    /// Parent: → `Lost`, whatever the word says: the kernel reported the worker dead (or the audit found that the
    /// word cannot be true), so nobody else writes it any more.
    pub(crate) fn settle(&self, ticket: Ticket) {
        // ORDER: Release, partner of `read`.
        self.0.store(Snapshot::pack(State::Lost, 0, ticket).0, Ordering::Release);
    }

    /// Parent: → `Free`. The outcome was taken.
    pub(crate) fn release(&self) {
        // ORDER: Relaxed: the next owner of the slot is the parent again, under its own lock.
        self.0.store(Snapshot::pack(State::Free, 0, 0).0, Ordering::Relaxed);
    }

    fn swap(&self, from: Snapshot, to: Snapshot, success: Ordering) -> bool {
        self.0.compare_exchange(from.0, to.0, success, Ordering::Relaxed).is_ok()
    }
}

/// Who is to be told that a task has ended.
///
/// One word that both sides change by read-modify-write, so that one of the two always comes second: a waiter that
/// registers and then looks at the slot's word finds the end there, or else whoever ends the task finds the waiter.
/// No fence is needed.
///
/// An end may come late, when the slot has its next task already: whoever ends a task first changes the slot's word and
/// only then this one. So an end is not a flag, which a late one would leave set, but counts up: it always changes
/// the word under a sleeper, and says nothing by itself. The slot's word is the truth.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Event(AtomicU32);

impl Event {
    /// A thread of the parent sleeps on the word.
    const WAITED: u32 = 1;
    /// The collector is to be told.
    const LISTENED: u32 = 2;
    const INTEREST: u32 = Self::WAITED | Self::LISTENED;
    /// Added by every end.
    const END: u32 = 4;

    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Parent, before it publishes the slot: nobody waits yet.
    pub(crate) fn reset(&self) {
        // ORDER: Relaxed: only the parent registers, and frees and takes slots under one lock; `Word::publish` follows.
        // No plain store, which a late end could come between.
        if self.0.load(Ordering::Relaxed) & Self::INTEREST != 0 {
            self.0.fetch_and(!Self::INTEREST, Ordering::Relaxed);
        }
    }

    /// Parent: from now on sleepers are woken when the task ends. Gives what [`Event::sleep`] wants. The caller must
    /// look at the slot's word after that.
    pub(crate) fn wait(&self) -> u32 {
        self.register(Self::WAITED)
    }

    /// Parent: from now on the collector is told when the task ends. The caller must look at the slot's word after that.
    pub(crate) fn listen(&self) {
        self.register(Self::LISTENED);
    }

    fn register(&self, interest: u32) -> u32 {
        // ORDER: AcqRel, partner of `end`: if that came first, the slot's word reads as ended.
        self.0.fetch_or(interest, Ordering::AcqRel) | interest
    }

    /// Sleeps until the end, if nothing happened since `seen`. May return for no reason.
    pub(crate) fn sleep(&self, seen: u32, timeout: Option<Duration>) {
        futex::wait(&self.0, seen, timeout);
    }

    /// Says that the task has ended, and wakes who sleeps. True if the collector is to be told as well. May be
    /// repeated.
    pub(crate) fn end(&self) -> bool {
        // ORDER: AcqRel, partner of `register`.
        let before = self.0.fetch_add(Self::END, Ordering::AcqRel);
        point(Point::Ended);
        if before & Self::WAITED != 0 {
            futex::wake(&self.0, u32::MAX);
        }
        before & Self::LISTENED != 0
    }

    /// Parent: whether anybody registered.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.load(Ordering::Acquire) & Self::INTEREST != 0
    }

    /// Parent: whether the collector is to be told.
    pub(crate) fn is_listened_to(&self) -> bool {
        self.0.load(Ordering::Acquire) & Self::LISTENED != 0
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
