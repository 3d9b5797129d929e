//! Extents: one owner each, also when their owner dies.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::check;
use crate::arena::{Owner, Run, Search, Zone};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

struct House {
    owners: Vec<AtomicU32>,
    high: AtomicU64,
    /// What lies in the extents. Loom fails where two write at once.
    memory: Vec<UnsafeCell<u32>>,
}

// SAFETY: who may touch an extent is what the models check; loom fails where two do.
unsafe impl Sync for House {}
// SAFETY: as above.
unsafe impl Send for House {}

impl House {
    fn with(extents: usize) -> Arc<Self> {
        Arc::new(Self {
            owners: (0..extents).map(|_| AtomicU32::new(0)).collect(),
            high: AtomicU64::new(0),
            memory: (0..extents).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    fn zone(&self) -> Zone<'_> {
        Zone { owners: &self.owners, high: &self.high }
    }

    fn claim(&self, home: usize, count: usize, owner: Owner) -> Option<Run> {
        let run = self.zone().claim(&mut Search::new(home), count, owner)?;
        self.write(run, count as u32);
        Some(run)
    }

    fn write(&self, run: Run, value: u32) {
        for cell in &self.memory[run.first..run.first + run.count] {
            // SAFETY: loom checks that nobody else is at it.
            cell.with_mut(|byte| unsafe { *byte = value });
        }
    }
}

/// Two payloads would lie in the same memory, or memory that both gave up would be lost.
///
/// Broken once: `change` as a load and a store: "Causality violation: Concurrent write accesses to `UnsafeCell`"; `claim_run`
/// that kept what it had when it found no run: "left: 3, right: 2".
#[test]
fn no_extent_has_two_owners_and_who_finds_no_run_keeps_nothing() {
    check(|| {
        let house = House::with(3);
        let workers = [(1, Owner::worker(1)), (0, Owner::worker(2))].map(|(home, owner)| {
            let house = house.clone();
            thread::spawn(move || house.claim(home, 2, owner).is_some())
        });
        let claims = workers.map(|worker| worker.join().unwrap());
        let claims = claims.into_iter().filter(|&claimed| claimed).count();
        // Of three extents only one run of two can be had at a time; it may be that each got in the other's way.
        assert!(claims <= 1);
        assert_eq!(house.zone().in_use(), claims * 2);
    });
}

/// What the former owner wrote would show up in the new owner's payload.
///
/// Broken once: `change` with Relaxed: "Causality violation: Concurrent write accesses to `UnsafeCell`".
#[test]
fn who_takes_an_extent_comes_after_who_gave_it_back() {
    check(|| {
        let house = House::with(1);
        let first = house.claim(0, 1, Owner::worker(1)).unwrap();
        let worker = {
            let house = house.clone();
            thread::spawn(move || {
                house.write(first, 7);
                house.zone().release(first, Owner::worker(1));
            })
        };
        if let Some(run) = house.claim(0, 1, Owner::PARENT) {
            assert_eq!(run, first);
        }
        worker.join().unwrap();
    });
}

/// A finished reply would be freed with its dead worker, under the caller who reads it; or what the worker left would
/// stay its own for ever.
///
/// Broken once: `recover` before `adopt`: "the reply belongs to somebody else".
#[test]
fn a_reply_survives_its_workers_death_and_nothing_else_does() {
    check(|| {
        let house = House::with(3);
        let dead = Owner::worker(1);
        let reply = house.claim(0, 1, dead).unwrap();
        let _unfinished = house.claim(1, 1, dead).unwrap();
        // Another worker looks for room meanwhile.
        let other = {
            let house = house.clone();
            thread::spawn(move || house.claim(0, 2, Owner::worker(2)).is_some())
        };
        // The supervisor rescues, and the caller takes: `Shared::settle_death` and `Occupied::adopt`.
        assert!(house.zone().adopt(reply, dead, Owner::PARENT));
        assert_eq!(house.zone().recover(dead), 1);
        assert!(!house.zone().adopt(reply, dead, Owner::PARENT));
        house.write(reply, 9);
        let other = other.join().unwrap();
        assert_eq!(
            house.zone().in_use(),
            1 + if other { 2 } else { 0 },
            "the reply belongs to somebody else"
        );
        house.zone().release(reply, Owner::PARENT);
    });
}

/// Supervisor and caller both want a reply whose worker died: both would own it, and free it twice.
///
/// Broken once: `change` as a load and a store: "assertion failed: !(supervisor && caller)".
#[test]
fn a_reply_is_adopted_once() {
    check(|| {
        let house = House::with(2);
        let dead = Owner::worker(1);
        let reply = house.claim(0, 2, dead).unwrap();
        let caller = {
            let house = house.clone();
            thread::spawn(move || house.zone().adopt(reply, dead, Owner::PARENT))
        };
        let supervisor = house.zone().adopt(reply, dead, Owner::PARENT);
        let caller = caller.join().unwrap();
        // Not atomic as a whole: that is what the lock around `rescued` is for. But never both.
        assert!(!(supervisor && caller));
        assert_eq!(house.zone().recover(dead), 0);
        assert_eq!(house.zone().in_use(), 2);
    });
}

/// A worker that dies between its claim and the mark of how far memory is in use would leave extents that `recover`
/// does not come to. The other thread looks at every instant at which it may die.
///
/// Broken once: the mark after the claim (as it was at first): "extent 1 is beyond the mark".
#[test]
fn at_every_instant_all_that_is_owned_lies_below_the_mark() {
    check(|| {
        let house = House::with(2);
        let worker = {
            let house = house.clone();
            thread::spawn(move || house.claim(0, 2, Owner::worker(1)).is_some())
        };
        for index in 0..2 {
            if house.owners[index].load(Ordering::Acquire) != 0 {
                let high = house.high.load(Ordering::Relaxed);
                assert!(high > index as u64, "extent {index} is beyond the mark");
            }
        }
        assert!(worker.join().unwrap());
    });
}

/// Memory would be given back to the system under somebody who has just claimed it.
///
/// Broken once: `trim` that looks at the owner and claims nothing: "Causality violation: Concurrent write accesses".
#[test]
fn trimming_takes_only_what_is_nobodys_and_gives_it_back() {
    check(|| {
        let house = House::with(2);
        let first = house.claim(0, 1, Owner::worker(1)).unwrap();
        house.zone().release(first, Owner::worker(1));
        let worker = {
            let house = house.clone();
            thread::spawn(move || house.claim(0, 1, Owner::worker(2)))
        };
        house.zone().trim(0, usize::MAX, |run| house.write(run, 0));
        let claimed = worker.join().unwrap();
        assert_eq!(house.zone().in_use(), claimed.map_or(0, |run| run.count));
    });
}
