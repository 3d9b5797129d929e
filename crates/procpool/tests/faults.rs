//! A worker dies at every step of its way, and nothing is lost but the task that it held.
//!
//! The points are in the engine ([`Point`]): before and after each change that other processes can see. Each test
//! walks all of them.

mod common;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::{Story, eventually, workers};
use procpool::{Builder, Error, Pool, Result};
use procpool_engine::Point;
use serde::{Deserialize, Serialize};

/// How many workers die at each point.
const DEATHS: u64 = 3;

/// Workers of a pool.
const WORKERS: usize = 2;

/// Whether a worker holds a task at this point, so that its death costs that task.
fn holds_a_task(point: Point) -> bool {
    matches!(point, Point::Claimed | Point::Helped | Point::Replies | Point::Allocated | Point::Written)
}

/// What a task is given, and gives back: small enough for a slot, or with a load that needs a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Errand {
    id: usize,
    load: Vec<u8>,
}

/// The task: writes down that it ran, and returns what it was given.
fn run(errand: Errand) -> Errand {
    static RECORD: OnceLock<File> = OnceLock::new();
    let open = || File::options().append(true).open(std::env::var("RECORD").unwrap()).unwrap();
    // One write to a file opened for appending: whole, whoever else writes.
    RECORD.get_or_init(open).write_all(format!("{}\n", errand.id).as_bytes()).unwrap();
    errand
}

/// Where tasks write down that they ran: a file without a name, which workers reach through this process.
struct Record(File);

impl Record {
    fn new() -> Self {
        // SAFETY: the name is a C string; the descriptor that comes back is nobody else's.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"record".as_ptr(), libc::MFD_CLOEXEC)) };
        Self(file)
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// How often each task ran, of so many.
    fn runs(&mut self, tasks: usize) -> Vec<usize> {
        let mut text = String::new();
        self.0.rewind().unwrap();
        self.0.read_to_string(&mut text).unwrap();
        let mut runs = vec![0; tasks];
        text.lines().for_each(|id| runs[id.parse::<usize>().unwrap()] += 1);
        runs
    }
}

/// A pool that bears as many deaths as there are here.
fn hardy(record: &Record) -> Builder {
    let builder = Pool::builder().workers(WORKERS).env("RECORD", record.path());
    builder.restart_intensity(usize::MAX, Duration::from_secs(60))
}

/// Tasks on their way, and what became of those that have ended.
struct Errands<'p> {
    pool: &'p Pool,
    load: usize,
    retries: u32,
    next: AtomicUsize,
}

impl<'p> Errands<'p> {
    fn new(pool: &'p Pool, load: usize) -> Self {
        Self { pool, load, retries: 0, next: AtomicUsize::new(0) }
    }

    fn next(&self) -> Errand {
        Errand { id: self.next.fetch_add(1, Ordering::SeqCst), load: vec![7; self.load] }
    }

    fn count(&self) -> usize {
        self.next.load(Ordering::SeqCst)
    }

    fn submit(&self) -> procpool::AsyncResult<Errand> {
        self.pool.options().retries(self.retries).apply_async(run, self.next()).unwrap()
    }

    /// Some whose handles are dropped at once.
    fn abandon(&self, count: usize) {
        (0..count).for_each(|_| drop(self.submit()));
    }

    /// Some by callers that wait for each before they send another.
    fn wait_for_each(&self, count: usize) -> Vec<Result<Errand>> {
        (0..count).map(|_| self.submit().get()).collect()
    }

    /// Some by callers that wait asleep, and by futures.
    fn wait_for_each_as_futures(&self, count: usize) -> Vec<Result<Errand>> {
        (0..count).map(|_| pollster::block_on(self.submit())).collect()
    }

    /// Some with callbacks, which count in `called` how often they were called.
    fn listen(&self, count: usize, called: &Arc<AtomicUsize>) -> Vec<procpool::AsyncResult<Errand>> {
        let call = || {
            let called = called.clone();
            move || {
                called.fetch_add(1, Ordering::SeqCst);
            }
        };
        let listen = |_| {
            let (on_success, on_error) = (call(), call());
            self.submit().on_success(move |_| on_success()).on_error(move |_| on_error())
        };
        (0..count).map(listen).collect()
    }
}

