//! Pools that are made, resized, closed, terminated and dropped while they are at work.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use procpool::{Pool, Stats};

use super::errand;
use crate::adversary::{Deed, Log, PoolEnd, Whom};
use crate::ledger::Ledger;
use crate::processes;

/// The variable by which a zygote is known to be a pool's.
pub(crate) const NUMBER: &str = "PROCPOOL_CHAOS_POOL";

/// How many pools there are at once.
const PLACES: usize = 3;

/// A pool may have so many workers.
const MOST_WORKERS: usize = 4;

/// A pool, with the number by which ledger and log know it.
pub(crate) struct NumberedPool<'l> {
    pub(crate) number: u32,
    pool: Pool,
    /// It takes no more tasks, and is to be replaced.
    pub(crate) is_spent: AtomicBool,
    log: &'l Log,
}

impl Deref for NumberedPool<'_> {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.pool
    }
}

impl Drop for NumberedPool<'_> {
    fn drop(&mut self) {
        // The pool itself is dropped after that.
        self.log.note(Deed::End { pool: self.number, how: PoolEnd::Dropped });
    }
}

type Shared<'l> = Arc<NumberedPool<'l>>;

/// All pools of a run.
pub(crate) struct Pools<'l> {
    places: [Mutex<Option<Shared<'l>>>; PLACES],
    /// Also those that were taken out of their places and still work.
    known: Mutex<Vec<Weak<NumberedPool<'l>>>>,
    made: AtomicU32,
    pub(crate) ledger: &'l Ledger,
    pub(crate) log: &'l Log,
    /// What was found to be wrong with a pool at its end.
    faults: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'l> Pools<'l> {
    /// No pool yet.
    pub(crate) fn new(ledger: &'l Ledger, log: &'l Log) -> Self {
        let (places, known, faults) = Default::default();
        Self { places, known, made: AtomicU32::new(0), ledger, log, faults }
    }

    /// Makes a pool for every place, as far as the system allows.
    pub(crate) fn fill(&self, rng: &mut fastrand::Rng) {
        for place in &self.places {
            *lock(place) = self.make(rng);
        }
    }

    fn make(&self, rng: &mut fastrand::Rng) -> Option<Shared<'l>> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut builder = Pool::builder()
            .workers(rng.usize(1..=MOST_WORKERS))
            .name(&format!("chaos-{number}"))
            .grace(Duration::from_millis(rng.u64(20..500)))
            .env(errand::RECORD, self.ledger.record_path())
            .env(NUMBER, number.to_string())
            .initializer(errand::prepare, ());
        if rng.u8(..) < 80 {
            builder = builder.tasks_per_worker(rng.u64(1..100));
        }
        self.log.note(Deed::Make { pool: number });
        match builder.build() {
            Ok(pool) => {
                let pool =
                    Arc::new(NumberedPool { number, pool, is_spent: AtomicBool::new(false), log: self.log });
                let mut known = lock(&self.known);
                known.retain(|pool| pool.strong_count() > 0);
                known.push(Arc::downgrade(&pool));
                Some(pool)
            }
            Err(error) => {
                self.log.note(Deed::NotMade { pool: number, error });
                None
            }
        }
    }

    /// The pool in a random place, if there is one.
    pub(crate) fn any(&self, rng: &mut fastrand::Rng) -> Option<Shared<'l>> {
        lock(&self.places[rng.usize(..PLACES)]).clone()
    }

    /// All pools that have not been dropped.
    pub(crate) fn all(&self) -> Vec<Shared<'l>> {
        lock(&self.known).iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.faults))
    }

    fn fault(&self, pool: &NumberedPool<'_>, what: impl std::fmt::Display) {
        lock(&self.faults).push(format!("pool {}: {what}", pool.number));
    }

    /// Resizes and replaces pools until `over`.
    pub(crate) fn come_and_go(&self, mut rng: fastrand::Rng, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(rng.u64(10..250)));
            let place = &self.places[rng.usize(..PLACES)];
            let present = lock(place).clone();
            match present {
                Some(pool) if !pool.is_spent.load(Ordering::Relaxed) && rng.u8(..) < 160 => {
                    self.resize(&pool, rng.usize(1..=MOST_WORKERS));
                }
                present => self.replace(place, present, &mut rng),
            }
        }
    }

    fn resize(&self, pool: &NumberedPool<'_>, workers: usize) {
        if let Err(error) = pool.resize(workers) {
            self.fault(pool, format!("it could not be resized: {error}"));
        }
    }

    fn replace(&self, place: &Mutex<Option<Shared<'l>>>, old: Option<Shared<'l>>, rng: &mut fastrand::Rng) {
        let new = self.make(rng);
        if new.is_none() && rng.bool() {
            return;
        }
        *lock(place) = new;
        let Some(pool) = old else { return };
        match rng.u8(..3) {
            0 => self.end(&pool, PoolEnd::Closed),
            1 => self.end(&pool, PoolEnd::Terminated),
            // Whoever holds it last drops it.
            _ => {}
        }
    }

    /// Closes or terminates a pool, waits for its end, and looks at what it says of itself then.
    pub(crate) fn end(&self, pool: &NumberedPool<'_>, how: PoolEnd) {
        self.log.note(Deed::End { pool: pool.number, how });
        match how {
            PoolEnd::Closed => pool.close(),
            PoolEnd::Terminated | PoolEnd::Dropped => pool.terminate(),
        }
        if let Err(error) = pool.join() {
            // It had given up before; whether it had reason to is seen from its tasks.
            self.log.note(Deed::GaveUp { pool: pool.number, error });
        }
        if let Some(fault) = fault_at_end(&pool.stats()) {
            self.fault(pool, fault);
        }
    }

    /// At the end of the run, without an adversary: every pool still works, and ends.
    pub(crate) fn finish(&self, rng: &mut fastrand::Rng) {
        for place in &self.places {
            let Some(pool) = lock(place).take() else { continue };
            if self.works(&pool) {
                self.expect_empty_arena(&pool);
            }
            match rng.u8(..3) {
                0 => self.end(&pool, PoolEnd::Closed),
                1 => self.end(&pool, PoolEnd::Terminated),
                _ => drop(pool),
            }
        }
    }

    /// Whether it has not given up; with reason or not, the log will tell.
    fn works(&self, pool: &NumberedPool<'_>) -> bool {
        let result = pool.map(|x: u64| x * x, 0..100);
        match &result {
            Ok(squares) if squares.iter().zip(0..).all(|(&square, x)| square == x * x) => {}
            Ok(_) => self.fault(pool, "wrong results after the run"),
            Err(error) => self.log.note(Deed::GaveUp { pool: pool.number, error: error.clone() }),
        }
        result.is_ok()
    }

    /// When every outcome was taken, and those workers are dead that have kept something, only the set-up data is left
    /// in the arena.
    fn expect_empty_arena(&self, pool: &NumberedPool<'_>) {
        for worker in pool.stats().workers {
            self.log.note(Deed::Signal {
                pid: worker.pid,
                signal: libc::SIGKILL,
                whom: Whom::Worker(pool.number),
            });
            processes::kill(worker.pid);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while pool.stats().extents > 1 {
            if Instant::now() > deadline {
                return self.fault(pool, format!("payloads are left in its arena: {:?}", pool.stats()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn fault_at_end(stats: &Stats) -> Option<String> {
    let wrong = stats.queued + stats.running > 0 || stats.repairs > 0 || !stats.workers.is_empty();
    wrong.then(|| format!("it has ended, and says {stats:?}"))
}
