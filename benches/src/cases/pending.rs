//! A million tasks that nobody runs yet: what each costs the process that waits for them.
//!
//! The only worker is held by a task, the others are submitted behind it and their handles kept. What counts is the
//! growth of this process's own memory (anonymous and shared pages) and of its open descriptors. Memory of the kernel,
//! such as the buffers of sockets, is not seen here. Each contender is measured in a process of its own.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use procpool::Pool;

use crate::case::{Case, Contender, Failure, Repeat, Round};
use crate::child;
use crate::contenders::procspawn::most_in_flight;
use crate::contenders::rayon;
use crate::contenders::threads::Threads;
use crate::usage::{descriptors, memory};

/// Memory.
pub(crate) const PENDING_MILLION: Case = Case {
    name: "rust/pending_million",
    unit: "bytes/task",
    higher_is_better: false,
    repeat: Repeat::AtMost(1),
    contenders: &[
        Contender { name: "procpool", prepare: || in_fresh_process(MEMORY, "procpool") },
        Contender { name: "rayon", prepare: || in_fresh_process(MEMORY, "rayon") },
        Contender { name: "threads", prepare: || in_fresh_process(MEMORY, "threads") },
        Contender { name: "procspawn", prepare: || in_fresh_process(MEMORY, "procspawn") },
    ],
    note: "procspawn: 4,000 tasks, or as many as the limit on descriptors allows, and without the memory of its sockets; \
           rayon and threads: a boxed closure and a channel per task",
};

/// Descriptors.
pub(crate) const PENDING_MILLION_DESCRIPTORS: Case = Case {
    name: "rust/pending_million_descriptors",
    unit: "descriptors/task",
    higher_is_better: false,
    repeat: Repeat::AtMost(1),
    contenders: &[
        Contender { name: "procpool", prepare: || in_fresh_process(DESCRIPTORS, "procpool") },
        Contender { name: "procspawn", prepare: || in_fresh_process(DESCRIPTORS, "procspawn") },
    ],
    note: "procspawn: as above; tasks for threads hold none",
};

/// The names of the measurements for `--child`.
pub(crate) const MEMORY: &str = "pending-memory";
pub(crate) const DESCRIPTORS: &str = "pending-descriptors";

const TASKS: usize = 1_000_000;
const TASKS_PROCSPAWN: usize = 4_000;

/// Longer than any run of this program: the task that does this is ended with its worker.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

fn in_fresh_process(measurement: &'static str, contender: &'static str) -> Result<Round, Failure> {
    Ok(Box::new(move || child::measure(measurement, contender)))
}

/// What a number of pending tasks added to the process.
pub(crate) struct Growth {
    tasks: usize,
    bytes: u64,
    descriptors: u64,
}

impl Growth {
    pub(crate) fn bytes_per_task(&self) -> f64 {
        self.bytes as f64 / self.tasks as f64
    }

    pub(crate) fn descriptors_per_task(&self) -> f64 {
        self.descriptors as f64 / self.tasks as f64
    }
}

/// Lets a contender hold pending tasks in this process, and measures them.
pub(crate) fn measure(contender: &str) -> Result<Growth, Failure> {
    match contender {
        "procpool" => in_procpool(),
        "rayon" => in_rayon(),
        "threads" => in_threads(),
        "procspawn" => in_procspawn(),
        _ => Err(format!("no contender is called {contender}").into()),
    }
}

fn in_procpool() -> Result<Growth, Failure> {
    let pool = Pool::new(1)?;
    pool.apply(|()| (), ())?;
    let held = pool.apply_async(|()| thread::sleep(FOR_EVER), ())?;
    // Until the pool knows of its worker there may be one descriptor to come.
    while pool.stats().workers.iter().all(|worker| worker.age.is_none()) {
        thread::yield_now();
    }
    let (growth, handles) = growth_of(TASKS, || Ok(pool.apply_async(|()| (), ())?))?;
    pool.terminate();
    drop((held, handles));
    Ok(growth)
}

fn in_rayon() -> Result<Growth, Failure> {
    let pool = rayon::pool(1)?;
    let (release, gate) = mpsc::channel();
    pool.spawn(move || hold(&gate));
    let (growth, handles) = growth_of(TASKS, || {
        let (result, handle) = mpsc::channel();
        pool.spawn(move || deliver(&result));
        Ok(handle)
    })?;
    drop((release, handles));
    Ok(growth)
}

fn in_threads() -> Result<Growth, Failure> {
    let threads = Threads::new(1)?;
    let (release, gate) = mpsc::channel();
    threads.spawn(move || hold(&gate));
    let (growth, handles) = growth_of(TASKS, || {
        let (result, handle) = mpsc::channel();
        threads.spawn(move || deliver(&result));
        Ok(handle)
    })?;
    drop((release, handles));
    Ok(growth)
}

/// What the only thread does until `release`, the other end, is dropped.
fn hold(gate: &Receiver<()>) {
    let _ = gate.recv();
}

/// What it does afterwards, for each task that was pending.
fn deliver(result: &Sender<()>) {
    let _ = result.send(());
}

fn in_procspawn() -> Result<Growth, Failure> {
    let pool = procspawn::Pool::new(1)?;
    pool.spawn((), |()| ()).join()?;
    let held = pool.spawn((), |()| thread::sleep(FOR_EVER));
    let tasks = most_in_flight(TASKS_PROCSPAWN)?;
    if tasks < TASKS_PROCSPAWN {
        eprintln!("procspawn: {tasks} pending tasks only; the limit on open descriptors allows no more");
    }
    let (growth, handles) = growth_of(tasks, || Ok(pool.spawn((), |()| ())))?;
    pool.kill();
    drop((held, handles));
    Ok(growth)
}

/// Submits `tasks` tasks and returns what they cost, with their handles.
fn growth_of<H>(
    tasks: usize,
    mut submit: impl FnMut() -> Result<H, Failure>,
) -> Result<(Growth, Vec<H>), Failure> {
    let mut handles = Vec::with_capacity(tasks);
    let (bytes, open) = (memory()?, descriptors()?);
    for _ in 0..tasks {
        handles.push(submit()?);
    }
    let growth = Growth {
        tasks,
        bytes: memory()?.saturating_sub(bytes),
        descriptors: descriptors()?.saturating_sub(open),
    };
    Ok((growth, handles))
}
