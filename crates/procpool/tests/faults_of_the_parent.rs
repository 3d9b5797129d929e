//! The parent at every step of its way: it is killed there, or its workers are while it stands there.
//!
//! The points are in the engine ([`Point`]): before and after each change that other processes can see. Every test
//! walks those of one path, by a pool's whole life in which the parent does all that it can do.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{
    Errand, Errands, Gate, Program, Record, alone, children, eventually, is_alive, kill, name, say, wait_at,
    workers,
};
use procpool::{AsyncResult, Error, Pool, Result};
use procpool_engine::{Point, at};

/// The promise is one second. It is tested with much room, since the machine may be busy with other tests.
const BOUND: Duration = Duration::from_secs(10);

const WORKERS: usize = 2;

/// A test for each path that the parent takes, in both kinds of stories.
macro_rules! paths {
    ($($part:ident $points:ident),*) => {
        mod a_parent_that_is_killed_leaves_nothing {
            use super::*;
            $(
                #[test]
                fn $part() {
                    for which in 0..Point::$points.len() {
                        let program = Program::start_with(which, |which| die_at(Point::$points[which]));
                        expect_nothing_left(program, Point::$points[which]);
                    }
                }
            )*
        }

        mod every_task_ends_once_though_all_workers_die {
            use super::*;
            $(
                #[test]
                fn $part() {
                    alone(|story| {
                        for &point in Point::$points {
                            let mut record = Record::new();
                            let pool = record.pool(WORKERS).restart_intensity(usize::MAX, Duration::from_secs(60));
                            lose_workers_at(point, &story.build(pool), &mut record);
                        }
                    });
                }
            )*
        }
    };
}

paths! {
    while_it_submits SUBMITS, while_it_takes TAKES, while_it_cancels CANCELS, while_it_settles SETTLES,
    while_it_tries_again TRIES_AGAIN, while_it_governs GOVERNS, while_it_handles_blocks BLOCKS, while_it_tells TELLS
}

// ---- a pool's life ----

/// What became of the tasks that were not sent to be killed or cancelled.
type Ends = Vec<Result<Errand>>;

/// All that a parent can do with a pool, but for ending it.
fn live(errands: &mut Errands<'_>) -> Ends {
    let mut ends = Vec::new();
    for load in [0, 5000] {
        errands.load = load;
        ends.extend(errands.send_in_all_ways());
    }
    ends.extend(lose_the_workers_of_finished_tasks(errands));
    cancel_tasks(errands.pool);
    run_out_of_time(errands.pool);
    try_again_and_again(errands.pool);
    workers(errands.pool, WORKERS);
    errands.pool.resize(WORKERS - 1).unwrap();
    workers(errands.pool, WORKERS - 1);
    errands.pool.resize(WORKERS).unwrap();
    ends.extend(errands.wait_for_each(2));
    ends
}

/// A reply in a block outlives its worker. They die one after the other, so that one lives when the other is settled.
fn lose_the_workers_of_finished_tasks(errands: &Errands<'_>) -> Ends {
    let handles: Vec<_> = (0..4).map(|_| errands.submit()).collect();
    handles.iter().for_each(AsyncResult::wait);
    for died in workers(errands.pool, WORKERS) {
        kill(died);
        eventually("another has come", || !workers(errands.pool, WORKERS).contains(&died));
    }
    handles.into_iter().map(AsyncResult::get).collect()
}

/// Some wait in the queue behind others that run, until all are cancelled. Each has a callback.
fn cancel_tasks(pool: &Pool) {
    let gate = Gate::closed();
    let called = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..WORKERS + 2).map(|_| submit_with_callback(&gate, pool, &called)).collect();
    eventually("the first of them run", || {
        let is_over = tasks.iter().any(AsyncResult::is_ready);
        pool.stats().running == WORKERS || is_over
    });
    for task in tasks.iter().rev() {
        task.cancel_running();
    }
    for task in tasks {
        let error = task.get().unwrap_err();
        assert!(matches!(error, Error::Cancelled | Error::WorkerDied(_)), "{error}");
    }
    eventually("each has told", || called.load(Ordering::SeqCst) == WORKERS + 2);
}

/// Some run for too long, others are too late, whether they run or wait.
fn run_out_of_time(pool: &Pool) {
    let gate = Gate::closed();
    let limit = Duration::from_millis(5);
    let long = (0..2).map(|_| pool.options().timeout(limit).apply_async(wait_at, gate.path()));
    let late = (0..WORKERS + 2).map(|_| pool.options().deadline(limit).apply_async(wait_at, gate.path()));
    for task in long.chain(late).collect::<Vec<_>>() {
        let error = task.and_then(AsyncResult::get).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. } | Error::WorkerDied(_)), "{error}");
    }
}

