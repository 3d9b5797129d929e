//! What it costs to wake a worker, and on which CPU it wakes.
//!
//! To wake a worker on another CPU takes 5 to 20 µs; in a virtual machine, whose host must first run the idle CPU again, 40
//! to 60. There caller and worker would go on to sleep and to wake one another, each after a look that ends just too early.
//! So workers measure what it costs, and that says how long it pays to look.
//!
//! As a guest, Linux also takes a halted CPU for one that its host has no time for, and wakes a worker beside its waker
//! instead (`available_idle_cpu` in kernel/sched). Then the two take turns on one CPU, at 10 µs a task instead of 0.4,
//! until the kernel balances its load, some 60 ms later. There a worker does not look, since that keeps from running
//! whoever has work; and one that is woken there from a rest of but a moment goes to another CPU.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::os::{clock, cpu};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::wake::Idlers;

/// The least and the most that anybody looks.
const LOOK: (Duration, Duration) = (Duration::from_micros(20), Duration::from_micros(100));

/// What takes less was no sleep, and what takes more no wake-up: others had the CPU.
const PLAUSIBLE: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_micros(200);

/// A rest that is longer than this is no pause between two tasks of one caller.
const PAUSE: Duration = Duration::from_micros(100);

/// After a move a worker stays for so many times as long as that took, since it takes long where others are at work.
const STAY: u32 = 20;

/// The longest that it stays, as where it cannot move.
const LONGEST_STAY: Duration = Duration::from_secs(1);

/// What a wake-up costs, in nanoseconds, as workers find it: a mean in which the newest counts for a quarter.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Cost(AtomicU64);

/// Who last appointed a worker.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Rung {
    /// When, in nanoseconds of the monotonic clock.
    at: AtomicU64,
    /// From which CPU: its number + 1; 0 where that is not known.
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
        if PLAUSIBLE.contains(&cost) {
            self.0.store(known - known / 4 + cost.as_nanos() as u64 / 4, Ordering::Relaxed);
        }
    }
}

impl Rung {
    /// Whoever rings, before that.
    pub(crate) fn note(&self) {
        // ORDER: Relaxed: nothing orders the two words. A torn pair is one bad estimate.
        self.at.store(clock::now(), Ordering::Relaxed);
        self.on.store(cpu::current().map_or(0, |cpu| cpu + 1), Ordering::Relaxed);
    }

    fn read(&self) -> (u64, Option<u32>) {
        (self.at.load(Ordering::Relaxed), self.on.load(Ordering::Relaxed).checked_sub(1))
    }
}

/// A worker's account of its wake-ups.
#[derive(Debug, Default)]
pub(crate) struct Wakeups {
    /// It does not move before that, in nanoseconds of the monotonic clock.
    next_move: u64,
    /// It was woken on its waker's CPU, and is still there, as far as it knows.
    is_beside_waker: bool,
}

impl Wakeups {
    /// The worker was appointed, by whoever has `rung`, in a rest that `began` then.
    pub(crate) fn note(&mut self, began: u64, rung: &Rung, cost: &Cost, idlers: &Idlers) {
        let now = clock::now();
        let (rung_at, waker) = rung.read();
        // Else it got up by itself, and who appointed it has not come to ring.
        let was_woken = (began..now).contains(&rung_at);
        let beside = waker.filter(|_| was_woken && waker == cpu::current());
        self.is_beside_waker = beside.is_some();
        if let Some(cpu) = beside {
            let rest = Duration::from_nanos(rung_at - began);
            if rest < PAUSE && now >= self.next_move && idlers.is_a_cpu_free() {
                self.leave(cpu, now, cost);
            }
        } else if was_woken {
            cost.learn(Duration::from_nanos(now - rung_at));
        }
    }

    fn leave(&mut self, cpu: u32, now: u64, cost: &Cost) {
        let mut stay = LONGEST_STAY;
        if cpu::leave(cpu) {
            self.is_beside_waker = false;
            // The other CPU had to be woken, as for a worker that sleeps there.
            let took = clock::since(now);
            cost.learn(took);
            stay = took.saturating_mul(STAY).min(LONGEST_STAY);
        }
        self.next_move = now + stay.as_nanos() as u64;
    }

    /// Whether looking for work keeps from running whoever has some.
    pub(crate) fn is_beside_waker(&self) -> bool {
        self.is_beside_waker
    }
}

