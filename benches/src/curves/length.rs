//! The length of a task: from where on does a pool keep its workers busy?
//!
//! Work is counted in steps of a loop, whose time alone is found out first, and not with a clock: that would count as
//! work what the machine does for others. `no pool` is two threads that share the steps, and so what the two workers
//! could do at best.

use std::thread;
use std::time::Instant;

use ::rayon::ThreadPool;
use procpool::Pool;

use crate::case::{Failure, SPELL};
use crate::contenders::WORKERS;
use crate::contenders::crowd::{Crowd, steps_per_nanosecond, work};
use crate::contenders::threads::Threads;
use crate::curve::{Curve, Processes, Trace, Tracer};

pub(crate) const LENGTH: Curve = Curve {
    name: "length",
    axis: "length of a task (ns)",
    measures: &["efficiency: work done / (workers x time)"],
    points: &[0, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000, 10_000_000],
    last_when_quick: 10_000_000,
    processes: Processes::OneForAllPoints,
    rounds: 3,
    contenders: &[
        Tracer { name: "procpool", prepare: trace::<Pool> },
        Tracer { name: "rayon", prepare: trace::<ThreadPool> },
        Tracer { name: "threads", prepare: trace::<Threads> },
        Tracer { name: "no pool", prepare: without_pool },
    ],
};

/// As many as fill a spell, if that is not too many.
fn tasks(length: u64) -> usize {
    let spell = SPELL.as_nanos() as usize * WORKERS;
    (spell / (length.max(1) as usize)).clamp(2 * WORKERS, 100_000)
}

fn trace<C: Crowd>() -> Result<Trace, Failure> {
    let crowd = C::of(WORKERS)?;
    let rate = steps_per_nanosecond();
    crowd.burst(10_000, 0)?;
    efficiency(move |length, tasks| crowd.burst(tasks, (length as f64 * rate) as u64))
}

fn without_pool() -> Result<Trace, Failure> {
    let rate = steps_per_nanosecond();
    efficiency(move |length, tasks| {
        let share = tasks / WORKERS;
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| (0..share).for_each(|_| work((length as f64 * rate) as u64)));
            }
        });
        Ok(())
    })
}

fn efficiency(mut run: impl FnMut(u64, usize) -> Result<(), Failure> + 'static) -> Result<Trace, Failure> {
    Ok(Box::new(move |length| {
        let tasks = tasks(length);
        let started = Instant::now();
        run(length, tasks)?;
        let available = started.elapsed().as_nanos() as f64 * WORKERS as f64;
        Ok(Some(vec![(length * tasks as u64) as f64 / available]))
    }))
}