/// Sends tasks in all ways that there are, and gives what became of those that somebody waited for.
fn send_in_all_ways(errands: &Errands<'_>) -> Vec<Result<Errand>> {
    let called = Arc::new(AtomicUsize::new(0));
    let ends = std::thread::scope(|scope| {
        let callers = [scope.spawn(|| errands.wait_for_each(8)), scope.spawn(|| errands.wait_for_each(8))];
        let futures = scope.spawn(|| errands.wait_for_each_as_futures(8));
        let heard = errands.listen(8, &called);
        errands.abandon(8);
        let held: Vec<_> = (0..8).map(|_| errands.submit()).collect();
        let got = heard.into_iter().chain(held).map(procpool::AsyncResult::get);
        let mut ends: Vec<_> = got.collect();
        callers.into_iter().for_each(|caller| ends.extend(caller.join().unwrap()));
        ends.extend(futures.join().unwrap());
        ends
    });
    assert_eq!(called.load(Ordering::SeqCst), 8, "each task with callbacks called one of them, once");
    ends
}

/// Arranges that workers die at `point`, and sees to it that they come there.
fn arm(pool: &Pool, point: Point) {
    pool.arm(point, DEATHS as u16);
    if matches!(point, Point::Attached | Point::Ready) {
        // The first workers may have passed it before.
        pool.resize(WORKERS + DEATHS as usize).unwrap();
    }
}

/// Sends tasks until the workers have died.
fn wait_for_deaths(errands: &Errands<'_>) -> Vec<Result<Errand>> {
    let mut ends = Vec::new();
    while errands.pool.stats().restarts < DEATHS {
        ends.extend(errands.wait_for_each(1));
    }
    ends
}

fn for_each_point(story: impl Fn(Point)) {
    for point in Point::ALL {
        println!("workers die at {point:?}");
        story(point);
    }
}

/// A pool of which every worker retires after a few tasks, where the point is one that only those pass.
fn with_retirement(builder: Builder, point: Point) -> Builder {
    if point == Point::Retires { builder.tasks_per_worker(3) } else { builder }
}

fn walk(load: usize) {
    let story = Story::begin();
    for_each_point(|point| {
        let mut record = Record::new();
        let pool = story.build(with_retirement(hardy(&record), point));
        arm(&pool, point);

        let errands = Errands::new(&pool, load);
        let mut ends = send_in_all_ways(&errands);
        ends.extend(wait_for_deaths(&errands));
        eventually("the abandoned tasks have ended", || {
            let stats = pool.stats();
            stats.queued + stats.running == 0
        });

        let lost = ends.iter().filter_map(|end| end.as_ref().err()).inspect(|error| {
            let Error::WorkerDied(death) = error else { panic!("{point:?}: {error}") };
            assert_eq!((death.signal_name(), death.task.is_some()), (Some("SIGKILL"), true), "{point:?}");
        });
        let (lost, failed) = (lost.count() as u64, pool.stats().failed);
        assert_eq!(failed, if holds_a_task(point) { DEATHS } else { 0 }, "{point:?}: tasks that were lost");
        assert!(lost <= failed);

        let runs = record.runs(errands.count());
        assert!(runs.iter().all(|&runs| runs <= 1), "{point:?}: no task runs twice: {runs:?}");
        for errand in ends.into_iter().flatten() {
            assert_eq!((runs[errand.id], errand.load.len()), (1, load), "{point:?}");
        }
        assert_eq!(pool.apply(|x: u32| x + 1, 1).unwrap(), 2, "{point:?}: the pool still works");
    });
}

#[test]
fn a_death_at_any_point_costs_no_more_than_the_task_at_hand() {
    walk(0);
}

#[test]
fn a_death_at_any_point_costs_no_more_than_the_task_at_hand_where_payloads_lie_in_blocks() {
    walk(5000);
}

