//! The caller's end of one task: wait for it, take its outcome, cancel it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::arena::Owner;
use crate::block::{Block, Lease};
use crate::collect;
use crate::faults::{Point, point};
use crate::layout::Slot;
use crate::outcome::{Failure, Outcome};
use crate::payload::{self, Corrupt, NO_ROOM, Payload, Place, RAISED, RETURNED};
use crate::shared::Shared;
use crate::slot::{State, Ticket};
use crate::submit::Books;
use crate::sync::{Instant, Ordering, lock, thread};

/// How long a caller naps where the pool has a backlog.
const NAP: Duration = Duration::from_micros(50);

/// The longest that a waiter sleeps without a look: a worker that scribbles may lose it its wake-up (*I4*).
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The right to one task's outcome. Dropping it does not cancel the task.
pub struct Task {
    /// `None` once the outcome was taken.
    occupied: Option<Occupied>,
    /// Whether [`Shared::extras`] has something about it.
    has_extra: bool,
}

/// A slot in use, and the task that uses it.
pub(crate) struct Occupied {
    shared: Arc<Shared>,
    ticket: Ticket,
    slot: u32,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("ticket", &self.ticket()).finish_non_exhaustive()
    }
}

impl Task {
    pub(crate) fn new(shared: Arc<Shared>, slot: u32, ticket: Ticket, has_extra: bool) -> Self {
        Self { occupied: Some(Occupied::new(shared, slot, ticket)), has_extra }
    }

    fn occupied(&self) -> &Occupied {
        self.occupied.as_ref().expect("`take` and `drop` consume the task")
    }

    /// The task's number, never reused in its pool.
    pub fn ticket(&self) -> Ticket {
        self.occupied().ticket
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.occupied().is_ended()
    }

    /// Whether it ended with a value; `None` while it has not ended.
    pub fn returned(&self) -> Option<bool> {
        if !self.is_ended() {
            return None;
        }
        let slot = self.occupied().slot();
        let done = slot.word.read().state() == Some(State::Done);
        Some(done && payload::reply_kind(slot).0 == RETURNED)
    }

    /// Whether a worker has it now.
    pub fn is_running(&self) -> bool {
        let Occupied { shared, slot, ticket } = self.occupied();
        let word = shared.region.slot(*slot).map(|slot| slot.word.read());
        word.is_some_and(|word| {
            word.is_for(*ticket) && matches!(word.state(), Some(State::Claimed | State::Doomed))
        })
    }

    /// Waits for the end of the task, for at most `timeout`. True when it has ended.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        self.wait_while(timeout, || true)
    }

    /// As [`Task::wait`], for hosts that must look after signals: `go_on` is asked after each time that the sleep was
    /// interrupted, and every second. Where it says no, the wait is over.
    pub fn wait_while(&self, timeout: Option<Duration>, go_on: impl FnMut() -> bool) -> bool {
        let shared = &self.occupied().shared;
        // Whoever only asks is answered at once.
        if timeout == Some(Duration::ZERO) {
            return self.is_ended();
        }
        shared.spin.look(|| shared.region.wakeup().worth(), || self.is_ended(), || !shared.has_backlog())
            // A fork has nothing to wait for: what it takes is an error.
            || shared.is_forked()
            || self.nap(timeout)
            || self.sleep(timeout.and_then(|span| Instant::now().checked_add(span)), go_on)
    }

    /// Sleeps for a moment where the pool has a backlog. Short tasks end in numbers meanwhile, each of which would
    /// otherwise wake this thread: that costs their worker more than the task. Long ones lose little.
    fn nap(&self, timeout: Option<Duration>) -> bool {
        if timeout.is_some_and(|span| span < NAP) || !self.occupied().shared.has_backlog() {
            return false;
        }
        thread::sleep(NAP);
        self.is_ended()
    }

    fn sleep(&self, deadline: Option<Instant>, mut go_on: impl FnMut() -> bool) -> bool {
        let slot = self.occupied().slot();
        let mut has_slept = false;
        loop {
            let seen = slot.event.wait();
            point(Point::Waits);
            if self.is_ended() {
                return true;
            }
            if std::mem::replace(&mut has_slept, true) {
                // Perhaps it had ended, and somebody wrote over its end when nobody watched any more.
                self.occupied().shared.watch_again();
                if !go_on() {
                    return self.is_ended();
                }
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            slot.event.sleep(seen, Some(left.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)));
        }
    }

    /// Takes the outcome, waiting for it if need be.
    pub fn take(mut self) -> Outcome {
        self.wait(None);
        let occupied = self.occupied.take().expect("`take` and `drop` consume the task");
        if occupied.shared.is_forked() {
            return Outcome::Failed(Failure::Forked);
        }
        occupied.take_outcome(self.has_extra)
    }

    /// Cancels the task if no worker has it yet. True when it was cancelled now.
    pub fn cancel(&self) -> bool {
        let Occupied { shared, slot, ticket } = self.occupied();
        !shared.is_forked() && shared.cancel(*slot, *ticket, Failure::Cancelled)
    }

    /// Cancels the task, and if it is running kills the worker that runs it, and no other. True when it was
    /// cancelled now: it will end with [`Failure::Cancelled`].
    pub fn cancel_running(&self) -> bool {
        let Occupied { shared, slot, ticket } = self.occupied();
        !shared.is_forked() && shared.cancel_anyway(*slot, *ticket)
    }

    /// Whether no listener of this task is called while this thread waits: because it is a listener of the same pool that
    /// waits, or a fork of the pool's process.
    pub fn is_unheard_here(&self) -> bool {
        let shared = &self.occupied().shared;
        shared.is_in_callback() || shared.is_forked()
    }

    /// Calls `listener` on the collector's thread once the task has ended, perhaps at once. It must not block
    /// for long: it holds up the other listeners of the pool.
    ///
    /// It is given back where the pool, and with it the task, has ended, and no thread can be had, or where this process
    /// is a fork of the pool's: then it is for the caller to call.
    #[must_use = "nobody else calls a listener that is given back"]
    pub fn listen(&self, listener: impl FnOnce() + Send + 'static) -> Option<Box<dyn FnOnce() + Send>> {
        let Occupied { shared, slot, ticket } = self.occupied();
        if shared.is_forked() {
            return Some(Box::new(listener));
        }
        collect::listen(shared, *slot, *ticket, Box::new(listener))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let Some(occupied) = self.occupied.take() else { return };
        if occupied.shared.is_forked() {
            return;
        }
        let mut books = lock(&occupied.shared.books);
        if occupied.is_ended() {
            occupied.discard(&mut books);
        } else {
            // Nobody will ask for the outcome: whoever looks for free slots frees this one, once the task has ended.
            books.abandoned.push_back((occupied.slot, occupied.ticket));
        }
    }
}

