//! More workers than CPUs: does the cost of a task stay, and does one task wake one worker?

use std::time::Instant;

use ::rayon::ThreadPool;
use procpool::Pool;

use crate::case::{Failure, SPELL, microseconds};
use crate::contenders::crowd::Crowd;
use crate::contenders::threads::Threads;
use crate::curve::{Curve, Processes, Trace, Tracer};
use crate::usage;

pub(crate) const WORKERS: Curve = Curve {
    name: "workers",
    axis: "workers",
    measures: &[
        "empty tasks in bursts (tasks/s)",
        "wake-ups in bursts (per task)",
        "round trip of an empty task (us)",
        "wake-ups one by one (per task)",
    ],
    points: &[1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64],
    last_when_quick: 64,
    processes: Processes::OneForEachPoint,
    rounds: 3,
    contenders: &[
        Tracer { name: "procpool", prepare: trace::<Pool> },
        Tracer { name: "rayon", prepare: trace::<ThreadPool> },
        Tracer { name: "threads", prepare: trace::<Threads> },
    ],
};

const BURST: usize = 20_000;

fn trace<C: Crowd>() -> Result<Trace, Failure> {
    Ok(Box::new(|workers| {
        let crowd = C::of(usize::try_from(workers)?)?;
        crowd.burst(BURST, 0)?;
        let (burst, burst_sleeps) = per_task(BURST, || crowd.burst(BURST, 0))?;
        let (call, call_sleeps) = per_task(1, || crowd.call())?;
        Ok(Some(vec![1e6 / burst, burst_sleeps, call, call_sleeps]))
    }))
}

/// The mean microseconds and the wake-ups of a task, over steps of so many tasks, taken for a spell.
fn per_task(tasks: usize, mut step: impl FnMut() -> Result<(), Failure>) -> Result<(f64, f64), Failure> {
    let before = usage::of_tree()?;
    let started = Instant::now();
    let mut done = 0;
    while started.elapsed() < SPELL {
        step()?;
        done += tasks;
    }
    let elapsed = started.elapsed();
    let used = usage::of_tree()?.since(before);
    Ok((microseconds(elapsed) / done as f64, used.sleeps as f64 / done as f64))
}