#[test]
fn with_retries_a_death_at_any_point_costs_nothing() {
    let story = Story::begin();
    for_each_point(|point| {
        for load in [0, 5000] {
            let mut record = Record::new();
            let pool = story.build(with_retirement(hardy(&record), point));
            arm(&pool, point);
            let mut errands = Errands::new(&pool, load);
            errands.retries = DEATHS as u32;
            let mut ends = send_in_all_ways(&errands);
            ends.extend(wait_for_deaths(&errands));
            let failed: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
            assert!(failed.is_empty(), "{point:?}: {failed:?}");
            eventually("every task has run", || record.runs(errands.count()).iter().all(|&runs| runs >= 1));
            assert_eq!(pool.stats().failed, 0, "{point:?}");
        }
    });
}

#[test]
fn a_closed_pool_ends_every_task_whatever_point_its_workers_die_at() {
    let story = Story::begin();
    for_each_point(|point| {
        let mut record = Record::new();
        let pool = story.build(with_retirement(hardy(&record), point));
        arm(&pool, point);
        let errands = Errands::new(&pool, 300);
        let called = Arc::new(AtomicUsize::new(0));
        let mut handles = errands.listen(10, &called);
        errands.abandon(10);
        handles.extend((0..10).map(|_| errands.submit()));
        pool.close();
        pool.join().unwrap();

        assert!(
            handles.iter().all(procpool::AsyncResult::is_ready),
            "{point:?}: joined means that all has ended"
        );
        assert_eq!(called.load(Ordering::SeqCst), 10);
        let lost = handles.into_iter().map(procpool::AsyncResult::get).filter(Result::is_err).count() as u64;
        assert!(lost <= if holds_a_task(point) { DEATHS } else { 0 }, "{point:?}: {lost} tasks were lost");
        let runs = record.runs(errands.count());
        assert!(runs.iter().filter(|&&runs| runs == 0).count() as u64 <= DEATHS, "{point:?}: {runs:?}");
        assert!(runs.iter().all(|&runs| runs <= 1), "{point:?}: no task runs twice: {runs:?}");
    });
}

#[test]
fn terminate_ends_every_task_whatever_point_all_workers_die_at() {
    let story = Story::begin();
    for_each_point(|point| {
        let record = Record::new();
        let pool = story.build(with_retirement(hardy(&record), point));
        pool.arm(point, u16::MAX);
        let errands = Errands::new(&pool, 300);
        let called = Arc::new(AtomicUsize::new(0));
        let mut handles = errands.listen(5, &called);
        errands.abandon(5);
        handles.extend((0..5).map(|_| errands.submit()));
        handles[0].wait_timeout(Duration::from_millis(20));
        pool.terminate();
        pool.join().unwrap();
        for handle in handles {
            let end = handle.get();
            let allowed = matches!(end, Ok(_) | Err(Error::WorkerDied(_) | Error::Terminated));
            assert!(allowed, "{point:?}: {end:?}");
        }
        assert_eq!(called.load(Ordering::SeqCst), 5);
    });
}

#[test]
fn where_workers_die_without_end_every_task_ends_with_an_error_that_says_so() {
    let story = Story::begin();
    for_each_point(|point| {
        let pool = story.build(with_retirement(Pool::builder().workers(WORKERS), point));
        workers(&pool, WORKERS);
        pool.arm(point, u16::MAX);
        let handles: Vec<_> = (0..40).map(|x: u64| pool.apply_async(|x| x, x)).collect();
        for (handle, sent) in handles.into_iter().zip(0..) {
            match handle.and_then(procpool::AsyncResult::get) {
                Ok(got) => assert_eq!(got, sent),
                Err(Error::WorkerDied(_)) => assert!(holds_a_task(point), "{point:?}"),
                Err(Error::TooManyDeaths { .. }) => assert!(!holds_a_task(point), "{point:?}"),
                Err(error) => panic!("{point:?}: {error}"),
            }
        }
    });
}