#[cfg(all(test, not(any(shuttle, miri))))]
mod tests {
    use super::*;

    /// Nobody tells of such a CPU.
    const ELSEWHERE: u32 = u32::MAX - 1;

    fn cost() -> Cost {
        Cost(AtomicU64::new(0))
    }

    /// Of one worker, that is awake.
    fn idlers(cpus: usize) -> Idlers {
        let idlers = Idlers::new(1);
        idlers.set_workers(1, cpus);
        idlers
    }

    fn rung(at: u64, cpu: u32) -> Rung {
        Rung { at: AtomicU64::new(at), on: AtomicU32::new(cpu + 1) }
    }

    fn here() -> u32 {
        cpu::current().expect("Linux tells")
    }

    /// When it was, so long ago.
    fn ago(span: Duration) -> u64 {
        clock::now() - span.as_nanos() as u64
    }

    /// Whether `outcome` ever comes: a thread may be moved, or its CPU taken, at any moment.
    fn ever(outcome: impl Fn() -> bool) -> bool {
        (0..1000).any(|_| outcome())
    }

    #[test]
    fn one_looks_somewhat_longer_than_a_wake_up_costs() {
        let cost = cost();
        assert_eq!(cost.worth(), LOOK.0);
        (0..30).for_each(|_| cost.learn(Duration::from_micros(40)));
        assert!((Duration::from_micros(58)..=Duration::from_micros(60)).contains(&cost.worth()));
        (0..30).for_each(|_| cost.learn(*PLAUSIBLE.end()));
        assert_eq!(cost.worth(), LOOK.1);
        (0..30).for_each(|_| cost.learn(Duration::from_micros(3)));
        assert_eq!(cost.worth(), LOOK.0);
    }

    #[test]
    fn what_cannot_be_a_wake_up_costs_nothing() {
        let cost = cost();
        for span in [Duration::ZERO, Duration::from_nanos(999), Duration::from_millis(3)] {
            cost.learn(span);
        }
        assert_eq!(cost.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn rubbish_makes_nobody_look_for_long() {
        let cost = Cost(AtomicU64::new(u64::MAX));
        assert_eq!(cost.worth(), LOOK.1);
        cost.learn(*PLAUSIBLE.end());
        let mut wakeups = Wakeups::default();
        for (at, on) in [(0, 0), (u64::MAX, u32::MAX), (ago(PAUSE), u32::MAX)] {
            let rung = Rung { at: AtomicU64::new(at), on: AtomicU32::new(on) };
            wakeups.note(0, &rung, &cost, &idlers(2));
        }
        assert_eq!(cost.worth(), LOOK.1);
    }

    #[test]
    fn a_worker_that_is_woken_elsewhere_learns_what_that_costs() {
        let learns = || {
            let (cost, mut wakeups) = (cost(), Wakeups::default());
            wakeups.note(ago(PAUSE), &rung(ago(PAUSE / 2), ELSEWHERE), &cost, &idlers(2));
            assert!(!wakeups.is_beside_waker());
            cost.0.load(Ordering::Relaxed) > 0
        };
        assert!(ever(learns));
    }

    #[test]
    fn a_worker_that_stays_beside_its_waker_knows() {
        let stays = |began: u64| {
            let mut wakeups = Wakeups { next_move: u64::MAX, ..Wakeups::default() };
            wakeups.note(began, &rung(ago(PAUSE / 2), here()), &cost(), &idlers(2));
            wakeups.is_beside_waker()
        };
        assert!(ever(|| stays(ago(PAUSE))));
        // It was rung before it rested.
        assert!(!ever(|| stays(clock::now())));
    }

    #[test]
    fn a_worker_that_is_woken_beside_its_waker_after_a_moment_moves_but_not_always() {
        let moves = |next_move: u64, rest: Duration, cpus: usize| {
            let mut wakeups = Wakeups { next_move, ..Wakeups::default() };
            let rung_at = ago(PAUSE / 2);
            let began = rung_at - rest.as_nanos() as u64;
            wakeups.note(began, &rung(rung_at, here()), &cost(), &idlers(cpus));
            wakeups.next_move != next_move
        };
        assert!(ever(|| moves(0, Duration::ZERO, 2)));
        assert!(!ever(|| moves(0, PAUSE, 2)));
        assert!(!ever(|| moves(0, Duration::ZERO, 1)));
        assert!(!ever(|| moves(u64::MAX, Duration::ZERO, 2)));
    }
}
