//! Latency under load, in percentiles. Tasks arrive by the clock, whether or not the pool keeps up, and each latency
//! counts from when its task was due: a pool that holds up its caller gains nothing by it.
//!
//! The load is a share of what the contender itself can do, measured first. Tasks are due in even distances, so that
//! what waits is made to wait by the pool or by the machine. Results are taken in order.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use ::rayon::ThreadPool;
use procpool::Pool;

use crate::case::{Failure, microseconds};
use crate::contenders::WORKERS;
use crate::contenders::crowd::{Crowd, steps_per_nanosecond};
use crate::contenders::threads::Threads;
use crate::curve::{Curve, Processes, Trace, Tracer};

pub(crate) const LOAD: Curve = Curve {
    name: "load",
    axis: "load (percent)",
    measures: &["latency p50 (us)", "latency p99 (us)", "latency p99.9 (us)", "arrivals (tasks/s)"],
    points: &[10, 25, 50, 75, 90],
    last_when_quick: 90,
    processes: Processes::OneForAllPoints,
    rounds: 3,
    contenders: &[
        Tracer { name: "procpool", prepare: trace::<Pool> },
        Tracer { name: "rayon", prepare: trace::<ThreadPool> },
        Tracer { name: "threads", prepare: trace::<Threads> },
    ],
};

const LENGTH_NANOSECONDS: f64 = 50_000.0;
const TASKS_TO_MEASURE_THROUGHPUT: usize = 4_000;
const DURATION: Duration = Duration::from_secs(1);

fn trace<C: Crowd>() -> Result<Trace, Failure> {
    let crowd = C::of(WORKERS)?;
    let steps = (LENGTH_NANOSECONDS * steps_per_nanosecond()) as u64;
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        crowd.burst(TASKS_TO_MEASURE_THROUGHPUT, steps)?;
        best = best.min(started.elapsed());
    }
    let most = TASKS_TO_MEASURE_THROUGHPUT as f64 / best.as_secs_f64();
    Ok(Box::new(move |percent| {
        let rate = most * percent as f64 / 100.0;
        let mut latencies = latencies(&crowd, steps, Duration::from_secs_f64(1.0 / rate))?;
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        Ok(Some(vec![at(0.5), at(0.99), at(0.999), rate]))
    }))
}

/// Submits a task at each distance in time from the other, and returns how long after its time each result was there.
fn latencies<C: Crowd>(crowd: &C, steps: u64, distance: Duration) -> Result<Vec<f64>, Failure> {
    let (submitted, arrived) = mpsc::channel::<(Instant, C::Handle)>();
    thread::scope(|scope| {
        let taker = scope.spawn(|| take::<C>(arrived));
        let begun = Instant::now();
        let mut due = begun;
        while due - begun < DURATION {
            // Returns at once where the time is past.
            thread::sleep(due.saturating_duration_since(Instant::now()));
            submitted.send((due, crowd.begin(steps)?))?;
            due += distance;
        }
        drop(submitted);
        Ok(taker.join().expect("the taker does not panic")?)
    })
}

fn take<C: Crowd>(arrived: Receiver<(Instant, C::Handle)>) -> Result<Vec<f64>, String> {
    let mut latencies = Vec::new();
    for (due, handle) in arrived {
        C::wait(handle).map_err(|failure| failure.to_string())?;
        latencies.push(microseconds(due.elapsed()));
    }
    Ok(latencies)
}
