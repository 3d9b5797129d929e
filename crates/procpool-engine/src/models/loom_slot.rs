//! One slot: who gets a task, who sees its payload, who hears of its end.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::check;
use crate::queue::Entry;
use crate::slot::{Event, State, Word};
use crate::sync::{AtomicU64, Ordering};

const TICKET: u64 = 7;
const SEAT: u32 = 3;

struct Slot {
    word: Word,
    event: Event,
    payload: UnsafeCell<u64>,
    /// What the worker's seat says: see `Seat::intend`.
    current: AtomicU64,
}

// SAFETY: who may touch the payload is what the models check; loom fails where two do.
unsafe impl Sync for Slot {}
// SAFETY: as above.
unsafe impl Send for Slot {}

impl Slot {
    fn free() -> Arc<Self> {
        Arc::new(Self {
            word: Word::new(),
            event: Event::new(),
            payload: UnsafeCell::new(0),
            current: AtomicU64::new(0),
        })
    }

    /// A slot with a task in it that nobody has claimed.
    fn ready() -> Arc<Self> {
        let slot = Self::free();
        slot.write(1);
        slot.word.publish(TICKET);
        slot
    }

    /// A slot with a task that `SEAT` runs.
    fn claimed() -> Arc<Self> {
        let slot = Self::ready();
        assert!(slot.word.claim(slot.word.read(), SEAT));
        slot
    }

    fn write(&self, value: u64) {
        // SAFETY: loom checks that nobody else is at it.
        self.payload.with_mut(|payload| unsafe { *payload = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: as above.
        self.payload.with(|payload| unsafe { *payload })
    }

    fn is_ended(&self) -> bool {
        let seen = self.word.read();
        seen.is_for(TICKET) && seen.state().is_some_and(State::is_ended)
    }

    /// The steps of `Worker::finish`.
    fn finish(&self, reply: u64) -> bool {
        self.write(reply);
        let finished = self.word.finish(TICKET, SEAT);
        if finished {
            self.event.end();
        }
        finished
    }

    /// The steps of `Task::sleep`.
    fn wait(&self) {
        loop {
            let seen = self.event.wait();
            if self.is_ended() {
                return;
            }
            self.event.sleep(seen, None);
        }
    }
}

/// A worker would run half a payload, or the caller would read half a reply.
///
/// Broken once: `publish`, `finish` or `read` with Relaxed: "Causality violation: Concurrent read and write accesses".
#[test]
fn the_payload_is_seen_by_who_claims_and_the_reply_by_who_sees_the_end() {
    check(|| {
        let slot = Slot::free();
        let worker = {
            let slot = slot.clone();
            thread::spawn(move || {
                let seen = slot.word.read();
                if slot.word.claim(seen, SEAT) {
                    assert_eq!(slot.read(), 1);
                    assert!(slot.finish(2));
                }
            })
        };
        slot.write(1);
        slot.word.publish(TICKET);
        if slot.is_ended() {
            assert_eq!(slot.read(), 2);
        }
        worker.join().unwrap();
    });
}

/// A cancelled task would run, or a task that runs would be reported as cancelled.
///
/// Broken once: `cancel` as a load and a store: "the task was cancelled, and ran".
#[test]
fn a_task_is_cancelled_or_claimed_but_not_both() {
    check(|| {
        let slot = Slot::ready();
        let worker = {
            let slot = slot.clone();
            thread::spawn(move || slot.word.claim(slot.word.read(), SEAT))
        };
        let cancelled = slot.word.cancel(TICKET);
        let claimed = worker.join().unwrap();
        assert!(cancelled != claimed, "the task was cancelled, and ran");
        let expected = if cancelled { State::Cancelled } else { State::Claimed };
        assert_eq!(slot.word.read().state(), Some(expected));
    });
}

/// A worker would be killed for a task that it had finished, and with it the next task, which is innocent.
///
/// Broken once: `doom` as a load and a store: "finished, and doomed".
#[test]
fn a_task_is_finished_or_doomed_but_not_both() {
    check(|| {
        let slot = Slot::claimed();
        let worker = {
            let slot = slot.clone();
            thread::spawn(move || slot.finish(2))
        };
        let doomed = slot.word.doom(TICKET);
        let finished = worker.join().unwrap();
        assert!(finished == doomed.is_none(), "finished, and doomed");
        if let Some(seat) = doomed {
            assert_eq!(seat, SEAT);
            // The worker is joined, that is to say dead: only now may its slot be taken back (I3), and it was not
            // written to after the doom.
            slot.word.settle(TICKET);
            slot.write(3);
        }
        assert!(slot.is_ended());
    });
}

/// The caller would sleep on after the task's end: `get` would hang.
///
/// Broken once: looked at the word before `event.wait()`; `register` or `end` with Relaxed: "deadlock; threads = ...".
#[test]
fn nobody_sleeps_through_the_end_of_a_task() {
    check(|| {
        let slot = Slot::claimed();
        let worker = {
            let slot = slot.clone();
            thread::spawn(move || assert!(slot.finish(2)))
        };
        slot.wait();
        assert_eq!(slot.read(), 2);
        worker.join().unwrap();
    });
}

/// A listener would never be called.
///
/// Broken once: looked at the word before `event.listen()`; `register` or `end` with Relaxed: "the listener is
/// forgotten".
#[test]
fn an_end_is_seen_by_the_listener_or_the_listener_by_the_end() {
    check(|| {
        let slot = Slot::claimed();
        let worker = {
            let slot = slot.clone();
            thread::spawn(move || {
                assert!(slot.word.finish(TICKET, SEAT));
                slot.event.end()
            })
        };
        slot.event.listen();
        let seen_by_listener = slot.is_ended();
        let told_by_worker = worker.join().unwrap();
        assert!(seen_by_listener || told_by_worker, "the listener is forgotten");
    });
}

/// A worker tells of the end of the slot's *former* task while the caller waits for the present one, and the caller
/// would take that for a reason not to be woken: the end of its own task would change nothing under it.
///
/// Broken once: the end as a flag that is set (as it was at first): "deadlock; threads = ...".
#[test]
fn a_late_end_of_the_slots_former_task_loses_no_wake_up() {
    check(|| {
        let slot = Slot::free();
        let late = {
            let slot = slot.clone();
            thread::spawn(move || {
                slot.event.end();
            })
        };
        // The former task's outcome was taken as soon as its word said so.
        slot.event.reset();
        slot.word.publish(TICKET);
        let worker = {
            let slot = slot.clone();
            thread::spawn(move || {
                assert!(slot.word.claim(slot.word.read(), SEAT));
                assert!(slot.finish(2));
            })
        };
        slot.wait();
        late.join().unwrap();
        worker.join().unwrap();
    });
}

/// The audit would take a task that runs for rubbish, and end it as corrupt.
///
/// Broken once: `claim` with Acquire only (as it was at first): "a claim by a worker whose seat names no task".
#[test]
fn who_sees_a_claim_sees_that_the_worker_had_named_the_task() {
    check(|| {
        let slot = Slot::ready();
        let name = u64::from(Entry::new(1, TICKET).tag);
        let worker = {
            let slot = slot.clone();
            thread::spawn(move || {
                let seen = slot.word.read();
                slot.current.store(name, Ordering::Release);
                assert!(slot.word.claim(seen, SEAT));
            })
        };
        if slot.word.read().state() == Some(State::Claimed) {
            let named = slot.current.load(Ordering::Acquire);
            assert_eq!(named, name, "a claim by a worker whose seat names no task");
        }
        worker.join().unwrap();
    });
}
