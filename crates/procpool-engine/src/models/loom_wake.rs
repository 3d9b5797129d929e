//! Sleep and wake: a task that is ready, and a worker that sleeps, do not go together for long.
//!
//! Spinning, sleeping, waking and passing on are the real code. `House::next` is `Worker::claim_or_sleep`, and
//! `House::submit` is `Shared::submit` with `wake_for_push`, without what has nothing to do with sleep.

use std::sync::Arc;

use loom::thread;

use super::{check, until};
use crate::faults::Point;
use crate::queue::{Cursor, Entry, Head, Levels, Queue, Tail, cells};
use crate::slot::Word;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::wake::{Bed, Idlers};

const LEVELS: usize = 3;

struct House {
    head: Head,
    tail: AtomicU64,
    levels: Levels,
    cells: Vec<AtomicU64>,
    slots: [Word; 2],
    idlers: Idlers,
    beds: [Bed; 2],
    /// Whether idle workers look at the queue before they sleep, and how often.
    looks: u32,
    closed: AtomicU32,
}

impl House {
    fn with_spinners(looks: u32) -> Arc<Self> {
        Arc::new(Self {
            head: Head::new(),
            tail: AtomicU64::new(0),
            levels: Levels::new(),
            cells: (0..cells(LEVELS)).map(|_| AtomicU64::new(0)).collect(),
            slots: [Word::new(), Word::new()],
            idlers: Idlers::new(1),
            beds: [Bed::new(), Bed::new()],
            looks,
            closed: AtomicU32::new(0),
        })
    }

    fn queue(&self) -> Queue<'_> {
        Queue { head: &self.head, tail: &self.tail, levels: &self.levels, cells: &self.cells }
    }

    // ---- the parent ----

    fn submit(&self, tail: &mut Tail, slot: u32) {
        self.push(tail, slot);
        self.wake_for_push();
    }

    fn push(&self, tail: &mut Tail, slot: u32) {
        let ticket = u64::from(slot) + 1;
        self.slots[slot as usize].publish(ticket);
        self.queue().push(tail, Entry::new(slot, ticket)).unwrap();
    }

    fn wake_for_push(&self) {
        if let Some(seat) = self.idlers.someone_to_wake() {
            self.beds[seat as usize].ring();
        }
    }

    /// `Shared::settle_death`, as far as sleep goes.
    fn settle_death(&self, seat: u32) {
        self.idlers.bury(seat);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.idlers.mend(2);
        self.beds.iter().for_each(Bed::ring);
    }

    fn close(&self) {
        self.closed.store(1, Ordering::SeqCst);
        self.wake_all();
    }

    // ---- a worker ----

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) != 0
    }

    fn claim(&self, cursor: &mut Cursor, seat: u32) -> bool {
        let word = |slot| self.slots.get(slot as usize);
        self.queue().claim(cursor, seat, word, |_| ()).is_some()
    }

    fn idle(&self, seat: u32, spinning: &mut bool) {
        *spinning |= self.looks > 0 && self.idlers.begin_spinning(seat);
        if !(*spinning && (0..self.looks).any(|_| !self.queue().is_empty())) {
            if *spinning {
                self.stop_spinning(seat, spinning);
                self.pass_on();
            }
            let must_look = || !self.queue().is_empty() || self.is_closed();
            *spinning = self.idlers.sleep(seat, &self.beds[seat as usize], must_look);
        }
    }

    fn stop_spinning(&self, seat: u32, spinning: &mut bool) {
        if std::mem::take(spinning) {
            self.idlers.stop_spinning(seat);
        }
    }

    fn pass_on(&self) {
        if let Some(seat) = self.idlers.pass_on(&self.queue()) {
            self.beds[seat as usize].ring();
        }
    }

    /// Claims a task, waiting for one; false when the pool has closed. `spinning`: it has just finished another, and
    /// pushers count on it.
    fn next(&self, cursor: &mut Cursor, seat: u32, mut spinning: bool) -> bool {
        let mut has_idled = spinning;
        loop {
            if self.claim(cursor, seat) {
                if has_idled {
                    self.stop_spinning(seat, &mut spinning);
                    self.pass_on();
                }
                return true;
            }
            if has_idled && self.is_closed() && self.queue().is_empty() {
                return false;
            }
            self.idle(seat, &mut spinning);
            has_idled = true;
        }
    }

    /// A worker that gets one task and does not come back from it, or leaves when the pool closes.
    fn worker(self: &Arc<Self>, seat: u32) -> thread::JoinHandle<bool> {
        let house = self.clone();
        thread::spawn(move || house.next(&mut Cursor::default(), seat, false))
    }

    /// As if a worker had fallen asleep: what it did up to then, without a thread.
    fn put_to_sleep(&self, seat: u32) {
        let fell_asleep =
            until(Point::Announced, || self.idlers.sleep(seat, &self.beds[seat as usize], || false));
        assert!(fell_asleep.is_none());
    }
}

