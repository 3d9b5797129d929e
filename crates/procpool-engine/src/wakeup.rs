//! What it costs to wake a worker, and on which CPU it wakes.
//!
//! To wake a worker on another CPU takes 5 to 20 µs; in a virtual machine, whose idle CPUs are halted, 40 to 60. There caller
//! and worker would go on to sleep and to wake one another, each after a look that ends just too early. So workers measure
//! what it costs, and that says how long it pays to look.
//!
//! As a guest, Linux also takes a halted CPU for one that its host has no time for, and wakes a worker beside its waker
//! instead (`available_idle_cpu` in kernel/sched). Then the two take turns on one CPU, at 10 µs a task instead of 0.4, and
//! the other one has nothing to do, until the kernel balances its load, some 60 ms later. So a worker that is woken beside
//! its waker, from a rest of but a moment, goes to another CPU.

use std::time::Duration;

use crate::os::{clock, cpu};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::wake::Idlers;

/// The least and the most that anybody looks.
const LOOK: (Duration, Duration) = (Duration::from_micros(20), Duration::from_micros(100));

/// What takes longer was no wake-up: others had the CPU.
const DEAREST: Duration = Duration::from_micros(200);

/// A rest that is longer than this is no pause between two tasks of one caller.
const PAUSE: Duration = Duration::from_micros(100);

/// After a move a worker stays for so many times as long as that took.
const STAY: u64 = 20;

/// What a wake-up costs, in nanoseconds, as workers find it: a mean in which each counts for a quarter.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Cost(AtomicU64);

/// Who rang a worker's bed.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Rung {
    /// When, in nanoseconds of the monotonic clock.
    at: AtomicU64,
    /// From which CPU.
    on: AtomicU32,
}

impl Cost {
    /// As long as it pays to look for what would otherwise have to wake somebody. Whatever is written there (*I4*), it is
    /// no longer than a tenth of a millisecond.
    pub(crate) fn worth(&self) -> Duration {
        // Half more than the mean, since most of them should be covered.
        let cost = self.0.load(Ordering::Relaxed);
        Duration::from_nanos(cost.saturating_add(cost / 2)).clamp(LOOK.0, LOOK.1)
    }

    /// Of workers that do so at the same moment one may do it in vain.
    fn learn(&self, cost: Duration) {
        let known = self.0.load(Ordering::Relaxed);
        if cost <= DEAREST {
            self.0.store(known - known / 4 + cost.as_nanos() as u64 / 4, Ordering::Relaxed);
        }
    }
}

impl Rung {
    /// Whoever rings, before that.
    pub(crate) fn note(&self) {
        // ORDER: Relaxed: the bed publishes them; and they are but an estimate.
        self.at.store(clock::now(), Ordering::Relaxed);
        self.on.store(cpu::current(), Ordering::Relaxed);
    }
}

/// A worker's account of its wake-ups.
#[derive(Debug, Default)]
pub(crate) struct Wakeups {
    /// It does not move before that.
    next_move: u64,
    /// It was woken on its waker's CPU, and is still there, as far as it knows.
    is_beside_waker: bool,
}

impl Wakeups {
    /// The worker was woken, by whoever has `rung`, from a rest that began then.
    pub(crate) fn note(&mut self, began: u64, rung: &Rung, cost: &Cost, idlers: &Idlers) {
        let now = clock::now();
        let (rung_at, waker) = (rung.at.load(Ordering::Relaxed), rung.on.load(Ordering::Relaxed));
        let is_beside = waker == cpu::current();
        // Else there was no sleep to be woken from.
        let has_slept = (began..now).contains(&rung_at);
        if has_slept && !is_beside {
            cost.learn(Duration::from_nanos(now - rung_at));
        }
        let rest = Duration::from_nanos(now - began);
        if is_beside && rest < PAUSE && now >= self.next_move && idlers.leave_a_cpu() {
            cpu::leave(waker);
            // It takes long where others are at work, and the more seldom is it worth it.
            let took = clock::since(now);
            cost.learn(took);
            self.next_move = now + took.as_nanos() as u64 * STAY;
        }
        self.is_beside_waker = waker == cpu::current();
    }

