//! Tasks pending: what each costs when few or many others wait before it, in time and in memory.
//!
//! The workers are held until all tasks are submitted. Only then they may begin, and the caller takes all results.

use std::fs;
use std::io::pipe;
use std::os::fd::AsRawFd;
use std::process;
use std::time::{Duration, Instant};

use ::rayon::ThreadPool;
use procpool::{AsyncResult, Pool};

use crate::case::Failure;
use crate::contenders::WORKERS;
use crate::contenders::crowd::{Crowd, Spawn};
use crate::contenders::threads::Threads;
use crate::curve::{Curve, Processes, Trace, Tracer};
use crate::usage::{available_memory, memory};

pub(crate) const PENDING: Curve = Curve {
    name: "pending",
    axis: "tasks pending",
    measures: &["submitting (ns/task)", "running and taking (ns/task)", "memory (bytes/task)"],
    points: &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000],
    last_when_quick: 1_000_000,
    processes: Processes::OneForEachPoint,
    rounds: 2,
    contenders: &[
        Tracer { name: "procpool", prepare: || Ok(Box::new(in_procpool)) },
        Tracer { name: "rayon", prepare: in_threads::<ThreadPool> },
        Tracer { name: "threads", prepare: in_threads::<Threads> },
    ],
};

/// What a task may take with its handle, generously.
const ROOM: u64 = 1024;

/// Waits until nobody holds the pipe's other end.
fn hold(pipe: String) {
    // The pipe brings nothing; a reader comes back when it ends.
    let _ = fs::read(pipe);
}

fn in_procpool(tasks: u64) -> Result<Option<Vec<f64>>, Failure> {
    let pool = <Pool as Crowd>::of(WORKERS)?;
    let (reader, writer) = pipe()?;
    let path = format!("/proc/{}/fd/{}", process::id(), reader.as_raw_fd());
    let held = (0..WORKERS).map(|_| pool.apply_async(hold, path.clone())).collect::<Result<Vec<_>, _>>()?;
    while held.iter().any(AsyncResult::is_ready) || pool.stats().running < WORKERS {
        std::thread::yield_now();
    }
    measure(&pool, tasks, || drop(writer))
}

fn in_threads<S: Spawn>() -> Result<Trace, Failure> {
    Ok(Box::new(|tasks| {
        let threads = <S as Spawn>::of(WORKERS)?;
        let (reader, writer) = pipe()?;
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        for _ in 0..WORKERS {
            let path = path.clone();
            threads.spawn(move || hold(path));
        }
        std::thread::sleep(Duration::from_millis(20));
        measure(&threads, tasks, || drop(writer))
    }))
}

/// Submits the tasks while the workers are held, lets them go, and takes the results.
fn measure<C: Crowd>(crowd: &C, tasks: u64, release: impl FnOnce()) -> Result<Option<Vec<f64>>, Failure> {
    if tasks * ROOM > available_memory()? {
        return Ok(None);
    }
    let mut handles = Vec::with_capacity(usize::try_from(tasks)?);
    let before = memory()?;
    let started = Instant::now();
    for _ in 0..tasks {
        handles.push(crowd.begin(0)?);
    }
    let submitted = started.elapsed();
    let grown = memory()?.saturating_sub(before);
    let started = Instant::now();
    release();
    handles.into_iter().try_for_each(C::wait)?;
    let taken = started.elapsed();
    let each = |total: f64| total / tasks as f64;
    Ok(Some(vec![each(submitted.as_nanos() as f64), each(taken.as_nanos() as f64), each(grown as f64)]))
}
