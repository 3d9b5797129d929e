//! Several threads of one program that use one pool: do they hinder each other?

use std::thread;
use std::time::Instant;

use ::rayon::ThreadPool;
use procpool::Pool;

use crate::case::{Failure, SPELL};
use crate::contenders::WORKERS;
use crate::contenders::crowd::Crowd;
use crate::contenders::threads::Threads;
use crate::curve::{Curve, Processes, Trace, Tracer};

pub(crate) const CALLERS: Curve = Curve {
    name: "callers",
    axis: "caller threads",
    measures: &["all callers in bursts (tasks/s)", "all callers one by one (tasks/s)"],
    points: &[1, 2, 3, 4, 6, 8, 12, 16],
    last_when_quick: 16,
    processes: Processes::OneForEachPoint,
    rounds: 3,
    contenders: &[
        Tracer { name: "procpool", prepare: trace::<Pool> },
        Tracer { name: "rayon", prepare: trace::<ThreadPool> },
        Tracer { name: "threads", prepare: trace::<Threads> },
    ],
};

const BURST: usize = 1_000;

fn trace<C: Crowd>() -> Result<Trace, Failure> {
    Ok(Box::new(|callers| {
        let crowd = C::of(WORKERS)?;
        crowd.burst(BURST, 0)?;
        let bursts = tasks_per_second(callers, || crowd.burst(BURST, 0).map(|()| BURST))?;
        let calls = tasks_per_second(callers, || crowd.call().map(|()| 1))?;
        Ok(Some(vec![bursts, calls]))
    }))
}

/// Lets so many threads take steps for a spell, each of which says how many tasks it was.
fn tasks_per_second(callers: u64, step: impl Fn() -> Result<usize, Failure> + Sync) -> Result<f64, Failure> {
    let caller = || {
        let started = Instant::now();
        let mut done = 0;
        while started.elapsed() < SPELL {
            // A failure is of this thread; its text can leave it.
            done += step().map_err(|failure| failure.to_string())?;
        }
        Ok::<_, String>(done)
    };
    let started = Instant::now();
    let done = thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        callers
            .into_iter()
            .map(|caller| caller.join().expect("a caller does not panic"))
            .sum::<Result<usize, _>>()
    })?;
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
