//! The collector: it looks at every slot that it was told of.

use std::sync::Arc;

use loom::thread;

use super::{check, until};
use crate::ended::Ended;
use crate::faults::Point;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// In different words, so that the summary has two bits.
const SLOTS: [u32; 2] = [3, 64];

struct House {
    slots: [AtomicU64; 2],
    summary: [AtomicU64; 1],
    bed: AtomicU32,
    /// Which of the slots have ended: what the collector believes.
    ended: [AtomicU32; 2],
}

impl House {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            slots: [AtomicU64::new(0), AtomicU64::new(0)],
            summary: [AtomicU64::new(0)],
            bed: AtomicU32::new(0),
            ended: [AtomicU32::new(0), AtomicU32::new(0)],
        })
    }

    fn ended(&self) -> Ended<'_> {
        Ended { slots: &self.slots, summary: &self.summary, bed: &self.bed }
    }

    fn end(&self, which: usize) {
        self.ended[which].store(1, Ordering::Release);
        self.ended().tell(SLOTS[which]);
    }

    /// A worker that ends its task and vanishes at `point`, if it comes there.
    fn vanish(self: &Arc<Self>, point: Point) -> thread::JoinHandle<()> {
        let house = self.clone();
        thread::spawn(move || _ = until(point, || house.end(0)))
    }

    /// The collector, until it has called `count` listeners: the steps of `collect::serve`.
    fn collect(&self, count: usize) {
        let mut called = [false; 2];
        let mut serve = || {
            self.ended().take(|slot| {
                let which = SLOTS.iter().position(|&known| known == slot).unwrap();
                called[which] |= self.ended[which].load(Ordering::Acquire) != 0;
            });
            called.iter().filter(|&&called| called).count() == count
        };
        while !serve() {
            self.ended().sleep(None, &mut serve);
        }
    }
}

/// A listener would be called when the next task ends, or never.
///
/// Broken once: `sleep` without its look; `tell` that rouses first; the summary's bit before the slot's; `rouse` with
/// Relaxed; a store in `sleep` instead of the swap: "deadlock; threads = ...".
#[test]
fn the_collector_does_not_sleep_through_an_end() {
    check(|| {
        let house = House::new();
        let tellers = [0, 1].map(|which| {
            let house = house.clone();
            thread::spawn(move || house.end(which))
        });
        house.collect(2);
        tellers.into_iter().for_each(|teller| teller.join().unwrap());
    });
}

/// A worker that is killed while it tells would leave a bit that nobody looks at, and the listener would wait for ever.
///
/// Broken once: the supervisor told nothing: "deadlock; threads = ...".
#[test]
fn what_a_vanished_worker_told_by_half_is_told_again() {
    check(|| {
        let house = House::new();
        let vanishing = house.vanish(Point::BitSet);
        let supervisor = {
            let house = house.clone();
            thread::spawn(move || {
                vanishing.join().unwrap();
                house.ended().tell(SLOTS[0]);
            })
        };
        house.collect(1);
        supervisor.join().unwrap();
    });
}

/// A worker that is killed in `rouse` would leave the collector asleep on a bed that says awake, and whoever tells after
/// that would take it for awake.
///
/// Broken once: the supervisor only told again: "deadlock; threads = ...".
#[test]
fn the_collector_is_woken_for_one_who_vanished_before_it_did_so() {
    check(|| {
        let house = House::new();
        let vanishing = house.vanish(Point::Called);
        let supervisor = {
            let house = house.clone();
            thread::spawn(move || {
                vanishing.join().unwrap();
                house.ended().tell(SLOTS[0]);
                house.ended().shake();
            })
        };
        house.collect(1);
        supervisor.join().unwrap();
    });
}
