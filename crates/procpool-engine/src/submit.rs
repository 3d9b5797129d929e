//! The caller's side: a task is written into a slot, put on the queue, and a worker is woken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::arena::Owner;
use crate::extras::Extra;
use crate::faults::{Point, point};
use crate::layout::{LARGE_EXTENT, Slot};
use crate::outcome::{Breakdown, Refusal};
use crate::payload::{self, Parts, Place};
use crate::queue::{Entry, Tail};
use crate::region::{Phase, Region};
use crate::shared::Shared;
use crate::slot::Ticket;
use crate::sync::{AtomicUsize, Instant, MutexGuard, Ordering, await_news, lock};
use crate::task::{Occupied, Task};

/// How long a caller that found no room sleeps before it looks again, whether told or not.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long nothing at all may happen in a full pool of which every task has ended, before a caller is told that there
/// will be no room. A moment is not enough: whoever waits for those tasks may be about to take them.
const STANDSTILL: Duration = Duration::from_secs(1);

/// What a task may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How long each attempt at it may run; the time that it waits in the queue does not count.
    pub timeout: Option<Duration>,
    /// Until when it must have ended, whether it waits or runs.
    pub deadline: Option<Deadline>,
    /// How often it is tried again after its worker died or it timed out.
    pub retries: u32,
}

/// Until when a task must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    since: Instant,
    pub(crate) span: Duration,
}

impl Deadline {
    /// So long from now.
    pub fn after(span: Duration) -> Self {
        Self::since(Instant::now(), span)
    }

    /// So long after `since`.
    pub fn since(since: Instant, span: Duration) -> Self {
        Self { since, span }
    }

    /// `None` where the clock does not go so far.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.since.checked_add(self.span)
    }
}

/// Whether the pool takes tasks.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    Open,
    Closed,
    Terminated,
    Broken(Arc<Breakdown>),
}

impl Door {
    /// What workers are told of it.
    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self::Open => Phase::Running,
            Self::Closed => Phase::Closed,
            Self::Terminated | Self::Broken(_) => Phase::Stopped,
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Open => Ok(()),
            Self::Closed => Err(Refusal::Closed),
            Self::Terminated => Err(Refusal::Terminated),
            Self::Broken(why) => Err(Refusal::Broken(why.clone())),
        }
    }
}

/// The parent's private account of its slots.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) door: Door,
    pub(crate) tail: Tail,
    /// The task in each slot that was ever used; 0 for none.
    pub(crate) tickets: Vec<Ticket>,
    /// Free slots among those; the last that became free is used first.
    free: Vec<u32>,
    next_ticket: Ticket,
    /// Tasks whose handles are gone, and which nobody else will free.
    pub(crate) abandoned: VecDeque<(u32, Ticket)>,
    slots: usize,
    pub(crate) waiting_for_room: usize,
    /// How often a slot was freed.
    changes: u64,
}

impl Books {
    pub(crate) fn new(region: &Region) -> Self {
        Self {
            door: Door::Open,
            tail: Tail::begin(&region.queue()),
            tickets: Vec::new(),
            free: Vec::new(),
            next_ticket: 1,
            abandoned: VecDeque::new(),
            slots: region.layout().geometry.slots as usize,
            waiting_for_room: 0,
            changes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.free.is_empty() && self.tickets.len() == self.slots
    }

    fn take_slot(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            (self.tickets.len() < self.slots).then(|| {
                self.tickets.push(0);
                (self.tickets.len() - 1) as u32
            })
        })
    }

    /// The slot's task is over and its outcome taken.
    pub(crate) fn free_slot(&mut self, slot: u32) {
        self.tickets[slot as usize] = 0;
        self.free.push(slot);
        self.changes += 1;
    }

    /// All slots that hold a task.
    pub(crate) fn live(&self) -> Vec<(u32, Ticket)> {
        let tasks = self.tickets.iter().zip(0..);
        tasks.filter(|&(&ticket, _)| ticket != 0).map(|(&ticket, slot)| (slot, ticket)).collect()
    }

    /// How many tasks were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.next_ticket - 1
    }
}