/// The only worker would sleep while its task waits.
///
/// Broken once: without the fence in `announce`; without the one in `someone_to_wake`; looked at the queue before the
/// announcement; read the bed after it: "deadlock; threads = ...".
#[test]
fn a_worker_does_not_sleep_through_a_push() {
    check(|| {
        let house = House::with_spinners(0);
        let mut tail = Tail::begin(&house.queue());
        let worker = house.worker(0);
        house.submit(&mut tail, 0);
        assert!(worker.join().unwrap());
    });
}

/// As above, for a worker that spins first: the pusher spares it the wake-up.
///
/// Broken once: without the fence in `someone_to_wake`: "deadlock; threads = ...".
#[test]
fn a_worker_that_spins_finds_what_was_pushed() {
    check(|| {
        let house = House::with_spinners(1);
        let mut tail = Tail::begin(&house.queue());
        let worker = house.worker(0);
        house.submit(&mut tail, 0);
        assert!(worker.join().unwrap());
    });
}

/// A task would wait behind another that runs, although a worker sleeps: each of these workers runs but one.
///
/// Broken once: as in `a_worker_does_not_sleep_through_a_push`, with the same result.
#[test]
fn two_tasks_find_two_workers() {
    check(|| {
        let house = House::with_spinners(0);
        let mut tail = Tail::begin(&house.queue());
        let workers = [0, 1].map(|seat| house.worker(seat));
        house.submit(&mut tail, 0);
        house.submit(&mut tail, 1);
        workers.into_iter().for_each(|worker| assert!(worker.join().unwrap()));
    });
}

/// As above, when the pusher spares the sleeper since it still sees the other worker spin, which has found something
/// and stops.
///
/// Broken once: `pass_on` without its fence (as it was at first), or left out: "a task waits, and a worker sleeps".
#[test]
fn no_task_waits_because_its_pusher_saw_a_worker_spin() {
    check(|| {
        let house = House::with_spinners(1);
        let mut tail = Tail::begin(&house.queue());
        house.put_to_sleep(1);
        let asleep = house.beds[1].read();
        let worker = house.worker(0);
        house.submit(&mut tail, 0);
        house.submit(&mut tail, 1);
        assert!(worker.join().unwrap());
        assert_ne!(house.beds[1].read(), asleep, "a task waits, and a worker sleeps");
    });
}

/// As above, for a worker that has just finished a task and goes for the next, or leaves instead: whoever pushes meanwhile
/// spares the sleeper.
///
/// Broken once: `claim_or_sleep` passes on only after a look of its own; `leave` does not: "a task waits, and a worker
/// sleeps".
#[test]
fn no_task_waits_because_its_pusher_counted_on_a_worker_that_had_just_finished() {
    for leaves in [false, true] {
        check(move || {
            let house = House::with_spinners(1);
            let mut tail = Tail::begin(&house.queue());
            house.put_to_sleep(1);
            let asleep = house.beds[1].read();
            let worker = {
                let house = house.clone();
                thread::spawn(move || {
                    let mut spinning = house.idlers.begin_spinning(0);
                    if leaves {
                        house.stop_spinning(0, &mut spinning);
                        house.pass_on();
                        return false;
                    }
                    house.next(&mut Cursor::default(), 0, spinning)
                })
            };
            house.submit(&mut tail, 0);
            if !leaves {
                house.submit(&mut tail, 1);
            }
            assert_eq!(worker.join().unwrap(), !leaves);
            assert_ne!(house.beds[1].read(), asleep, "a task waits, and a worker sleeps");
        });
    }
}