/// Whoever runs a task is killed: the first time it is tried again at once, later after a while.
fn try_again_and_again(pool: &Pool) {
    let gate = Gate::closed();
    let retries = pool.stats().retries;
    let task = pool.options().retries(u32::MAX).apply_async(wait_at, gate.path()).unwrap();
    eventually("it was tried four times", || {
        let stats = pool.stats();
        stats.workers.iter().filter(|worker| worker.age.is_some()).for_each(|worker| kill(worker.pid));
        stats.retries >= retries + 3
    });
    gate.open();
    assert_eq!(task.get().unwrap(), 1);
}

/// In the one way or the other, by which the point is passed.
fn end(errands: &Errands<'_>, point: Point) -> Ends {
    let terminates = Point::GOVERNS.contains(&point) && !matches!(point, Point::Dismissed | Point::Closes);
    if terminates {
        // Where a worker is to have nothing to do there is but one task.
        terminate(errands.pool, if point == Point::LetsLeave { 1 } else { WORKERS + 2 });
        return Vec::new();
    }
    let handles: Vec<_> = (0..WORKERS + 2).map(|_| errands.submit()).collect();
    errands.pool.close();
    errands.pool.join().unwrap();
    handles.into_iter().map(AsyncResult::get).collect()
}

/// While tasks run, and perhaps others wait. Each has a callback.
fn terminate(pool: &Pool, tasks: usize) {
    let gate = Gate::closed();
    let called = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..tasks).map(|_| submit_with_callback(&gate, pool, &called)).collect();
    eventually("the first of them runs", || {
        pool.stats().running > 0 || tasks.iter().any(AsyncResult::is_ready)
    });
    pool.terminate();
    pool.join().unwrap();
    assert_eq!(called.load(Ordering::SeqCst), tasks.len(), "each has told");
    for task in tasks {
        let error = task.get().unwrap_err();
        assert!(matches!(error, Error::Terminated | Error::WorkerDied(_)), "{error}");
    }
}

fn submit_with_callback(gate: &Gate, pool: &Pool, called: &Arc<AtomicUsize>) -> AsyncResult<u64> {
    let called = called.clone();
    gate.submit(pool).on_error(move |_| {
        called.fetch_add(1, Ordering::SeqCst);
    })
}

// ---- the parent dies ----

/// Program: lives, and is killed at the point.
fn die_at(point: Point) {
    let record = Record::new();
    let pool = record.pool(WORKERS).build().unwrap();
    workers(&pool, WORKERS);
    say("ready");
    at(point, || kill(std::process::id()));
    let mut errands = Errands::new(&pool, 0);
    live(&mut errands);
    end(&errands, point);
    panic!("nobody came to {point:?}");
}

fn expect_nothing_left(mut program: Program, point: Point) {
    assert_eq!(program.hear(), "ready");
    let status = program.wait();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{point:?}: {status}\n{}", program.rest());
    let took = program.wait_for_relatives();
    println!("killed at {point:?}: all processes were gone after {took:?}");
    assert!(took < BOUND, "{point:?}: {took:?}");
}

// ---- the workers die while the parent stands at a point ----

fn lose_workers_at(point: Point, pool: &Arc<Pool>, record: &mut Record) {
    println!("workers die while the parent stands at {point:?}");
    workers(pool, WORKERS);
    let extents = pool.stats().extents;
    let killed = Arc::new(AtomicUsize::new(usize::MAX));
    let tell = killed.clone();
    at(point, move || {
        let present = present_workers();
        present.iter().for_each(|&pid| kill(pid));
        eventually("they are dead", || present.iter().all(|&pid| !is_alive(pid)));
        tell.store(present.len(), Ordering::SeqCst);
    });
    let mut errands = Errands::new(pool, 0);
    let mut ends = live(&mut errands);
    ends.extend(errands.wait_for_each(2));
    ends.extend(end(&errands, point));
    let accepted = errands.count();
    let killed = killed.load(Ordering::SeqCst);
    assert_ne!(killed, usize::MAX, "nobody came to {point:?}");
    println!("{killed} workers died");
    assert_eq!(pool.stats().extents, extents, "{point:?}: no block is left");

    let lost = ends.iter().filter_map(|end| end.as_ref().err()).inspect(|error| {
        assert!(matches!(error, Error::WorkerDied(_)), "{point:?}: {error}");
    });
    assert!(lost.count() <= killed, "{point:?}: each death costs one task");
    let runs = record.runs(accepted);
    assert!(runs.iter().all(|&runs| runs <= 1), "{point:?}: no task runs twice: {runs:?}");
    assert!(runs.iter().filter(|&&runs| runs == 0).count() <= killed, "{point:?}: {runs:?}");
    assert!(ends.into_iter().flatten().all(|errand| runs[errand.id] == 1), "{point:?}");
}

/// Those that the pool knows of, and those that it does not know of yet.
fn present_workers() -> Vec<u32> {
    let zygotes = children(std::process::id()).into_iter().filter(|&child| name(child) == "procpool-zygote");
    zygotes.flat_map(children).filter(|&pid| is_alive(pid)).collect()
}