/// A caller's wait for room.
struct Wait {
    patient: bool,
    /// [`Books::changes`] when the pool was first seen to stand still, and when that was.
    changes: u64,
    since: Option<Instant>,
}

impl Wait {
    /// Whether the pool has stood still for so long that it will go on to.
    fn is_over(&mut self, stands_still: bool, changes: u64) -> bool {
        if !stands_still || changes != self.changes {
            (self.changes, self.since) = (changes, None);
        }
        stands_still && self.since.get_or_insert_with(Instant::now).elapsed() >= STANDSTILL
    }
}

/// As long as it lives, a block is being filled for a task that is not in the books yet.
struct Preparing<'a>(&'a AtomicUsize);

impl<'a> Preparing<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A payload kept by the parent, for another attempt: what lay in the slot, which a reply overwrites.
#[derive(Debug)]
pub(crate) struct Copy {
    place: Place,
    head: Vec<u8>,
}

impl Copy {
    /// Writes it into its slot again, which is the parent's.
    pub(crate) fn write(&self, slot: &Slot, limits: Limits) {
        payload::write(slot, kind(limits), &self.place, &self.head);
    }
}

impl Shared {
    /// Accepts a task. Where there is no room it waits for some, if `patient`.
    pub(crate) fn submit(
        self: &Arc<Self>,
        parts: &Parts<'_>,
        limits: Limits,
        patient: bool,
    ) -> Result<Task, Refusal> {
        self.check_process()?;
        let mut wait = Wait { patient, changes: 0, since: None };
        let place = self.reserve(parts, &mut wait)?;
        point(Point::Reserved);
        let Place::Block { block, .. } = place else {
            return self.hand_over(parts, &place, limits, &mut wait);
        };
        let preparing = Preparing::begin(&self.preparing);
        payload::fill(&self.region, &place, parts);
        drop(preparing);
        let accepted = self.hand_over(parts, &place, limits, &mut wait);
        if accepted.is_err() {
            block.release(&self.region, Owner::PARENT);
        }
        accepted
    }

    fn hand_over(
        self: &Arc<Self>,
        parts: &Parts<'_>,
        place: &Place,
        limits: Limits,
        wait: &mut Wait,
    ) -> Result<Task, Refusal> {
        let task = self.accept(parts, place, limits, wait)?;
        point(Point::Pushed);
        self.wake_for_push();
        Ok(task)
    }

    /// Finds room in the arena, if the payload needs any.
    fn reserve(self: &Arc<Self>, parts: &Parts<'_>, wait: &mut Wait) -> Result<Place, Refusal> {
        if parts.fits_into_slot() {
            return Ok(Place::Inline { head: parts.head.len() });
        }
        let arena = self.region.layout().geometry.large * LARGE_EXTENT;
        loop {
            let found = payload::prepare(&self.region, &mut lock(&self.allocator), parts);
            let bytes = match found {
                Ok(place) => return Ok(place),
                Err(payload::NoRoom(bytes)) => bytes,
            };
            if bytes > arena {
                return Err(Refusal::TooLarge { bytes, arena });
            }
            let mut books = lock(&self.books);
            books.door.check()?;
            self.reclaim(&mut books, usize::MAX);
            drop(self.wait_for_room(books, bytes, wait)?);
        }
    }

    fn accept(
        self: &Arc<Self>,
        parts: &Parts<'_>,
        place: &Place,
        limits: Limits,
        wait: &mut Wait,
    ) -> Result<Task, Refusal> {
        let mut books = lock(&self.books);
        let slot = loop {
            books.door.check()?;
            if !books.abandoned.is_empty() {
                self.reclaim(&mut books, 2);
            }
            if books.is_full() {
                self.reclaim(&mut books, usize::MAX);
            }
            if let Some(slot) = books.take_slot() {
                if self.enqueue(&mut books, slot, parts, place, limits) {
                    break slot;
                }
                books.free_slot(slot);
            }
            books = self.wait_for_room(books, 0, wait)?;
        };
        let has_extra = limits != Limits::default() || matches!(place, Place::Block { .. });
        Ok(Task::new(self.clone(), slot, books.accepted(), has_extra))
    }