impl Occupied {
    pub(crate) fn new(shared: Arc<Shared>, slot: u32, ticket: Ticket) -> Self {
        Self { shared, ticket, slot }
    }

    /// The slot itself.
    pub(crate) fn slot(&self) -> &Slot {
        self.shared.region.slot(self.slot).expect("the parent's books have only slots that exist")
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.shared.is_ended(self.slot, self.ticket)
    }

    /// What became of the task, which has ended.
    fn take_outcome(self, may_have_extra: bool) -> Outcome {
        if may_have_extra {
            self.release_argument();
        }
        let slot = self.slot();
        if slot.word.read().state() != Some(State::Done) {
            let why = lock(&self.shared.endings).remove(&self.ticket);
            self.vacate();
            return Outcome::Failed(why.unwrap_or(Failure::Corrupt));
        }
        let (kind, _) = payload::reply_kind(slot);
        match (kind, self.reply()) {
            (RETURNED, Ok((place, lease))) => Outcome::Returned(Payload::new(self, place, lease)),
            (RAISED, Ok((place, lease))) => Outcome::Raised(Payload::new(self, place, lease)),
            (kind, _) => {
                let bytes = slot.buffers.load(Ordering::Relaxed);
                self.vacate();
                Outcome::Failed(if kind == NO_ROOM { Failure::NoRoom { bytes } } else { Failure::Corrupt })
            }
        }
    }

    /// Finds the reply, and makes its block the parent's.
    fn reply(&self) -> Result<(Place, Option<Arc<Lease>>), Corrupt> {
        let place = payload::read(&self.shared.region, self.slot())?;
        let lease = match place {
            Place::Inline { .. } => None,
            Place::Block { block, head, .. } => Some(self.adopt(block, head)?),
        };
        Ok((place, lease))
    }

    /// Frees the slot and all that goes with its task, which has ended and whose outcome nobody wants.
    pub(crate) fn discard(&self, books: &mut Books) {
        self.release_argument();
        lock(&self.shared.endings).remove(&self.ticket);
        if self.slot().word.read().state() == Some(State::Done) {
            // A lease that is dropped gives its block back.
            drop(self.reply());
        }
        self.free(books);
    }

    /// Makes the slot free for another task. The word changes together with the books, under their lock: else the
    /// audit would find a task whose slot knows nothing of it.
    fn free(&self, books: &mut Books) {
        let slot = self.slot();
        slot.word.release();
        point(Point::Freed);
        books.free_slot(self.slot);
        // The collector may not have looked yet, and a late end of the task says nothing once the slot is in use again.
        if slot.event.is_listened_to() {
            self.shared.region.ended().tell(self.slot);
        }
    }

    /// Gives the argument's block back, unless the worker has kept it: then it may be another task's by now, which is the
    /// parent's as well.
    fn release_argument(&self) {
        let extra = lock(&self.shared.extras).remove(self.slot);
        if let Some(argument) = extra.and_then(|extra| extra.argument).filter(|_| !self.argument_was_kept()) {
            argument.release(&self.shared.region, Owner::PARENT);
        }
    }

    fn argument_was_kept(&self) -> bool {
        let slot = self.slot();
        slot.word.read().state() == Some(State::Done) && payload::reply_kind(slot).1
    }

    /// Gives the slot back, and tells who waits for one. To be called once.
    pub(crate) fn vacate(&self) {
        if self.shared.is_forked() {
            return;
        }
        let mut books = lock(&self.shared.books);
        self.free(&mut books);
        if books.waiting_for_room > 0 {
            self.shared.room.notify_all();
        }
    }

    /// Makes a reply's block the parent's: the worker's until now, or adopted when the worker died. Were part of it
    /// somebody else's, the worker lied (*I4*).
    fn adopt(&self, block: Block, head: u64) -> Result<Arc<Lease>, Corrupt> {
        let region = &self.shared.region;
        let worker = Owner::worker(self.slot().word.read().seat());
        let mut rescued = lock(&self.shared.rescued);
        if block.adopt(region, worker, Owner::PARENT) || rescued.remove(&self.ticket) {
            Ok(Arc::new(Lease::owned(self.shared.clone(), block, head)))
        } else {
            Err(Corrupt)
        }
    }
}

impl Shared {
    /// Whether more tasks wait than there are workers: then whoever looks takes the core of one that works.
    fn has_backlog(&self) -> bool {
        self.region.queue().length() > self.seats.load(Ordering::Relaxed).into()
    }

    pub(crate) fn is_ended(&self, slot: u32, ticket: Ticket) -> bool {
        let word = self.region.slot(slot).map(|slot| slot.word.read());
        word.is_some_and(|word| word.is_for(ticket) && word.state().is_some_and(State::is_ended))
    }
}
