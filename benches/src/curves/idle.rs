//! A pool that has nothing to do: does it leave the machine alone?

use std::thread;
use std::time::Duration;

use ::rayon::ThreadPool;
use procpool::Pool;

use crate::case::{Failure, microseconds};
use crate::contenders::crowd::Crowd;
use crate::curve::{Curve, Processes, Trace, Tracer};
use crate::usage::{self, Usage};

pub(crate) const IDLE: Curve = Curve {
    name: "idle",
    axis: "idle workers",
    measures: &["CPU time (us/s)", "wake-ups (per second)"],
    points: &[2, 64],
    last_when_quick: 64,
    processes: Processes::OneForEachPoint,
    rounds: 1,
    contenders: &[
        Tracer { name: "procpool", prepare: trace::<Pool> },
        Tracer { name: "rayon", prepare: trace::<ThreadPool> },
    ],
};

/// Until then whoever spins before it sleeps has gone to sleep, and procpool's supervisor has looked for the last time: it
/// does once a second while tasks are pending, and once more to see that none is.
const REST: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(3);

fn trace<C: Crowd>() -> Result<Trace, Failure> {
    Ok(Box::new(|workers| {
        let crowd = C::of(usize::try_from(workers)?)?;
        crowd.burst(10_000, 0)?;
        thread::sleep(REST);
        // What it costs this thread to look twice and to sleep once, which is not the pool's.
        let looking = used_within(Duration::from_millis(1))?;
        let used = used_within(WATCHED)?;
        let each_second = |total: f64| total / WATCHED.as_secs_f64();
        Ok(Some(vec![
            each_second(microseconds(used.cpu.saturating_sub(looking.cpu))),
            each_second(used.sleeps.saturating_sub(looking.sleeps) as f64),
        ]))
    }))
}

fn used_within(time: Duration) -> Result<Usage, Failure> {
    let before = usage::of_tree()?;
    thread::sleep(time);
    Ok(usage::of_tree()?.since(before))
}
