//! Births and deaths: how long until a pool, or a worker's replacement, has done its first task.

use std::sync::mpsc;
use std::time::Instant;

use procpool::Pool;
use rustix::process::{Signal, getpid, kill_process};

use crate::case::{Case, Contender, Failure, Repeat, Round, milliseconds};
use crate::child;
use crate::contenders::threads::Threads;
use crate::contenders::{WORKERS, rayon};

/// From creating a pool to the first result out of it.
pub(crate) const START_TO_FIRST_RESULT: Case = Case {
    name: "rust/start_to_first_result",
    unit: "ms",
    higher_is_better: false,
    repeat: Repeat::EveryRound,
    contenders: &[
        Contender { name: "procpool", prepare: || in_fresh_process("procpool") },
        Contender { name: "rayon", prepare: || in_fresh_process("rayon") },
        Contender { name: "threads", prepare: || in_fresh_process("threads") },
        Contender { name: "procspawn", prepare: || in_fresh_process("procspawn") },
    ],
    note: "the first pool of a fresh process, of 2; dropping it is not counted",
};

/// From submitting a task that kills its worker to the result of the task after it, in a pool of one.
pub(crate) const REPLACE_DEAD_WORKER: Case = Case {
    name: "rust/replace_dead_worker",
    unit: "ms",
    higher_is_better: false,
    repeat: Repeat::EveryRound,
    contenders: &[
        Contender { name: "procpool", prepare: procpool_replaces },
        Contender { name: "procspawn", prepare: procspawn_replaces },
    ],
    note: "SIGKILL within the task; the next task needs the replacement; threads cannot do this",
};

/// The name of the measurement for `--child`.
pub(crate) const FIRST_RESULT: &str = "first-result";

fn in_fresh_process(contender: &'static str) -> Result<Round, Failure> {
    Ok(Box::new(move || child::measure(FIRST_RESULT, contender)))
}

/// Milliseconds from creating a contender's pool to its first result.
pub(crate) fn first_result(contender: &str) -> Result<f64, Failure> {
    let started = Instant::now();
    match contender {
        "procpool" => {
            let pool = Pool::new(WORKERS)?;
            pool.apply(|()| (), ())?;
            Ok(milliseconds(started.elapsed()))
        }
        "rayon" => {
            let pool = rayon::pool(WORKERS)?;
            let (result, outcome) = mpsc::channel();
            pool.spawn(move || result.send(()).expect("the caller waits"));
            outcome.recv()?;
            Ok(milliseconds(started.elapsed()))
        }
        "threads" => {
            let threads = Threads::new(WORKERS)?;
            let (result, outcome) = mpsc::channel();
            threads.spawn(move || result.send(()).expect("the caller waits"));
            outcome.recv()?;
            Ok(milliseconds(started.elapsed()))
        }
        "procspawn" => {
            let pool = procspawn::Pool::new(WORKERS)?;
            pool.spawn((), |()| ()).join()?;
            Ok(milliseconds(started.elapsed()))
        }
        _ => Err(format!("no contender is called {contender}").into()),
    }
}

/// A task that takes its worker along.
fn kill_the_worker((): ()) {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
}

fn procpool_replaces() -> Result<Round, Failure> {
    let pool = Pool::new(1)?;
    pool.apply(|()| (), ())?;
    Ok(Box::new(move || {
        let started = Instant::now();
        let lost = pool.apply_async(kill_the_worker, ())?;
        let next = pool.apply_async(|()| (), ())?;
        if lost.get().is_ok() {
            return Err("the task that killed its worker has a result".into());
        }
        next.get()?;
        Ok(milliseconds(started.elapsed()))
    }))
}

fn procspawn_replaces() -> Result<Round, Failure> {
    let pool = procspawn::Pool::new(1)?;
    pool.spawn((), |()| ()).join()?;
    Ok(Box::new(move || {
        let started = Instant::now();
        let lost = pool.spawn((), kill_the_worker);
        let next = pool.spawn((), |()| ());
        if lost.join().is_ok() {
            return Err("the task that killed its worker has a result".into());
        }
        next.join()?;
        Ok(milliseconds(started.elapsed()))
    }))
}