/// As above, when the pusher spares the sleeper since it sees that another pusher wakes one, which was about to get up by
/// itself.
///
/// Broken once: `someone_to_wake` looks no further where the sleeper is none any more: "a task waits, and a worker sleeps".
#[test]
fn no_task_waits_because_its_pusher_counted_on_a_sleeper_that_got_up_by_itself() {
    check(|| {
        let house = House::with_spinners(0);
        let mut tail = Tail::begin(&house.queue());
        house.put_to_sleep(1);
        let asleep = house.beds[1].read();
        let worker = house.worker(0);
        house.push(&mut tail, 0);
        let other = {
            let house = house.clone();
            thread::spawn(move || house.wake_for_push())
        };
        house.submit(&mut tail, 1);
        other.join().unwrap();
        assert!(worker.join().unwrap());
        assert_ne!(house.beds[1].read(), asleep, "a task waits, and a worker sleeps");
    });
}

/// A task would wait until a worker that naps looks again, although another has just become idle.
///
/// Broken once: `begin_spinning` lets the one that naps go on being the spinner: "deadlock; threads = ...".
#[test]
fn who_becomes_idle_takes_the_place_of_a_spinner_that_naps() {
    check(|| {
        let house = House::with_spinners(1);
        let mut tail = Tail::begin(&house.queue());
        assert!(house.idlers.begin_spinning(0));
        let nap = || {
            let worker = house.worker(1);
            house.submit(&mut tail, 0);
            assert!(worker.join().unwrap());
        };
        house.idlers.nap(0, nap);
    });
}

/// Tasks would be left to a worker that runs one, since it thinks that pushers count on another.
///
/// Broken once: `nap` says no whatever happened: "it would not cease to be".
#[test]
fn who_napped_knows_whether_it_is_still_counted_on() {
    check(|| {
        let house = House::with_spinners(1);
        assert!(house.idlers.begin_spinning(0));
        let other = {
            let house = house.clone();
            thread::spawn(move || house.idlers.begin_spinning(1))
        };
        let is_counted_on = house.idlers.nap(0, || ());
        let was_replaced = other.join().unwrap();
        assert_ne!(is_counted_on, was_replaced, "it would not cease to be");
    });
}

/// A worker that is killed after it chose whom to wake and before it rang would leave that one asleep for ever: its bit
/// is cleared, so no pusher finds it, and `close` would not either.
///
/// Broken once: `wake_all` by the bits of those who sleep (as it was at first): "deadlock; threads = ...".
#[test]
fn a_worker_that_vanishes_before_it_rings_leaves_nobody_asleep_for_ever() {
    for point in [Point::Appointed, Point::Chose] {
        check(move || {
            let house = House::with_spinners(0);
            let sleeper = house.worker(1);
            let vanishing = {
                let house = house.clone();
                // The steps of `pass_on`; the bed is never rung.
                thread::spawn(move || until(point, || house.idlers.someone_to_wake()).is_some())
            };
            vanishing.join().unwrap();
            house.settle_death(0);
            house.close();
            assert!(!sleeper.join().unwrap());
        });
    }
}

/// The wake-up for a task would go to a worker that died in its sleep, and the others would sleep on.
///
/// Broken once: `settle_death` without `wake_all`: "deadlock; threads = ...".
#[test]
fn a_wake_up_that_went_to_a_dead_worker_is_repeated() {
    check(|| {
        let house = House::with_spinners(0);
        let mut tail = Tail::begin(&house.queue());
        let vanishing = {
            let house = house.clone();
            thread::spawn(move || until(Point::Announced, || house.next(&mut Cursor::default(), 0, false)))
        };
        let other = house.worker(1);
        house.submit(&mut tail, 0);
        // Where it did not come to the point it has claimed the task, and the other goes when the pool closes.
        let claimed = vanishing.join().unwrap().is_some();
        house.settle_death(0);
        if claimed {
            house.close();
        }
        assert_eq!(other.join().unwrap(), !claimed);
    });
}