    /// Whether looking for work keeps from running whoever has some.
    pub(crate) fn is_beside_waker(&self) -> bool {
        self.is_beside_waker
    }
}

#[cfg(all(test, not(any(shuttle, miri))))]
mod tests {
    use super::*;

    fn cost() -> Cost {
        Cost(AtomicU64::new(0))
    }

    /// Of one worker, that is awake.
    fn idlers(cpus: usize) -> Idlers {
        let idlers = Idlers::new(1);
        idlers.set_workers(1, cpus);
        idlers
    }

    fn rung_from(cpu: u32) -> Rung {
        Rung { at: AtomicU64::new(clock::now()), on: AtomicU32::new(cpu) }
    }

    #[test]
    fn one_looks_somewhat_longer_than_a_wake_up_costs() {
        let cost = cost();
        assert_eq!(cost.worth(), LOOK.0);
        (0..20).for_each(|_| cost.learn(Duration::from_micros(40)));
        assert!((Duration::from_micros(58)..=Duration::from_micros(60)).contains(&cost.worth()));
        (0..20).for_each(|_| cost.learn(DEAREST));
        assert_eq!(cost.worth(), LOOK.1);
        (0..20).for_each(|_| cost.learn(Duration::from_micros(3)));
        assert_eq!(cost.worth(), LOOK.0);
    }

    #[test]
    fn what_others_took_the_cpu_for_is_no_cost() {
        let cost = cost();
        cost.learn(Duration::from_millis(3));
        assert_eq!(cost.worth(), LOOK.0);
    }

    #[test]
    fn rubbish_makes_nobody_look_for_long() {
        let cost = Cost(AtomicU64::new(u64::MAX));
        assert_eq!(cost.worth(), LOOK.1);
        cost.learn(DEAREST);
        let mut wakeups = Wakeups::default();
        for at in [0, u64::MAX] {
            wakeups.note(
                0,
                &Rung { at: AtomicU64::new(at), on: AtomicU32::new(u32::MAX) },
                &cost,
                &idlers(2),
            );
        }
        assert_eq!(cost.worth(), LOOK.1);
    }

    #[test]
    fn a_worker_that_is_woken_elsewhere_learns_what_that_costs() {
        let (cost, began) = (cost(), clock::now());
        let rung = rung_from(u32::MAX);
        let mut wakeups = Wakeups::default();
        wakeups.note(began, &rung, &cost, &idlers(2));
        assert!(!wakeups.is_beside_waker());
        assert!(cost.0.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn a_worker_that_stays_beside_its_waker_knows() {
        let stays = || {
            let mut wakeups = Wakeups { next_move: u64::MAX, ..Wakeups::default() };
            wakeups.note(clock::now(), &rung_from(cpu::current()), &cost(), &idlers(2));
            wakeups.is_beside_waker()
        };
        assert!((0..1000).any(|_| stays()));
    }

    #[test]
    fn a_worker_that_is_woken_beside_its_waker_after_a_moment_moves_but_not_always() {
        let moves = |next_move: u64, rest: Duration, cpus: usize| {
            let mut wakeups = Wakeups { next_move, ..Wakeups::default() };
            let began = clock::now() - rest.as_nanos() as u64;
            wakeups.note(began, &rung_from(cpu::current()), &cost(), &idlers(cpus));
            wakeups.next_move > next_move
        };
        // Somebody else may move it, or take its CPU, at just this moment.
        let ever_moves = |next_move, rest, cpus| (0..1000).any(|_| moves(next_move, rest, cpus));
        assert!(ever_moves(0, Duration::ZERO, 2));
        assert!(!ever_moves(0, PAUSE, 2));
        assert!(!ever_moves(0, Duration::ZERO, 1));
        assert!(!ever_moves(u64::MAX, Duration::ZERO, 2));
    }
}
