//! A day's worth of tasks in small: does anything grow with the number of tasks that a pool has done?

use std::time::{Duration, Instant};

use procpool::Pool;

use crate::case::{Failure, median, microseconds};
use crate::contenders::WORKERS;
use crate::contenders::crowd::Crowd;
use crate::contenders::threads::Threads;
use crate::curve::{Curve, Processes, Trace, Tracer};
use crate::usage::{descriptors_of_tree, memory_of_tree};

pub(crate) const LONG_RUN: Curve = Curve {
    name: "long_run",
    axis: "tasks done",
    measures: &[
        "median round trip of an empty task (us)",
        "memory (MiB)",
        "descriptors",
        "empty tasks since the last point (tasks/s)",
    ],
    points: &[
        1_000_000,
        2_000_000,
        5_000_000,
        10_000_000,
        20_000_000,
        30_000_000,
        40_000_000,
        50_000_000,
        60_000_000,
        70_000_000,
        80_000_000,
        90_000_000,
        100_000_000,
    ],
    last_when_quick: 5_000_000,
    processes: Processes::OneForAllPoints,
    rounds: 1,
    contenders: &[
        Tracer { name: "procpool", prepare: trace::<Pool> },
        Tracer { name: "threads", prepare: trace::<Threads> },
    ],
};

/// Submitted together; the next ones when all results were taken.
const BURST: u64 = 50_000;
const CALLS: usize = 5_000;

/// The points that a contender has not reached then are left out.
const TIME: Duration = Duration::from_secs(60);

fn trace<C: Crowd>() -> Result<Trace, Failure> {
    let crowd = C::of(WORKERS)?;
    let begun = Instant::now();
    let mut done = 0;
    Ok(Box::new(move |goal| {
        let started = Instant::now();
        let before = done;
        while done < goal {
            if begun.elapsed() > TIME {
                return Ok(None);
            }
            crowd.burst(BURST as usize, 0)?;
            done += BURST;
        }
        let rate = (done - before) as f64 / started.elapsed().as_secs_f64();
        let memory = memory_of_tree()? as f64 / f64::from(1 << 20);
        Ok(Some(vec![round_trip(&crowd)?, memory, descriptors_of_tree()? as f64, rate]))
    }))
}

fn round_trip<C: Crowd>(crowd: &C) -> Result<f64, Failure> {
    let call = |_| {
        let started = Instant::now();
        crowd.call()?;
        Ok(microseconds(started.elapsed()))
    };
    Ok(median(&(0..CALLS).map(call).collect::<Result<Vec<_>, Failure>>()?))
}
