//! The contenders as the curves ask them: begin a task that works for so long, wait for it; many of them, or one.

use std::hint::black_box;
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use ::rayon::ThreadPool;
use procpool::{AsyncResult, Pool};

use crate::case::Failure;
use crate::contenders::rayon;
use crate::contenders::threads::Threads;

/// A pool of workers of whatever kind.
pub(crate) trait Crowd: Sized + Send + Sync + 'static {
    type Handle: Send;

    fn of(workers: usize) -> Result<Self, Failure>;

    /// Begins a task of so many steps.
    fn begin(&self, steps: u64) -> Result<Self::Handle, Failure>;

    fn wait(handle: Self::Handle) -> Result<(), Failure>;

    /// Begins so many tasks, then waits for all.
    fn burst(&self, tasks: usize, steps: u64) -> Result<(), Failure>;

    /// One empty task, from its beginning to its end.
    fn call(&self) -> Result<(), Failure> {
        Self::wait(self.begin(0)?)
    }
}

/// What every task does. A step takes about a nanosecond.
pub(crate) fn work(steps: u64) {
    for step in 0..steps {
        black_box(step);
    }
}

/// How many steps are done in a nanosecond: the best of some tries, since others may have run meanwhile.
pub(crate) fn steps_per_nanosecond() -> f64 {
    const STEPS: u64 = 1_000_000;
    let rate = |_| {
        let started = Instant::now();
        work(STEPS);
        STEPS as f64 / started.elapsed().as_nanos() as f64
    };
    (0..50).map(rate).fold(0.0, f64::max)
}

impl Crowd for Pool {
    type Handle = AsyncResult<()>;

    fn of(workers: usize) -> Result<Self, Failure> {
        Ok(Pool::new(workers)?)
    }

    fn begin(&self, steps: u64) -> Result<Self::Handle, Failure> {
        Ok(self.apply_async(work, steps)?)
    }

    fn wait(handle: Self::Handle) -> Result<(), Failure> {
        Ok(handle.get()?)
    }

    fn burst(&self, tasks: usize, steps: u64) -> Result<(), Failure> {
        let handles: Vec<_> = (0..tasks).map(|_| self.begin(steps)).collect::<Result<_, _>>()?;
        handles.into_iter().try_for_each(Self::wait)
    }
}

/// A pool of threads that runs closures.
pub(crate) trait Spawn: Sized + Send + Sync + 'static {
    fn of(threads: usize) -> Result<Self, Failure>;
    fn spawn(&self, job: impl FnOnce() + Send + 'static);
}

impl Spawn for ThreadPool {
    fn of(threads: usize) -> Result<Self, Failure> {
        Ok(rayon::pool(threads)?)
    }

    fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        ThreadPool::spawn(self, job);
    }
}

impl Spawn for Threads {
    fn of(threads: usize) -> Result<Self, Failure> {
        Ok(Threads::new(threads)?)
    }

    fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        Threads::spawn(self, job);
    }
}

impl<S: Spawn> Crowd for S {
    type Handle = Receiver<()>;

    fn of(workers: usize) -> Result<Self, Failure> {
        <S as Spawn>::of(workers)
    }

    fn begin(&self, steps: u64) -> Result<Self::Handle, Failure> {
        let (result, handle) = mpsc::channel();
        self.spawn(move || {
            work(steps);
            // Whoever dropped the handle does not want to know.
            let _ = result.send(());
        });
        Ok(handle)
    }

    fn wait(handle: Self::Handle) -> Result<(), Failure> {
        Ok(handle.recv()?)
    }

    /// One channel for all of them, as one writes it where nobody asks for a single task.
    fn burst(&self, tasks: usize, steps: u64) -> Result<(), Failure> {
        let (results, outcomes) = mpsc::channel();
        for _ in 0..tasks {
            let results = results.clone();
            self.spawn(move || {
                work(steps);
                results.send(()).expect("the caller waits");
            });
        }
        for _ in 0..tasks {
            outcomes.recv()?;
        }
        Ok(())
    }
}