    /// Writes the task into the slot and pushes it; false where the queue is full of entries.
    fn enqueue(
        &self,
        books: &mut Books,
        slot: u32,
        parts: &Parts<'_>,
        place: &Place,
        limits: Limits,
    ) -> bool {
        let ticket = books.next_ticket;
        let Some(shared) = self.region.slot(slot) else { return false };
        let argument = match place {
            Place::Inline { .. } => None,
            Place::Block { block, .. } => Some(*block),
        };
        if argument.is_some() || limits != Limits::default() {
            let copy = (limits.retries > 0).then(|| Copy {
                place: *place,
                head: if argument.is_none() { parts.head.to_vec() } else { Vec::new() },
            });
            if lock(&self.extras).insert(slot, Extra::new(ticket, argument, limits, copy)) {
                // Its deadline is the first of all: the supervisor may sleep for longer.
                self.poke();
            }
        }
        shared.event.reset();
        payload::write(shared, kind(limits), place, parts.head);
        books.tickets[slot as usize] = ticket;
        point(Point::Noted);
        shared.word.publish(ticket);
        point(Point::Published);
        if self.region.queue().push(&mut books.tail, Entry::new(slot, ticket)).is_err() {
            shared.word.release();
            lock(&self.extras).remove(slot);
            return false;
        }
        books.next_ticket += 1;
        true
    }

    /// After a push: wakes a worker if one sleeps that is needed, and the supervisor if it does not watch.
    pub(crate) fn wake_for_push(&self) {
        if let Some(seat) = self.region.idlers().someone_to_wake()
            && let Some(seat) = self.region.seat(seat)
        {
            seat.wake();
        }
        point(Point::Rang);
        // ORDER: after the fence in `someone_to_wake`, partner of the one in the supervisor's `stop_watching`.
        self.watch_again();
    }

    /// Frees up to `most` slots of tasks that ended after their handles were dropped.
    pub(crate) fn reclaim(self: &Arc<Self>, books: &mut Books, most: usize) {
        for _ in 0..most.min(books.abandoned.len()) {
            let Some((slot, ticket)) = books.abandoned.pop_front() else { return };
            let occupied = Occupied::new(self.clone(), slot, ticket);
            if occupied.is_ended() {
                occupied.discard(books);
            } else {
                books.abandoned.push_back((slot, ticket));
            }
        }
    }

    /// Waits until there may be room. Where every task has ended, and nobody takes an outcome either, waiting would be
    /// for ever: then the caller is told so.
    fn wait_for_room<'b>(
        &'b self,
        mut books: MutexGuard<'b, Books>,
        bytes: u64,
        wait: &mut Wait,
    ) -> Result<MutexGuard<'b, Books>, Refusal> {
        let stands_still = self.preparing.load(Ordering::SeqCst) == 0 && self.unfinished(&books) == 0;
        if !wait.patient || wait.is_over(stands_still, books.changes) {
            return Err(Refusal::Full { bytes });
        }
        books.waiting_for_room += 1;
        let mut books = await_news(&self.room, books, LOOK_AGAIN);
        books.waiting_for_room -= 1;
        books.door.check()?;
        Ok(books)
    }

    /// How many accepted tasks have not ended.
    pub(crate) fn unfinished(&self, books: &Books) -> usize {
        books.live().iter().filter(|&&(slot, ticket)| !self.is_ended(slot, ticket)).count()
    }
}

fn kind(limits: Limits) -> u32 {
    if limits.timeout.is_some() { payload::TIMED } else { 0 }
}
