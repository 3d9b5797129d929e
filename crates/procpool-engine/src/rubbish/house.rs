//! The parent's pool, and the workers that are honest.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::SEATS;
use super::scribble::{Scribble, Scribbler};
use crate::block::Allocator;
use crate::launch::ExitStatus;
use crate::layout::{Geometry, SMALL_EXTENT};
use crate::os::poll;
use crate::outcome::{Death, Failure, Outcome};
use crate::payload::{self, Parts, Place};
use crate::pool::{Config, Pool};
use crate::queue::Cursor;
use crate::region::Region;
use crate::shared::{Setup, Shared};
use crate::slot::Ticket;
use crate::submit::{Deadline, Door, Limits};
use crate::sync::lock;
use crate::task::Task;
use crate::worker;

/// The limits of a task: one that may not run for long has a deadline as well.
pub(super) fn limits(is_timed: bool, retries: u32) -> Limits {
    let timeout = is_timed.then_some(Duration::from_millis(1));
    Limits { timeout, deadline: timeout.map(Deadline::after), retries }
}

/// What happens next. Numbers that choose among tasks may be any.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Scribble(Scribble),
    Submit {
        length: usize,
        buffer: usize,
        limits: Limits,
        is_listened_to: bool,
    },
    Claim(usize),
    Finish(usize, usize, u32),
    Die(usize),
    Audit(u32),
    Cancel(usize),
    CancelRunning(usize),
    Look(usize),
    /// As `Look`, but sleeps a moment.
    Wait(usize),
    Take(usize),
    Drop(usize),
    Reclaim,
    Stats,
    WakeAll,
    Restate,
    Trim(usize),
    /// Another worker attaches, and reads what all workers read.
    Attach,
}

/// A pool without supervisor and processes, over a small region.
pub(super) struct House {
    pub(super) shared: Arc<Shared>,
    pool: Pool,
    memory: OwnedFd,
    scribbler: Scribbler,
    workers: Vec<Honest>,
    tasks: Vec<Task>,
    listened: usize,
    heard: Arc<AtomicUsize>,
    accepted: usize,
    outcomes: usize,
    dropped: usize,
}

struct Honest {
    seat: u32,
    cursor: Cursor,
    allocator: Allocator,
    claimed: Option<(u32, Ticket)>,
    /// Its task was doomed: it waits for its death.
    is_doomed: bool,
}

impl House {
    pub(super) fn new() -> Self {
        let geometry = Geometry { slots: 4096, levels: 2, small: 256, large: 8 };
        let (region, memory) = Region::create("rubbish", geometry).unwrap();
        let scribbler = Scribbler::new(memory.as_fd(), *region.layout());
        let workers = (0..SEATS).map(|seat| Honest {
            seat,
            cursor: Cursor::default(),
            allocator: Allocator::worker(&region, seat),
            claimed: None,
            is_doomed: false,
        });
        let workers = workers.collect();
        (0..SEATS).for_each(|seat| region.seat(seat).unwrap().vacate());
        let parts = Parts { head: b"set-up", tail: &[], buffers: &[] };
        let (block, head) = payload::prepare_block(&region, &mut Allocator::parent(&region), &parts).unwrap();
        let config = Config { spin: false, ..Config::new(SEATS as usize) };
        let shared = crate::pool::shared(region, poll::eventfd().unwrap(), Setup { block, head }, config);
        // There is no supervisor for the pool's drop to wait for.
        lock(&shared.life).ended = true;
        let shared = Arc::new(shared);
        Self {
            pool: Pool::without_supervisor(shared.clone()),
            shared,
            memory,
            scribbler,
            workers,
            tasks: Vec::new(),
            listened: 0,
            heard: Arc::default(),
            accepted: 0,
            outcomes: 0,
            dropped: 0,
        }
    }

    pub(super) fn region(&self) -> &Region {
        &self.shared.region
    }

    fn submit(&mut self, length: usize, buffer: usize, limits: Limits, is_listened_to: bool) {
        let (head, buffer) = (vec![7; length], vec![8; buffer]);
        let buffers: &[&[u8]] = if buffer.is_empty() { &[] } else { &[&buffer] };
        let Ok(task) = self.shared.submit(&Parts { head: &head, tail: &[], buffers }, limits, false) else {
            return;
        };
        self.accepted += 1;
        if is_listened_to {
            self.listened += 1;
            let heard = self.heard.clone();
            let _ = task.listen(move || {
                heard.fetch_add(1, Ordering::Relaxed);
            });
        }
        self.tasks.push(task);
    }

    /// The steps of `Worker::next`.
    fn claim(&mut self, worker: usize) {
        let region = self.shared.region.clone();
        let Honest { seat, cursor, claimed, is_doomed, .. } = &mut self.workers[worker];
        let is_idle = claimed.is_none() && !*is_doomed;
        let Some(words) = region.seat(*seat).filter(|_| is_idle) else { return };
        let word = |slot| region.slot(slot).map(|slot| &slot.word);
        let entry = region.queue().claim(cursor, *seat, word, |entry| words.intend(entry));
        if let Some((slot, seen)) = entry {
            words.start_clock(true);
            *claimed = Some((slot, seen.ticket()));
            let _ = payload::read(&region, region.slot(slot).unwrap());
        }
    }

    /// The steps of `Call::reply`.
    fn finish(&mut self, worker: usize, length: usize, kind: u32) {
        let region = self.shared.region.clone();
        let Honest { seat, allocator, claimed, is_doomed, .. } = &mut self.workers[worker];
        let Some((slot, ticket)) = claimed.take() else { return };
        let (words, head) = (region.slot(slot).unwrap(), vec![9; length]);
        let parts = Parts { head: &head, tail: &[], buffers: &[] };
        if let Ok(place) = payload::prepare(&region, allocator, &parts) {
            payload::fill(&region, &place, &parts);
            payload::write(words, kind, &place, &head);
        } else {
            payload::write(words, payload::NO_ROOM, &Place::Inline { head: 0 }, &[]);
        }
        *is_doomed = !words.word.finish(ticket, *seat);
        if *is_doomed {
            return;
        }
        if words.event.end() {
            region.ended().tell(slot);
        }
        region.seat(*seat).unwrap().finish(kind == payload::RAISED);
    }

    /// What the supervisor does when it hears of a death.
    fn die(&mut self, worker: usize) {
        let Honest { seat, cursor, claimed, is_doomed, .. } = &mut self.workers[worker];
        (*cursor, *claimed, *is_doomed) = (Cursor::default(), None, false);
        let death = Death { pid: 1, status: ExitStatus::Signaled(9), ticket: None, note: None };
        let words = self.shared.region.seat(*seat).unwrap();
        let death = Death { note: words.read_note(), ..death };
        self.shared.settle_death(*seat, &death);
        words.vacate();
    }

    /// What the supervisor does about an audit: it kills whom it must. Some time has passed by then.
    fn audit(&mut self, alive: u32) {
        let later = Instant::now() + Duration::from_secs(2);
        self.shared.resume_waiting(later);
        self.shared.enforce_deadlines(later);
        self.shared.audit(|seat| seat < SEATS && alive >> seat & 1 == 1);
        let requests = std::mem::take(&mut *lock(&self.shared.requests));
        let doomed =
            requests.kills.iter().filter_map(|&(slot, ticket)| self.shared.doomed_seat(slot, ticket));
        let mut seats: Vec<u32> = doomed.chain(requests.suspects).filter(|&seat| seat < SEATS).collect();
        seats.dedup();
        seats.into_iter().for_each(|seat| self.die(seat as usize));
    }

    fn take(&mut self, which: usize) {
        if self.tasks.is_empty() {
            return;
        }
        let which = which % self.tasks.len();
        if self.tasks[which].is_ended() {
            let task = self.tasks.swap_remove(which);
            self.outcomes += 1;
            read(task.take());
        }
    }

    /// The first steps of a worker: the parent labels the region before it starts one, but others may scribble since.
    fn attach(&self) {
        let Ok(region) = Region::attach(self.memory.as_fd()) else { return };
        let owner = Allocator::worker(&region, 0).owner();
        let setup = worker::setup(&Arc::new(region), owner);
        look_at(setup.head().iter().chain(setup.buffers()));
    }

    fn with_task(&self, which: usize, act: impl FnOnce(&Task)) {
        if !self.tasks.is_empty() {
            act(&self.tasks[which % self.tasks.len()]);
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Scribble(scribble) => self.scribbler.scribble(&scribble),
            Step::Submit { length, buffer, limits, is_listened_to } => {
                self.submit(length, buffer, limits, is_listened_to);
            }
            Step::Claim(worker) => self.claim(worker),
            Step::Finish(worker, length, kind) => self.finish(worker, length, kind),
            Step::Die(worker) => self.die(worker),
            Step::Audit(alive) => self.audit(alive),
            Step::Cancel(which) => self.with_task(which, |task| {
                task.cancel();
            }),
            Step::CancelRunning(which) => self.with_task(which, |task| {
                task.cancel_running();
            }),
            Step::Look(which) => self.with_task(which, |task| {
                task.is_ended();
                task.is_running();
                task.returned();
            }),
            Step::Wait(which) => self.with_task(which, |task| {
                task.wait(Some(Duration::from_micros(10)));
            }),
            Step::Take(which) => self.take(which),
            Step::Drop(which) => {
                if !self.tasks.is_empty() {
                    self.dropped += 1;
                    drop(self.tasks.swap_remove(which % self.tasks.len()));
                }
            }
            Step::Reclaim => self.shared.reclaim(&mut lock(&self.shared.books), usize::MAX),
            Step::Stats => drop(self.pool.stats()),
            Step::WakeAll => self.shared.wake_all(),
            Step::Restate => self.shared.restate(),
            Step::Attach => self.attach(),
            Step::Trim(spared) => {
                self.region().small().trim(spared, 5, |run| {
                    self.region().discard(
                        self.region().layout().small + run.first as u64 * SMALL_EXTENT,
                        run.count as u64 * SMALL_EXTENT,
                    );
                });
            }
        }
    }

    /// What the supervisor does at the end of a pool, and what holds then.
    pub(super) fn end(mut self) {
        self.shared.stop(Door::Terminated, &Failure::Terminated);
        (0..SEATS as usize).for_each(|worker| self.die(worker));
        self.audit(0);
        self.shared.end_rest(&Failure::Terminated);
        for task in self.tasks.drain(..) {
            assert!(task.is_ended(), "a task has no end");
            self.outcomes += 1;
            read(task.take());
        }
        self.shared.reclaim(&mut lock(&self.shared.books), usize::MAX);
        assert_eq!(lock(&self.shared.books).live(), [], "a slot is lost");
        assert_eq!(self.outcomes + self.dropped, self.accepted, "a task has no outcome, or two");
        self.shared.collector.finish(&self.shared);
        assert_eq!(self.heard.load(Ordering::Relaxed), self.listened, "a listener was not called, or twice");
    }
}

/// Looks at every byte that an outcome says it has.
pub(super) fn read(outcome: Outcome) {
    let payload = match outcome {
        Outcome::Returned(payload) | Outcome::Raised(payload) => payload,
        Outcome::Failed(failure) => return drop(format!("{failure:?}")),
    };
    let buffers = payload.lease().map_or(&[][..], |lease| lease.buffers());
    look_at(payload.head().iter().chain(buffers));
}

fn look_at<'a>(bytes: impl Iterator<Item = &'a u8>) {
    std::hint::black_box(bytes.fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
}
