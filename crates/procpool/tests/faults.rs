//! A worker dies at every step of its way, and nothing is lost but the task that it held.
//!
//! The points are in the engine ([`Point`]): before and after each change that other processes can see. Each story is
//! told for all of them. A zygote's steps are at the end; how a worker fails to enter its sandbox is in `sandbox.rs`.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use common::{Errand, Errands, PATIENCE, Record, Story, eventually, is_alive, kill, name, parent, workers};
use procpool::{AsyncResult, Builder, Error, Pool, Result};
use procpool_engine::{Point, at};

/// How many workers die at each point.
const DEATHS: u64 = 3;

/// Workers of a pool.
const WORKERS: usize = 2;

/// Tells each of the stories for all points, in parts: a test for each path that a worker takes.
macro_rules! walk {
    ($($name:ident: $story:expr,)*) => { $(mod $name {
        use super::*;
        walk! { @ $story,
            while_it_comes_or_goes COMES_AND_GOES, while_it_idles IDLES, while_it_claims CLAIMS,
            while_it_replies REPLIES, while_it_finishes FINISHES, while_it_handles_blocks BLOCKS, while_it_tells TELLS
        }
    })* };
    (@ $story:expr, $($part:ident $points:ident),*) => { $(
        #[test]
        fn $part() {
            for_each_point(Point::$points, $story);
        }
    )* };
}

walk! {
    a_workers_death_costs_no_more_than_the_task_at_hand: |point, story| costs_one_task(point, story, 0),
    a_workers_death_costs_no_more_than_the_task_at_hand_where_payloads_lie_in_blocks:
        |point, story| costs_one_task(point, story, 5000),
    with_retries_a_workers_death_costs_nothing: costs_nothing,
    a_closed_pool_ends_every_task_though_workers_die: ends_every_task_after_close,
    terminate_ends_every_task_though_all_workers_die: ends_every_task_after_terminate,
    where_workers_die_without_end_every_task_ends_with_an_error_that_says_so: ends_without_workers,
}

fn for_each_point(points: &[Point], story: impl Fn(Point, &Story)) {
    let stage = Story::begin();
    for &point in points {
        println!("workers die at {point:?}");
        story(point, &stage);
    }
}

/// Whether a worker holds a task at this point, so that its death costs that task.
fn holds_a_task(point: Point) -> bool {
    let is_at_it = [&Point::CLAIMS[1..], Point::REPLIES, Point::BLOCKS].concat();
    is_about_to_wake(point) || is_at_it.contains(&point)
}

/// Whether only a worker passes this point that wakes another, which it does after it has claimed.
fn is_about_to_wake(point: Point) -> bool {
    matches!(point, Point::Appointed | Point::Chose)
}

/// Whether only a worker passes this point that has a block to handle.
fn needs_blocks(point: Point) -> bool {
    point == Point::Kept || Point::BLOCKS.contains(&point) && point != Point::HalfWritten
}

/// A pool that bears as many deaths as there are here, and whose workers come to the point.
fn hardy(record: &Record, point: Point) -> Builder {
    let builder = record.pool(WORKERS).restart_intensity(usize::MAX, Duration::from_secs(60));
    with_retirement(builder, point)
}

/// Every worker retires after a few tasks, where the point is one that only those pass.
fn with_retirement(builder: Builder, point: Point) -> Builder {
    if matches!(point, Point::Retires | Point::Leaves) { builder.tasks_per_worker(3) } else { builder }
}

/// Tasks that make workers come to the point.
fn errands_to(point: Point, pool: &Pool, load: usize) -> Errands<'_> {
    let mut errands = Errands::new(pool, load);
    errands.hoarded = matches!(point, Point::Kept | Point::Adopts | Point::GivesBack);
    errands.timeout = (point == Point::Began).then_some(PATIENCE);
    errands
}

/// Whether a worker passes this point but once, and before its first task.
fn is_on_the_way_in(point: Point) -> bool {
    [Point::Born, Point::Introduced, Point::Mapped, Point::Attached, Point::Ready].contains(&point)
}

/// Arranges that so many workers die at `point`, and sees to it that they come there.
fn arm(pool: &Pool, point: Point, deaths: u16) {
    pool.arm(point, deaths);
    if is_on_the_way_in(point) {
        // The first workers may have passed it before.
        pool.resize(WORKERS + DEATHS as usize).unwrap();
    }
}

/// Sends tasks until the workers have died.
fn wait_for_deaths(errands: &Errands<'_>, point: Point) -> Vec<Result<Errand>> {
    let mut ends = Vec::new();
    while errands.pool.stats().restarts < DEATHS {
        ends.extend(errands.wait_for_each(1));
        ends.extend(errands.listen(1, &Arc::default()).into_iter().map(AsyncResult::get));
        if is_about_to_wake(point) {
            ends.extend(let_a_worker_choose(errands));
        }
    }
    ends
}

/// One caller stands between its push and the wake-up, while another's task wakes a worker: that one finds more in the
/// queue than it was woken for, and if the other sleeps chooses to wake it.
fn let_a_worker_choose(errands: &Errands<'_>) -> Vec<Result<Errand>> {
    let before = errands.pool.stats().restarts;
    let (is_there, go_on) = stand_at(Point::Pushed);
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| errands.submit().get());
        is_there.recv().unwrap();
        let woken = errands.submit();
        eventually("a worker died, or nothing is left to do", || {
            let stats = errands.pool.stats();
            stats.restarts > before || stats.queued + stats.running == 0
        });
        drop(go_on);
        vec![pushed.join().unwrap(), woken.get()]
    })
}

/// The next thread of this process that comes there says so, and stands until the other end is dropped.
fn stand_at(point: Point) -> (Receiver<()>, Sender<()>) {
    let (stands, is_there) = mpsc::channel();
    let (go_on, may_go) = mpsc::channel();
    at(point, move || {
        let _ = stands.send(());
        let _ = may_go.recv();
    });
    (is_there, go_on)
}

fn costs_one_task(point: Point, story: &Story, load: usize) {
    if load == 0 && needs_blocks(point) {
        return;
    }
    let mut record = Record::new();
    let pool = story.build(hardy(&record, point));
    let extents = pool.stats().extents;
    arm(&pool, point, DEATHS as u16);

    let errands = errands_to(point, &pool, load);
    let mut ends = errands.send_in_all_ways();
    ends.extend(wait_for_deaths(&errands, point));
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
    assert!(errands.are_whole(ends.iter().flatten()), "{point:?}: {ends:?}");
    assert!(ends.into_iter().flatten().all(|errand| runs[errand.id] == 1), "{point:?}");
    // Each of these calls frees two of the abandoned tasks.
    for x in 0..8 {
        assert_eq!(pool.apply(|x: u32| x + 1, x).unwrap(), x + 1, "{point:?}: the pool still works");
    }
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.stats().extents, extents, "{point:?}: no block is left");
}

fn costs_nothing(point: Point, story: &Story) {
    for load in [0, 5000].into_iter().filter(|&load| load > 0 || !needs_blocks(point)) {
        let mut record = Record::new();
        let pool = story.build(hardy(&record, point));
        arm(&pool, point, DEATHS as u16);
        let mut errands = errands_to(point, &pool, load);
        errands.retries = DEATHS as u32;
        let mut ends = errands.send_in_all_ways();
        ends.extend(wait_for_deaths(&errands, point));
        let failed: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
        assert!(failed.is_empty(), "{point:?}: {failed:?}");
        assert!(errands.are_whole(ends.iter().flatten()), "{point:?}");
        eventually("every task has run", || record.runs(errands.count()).iter().all(|&runs| runs >= 1));
        assert_eq!(pool.stats().failed, 0, "{point:?}");
    }
}

fn ends_every_task_after_close(point: Point, story: &Story) {
    let mut record = Record::new();
    let pool = story.build(hardy(&record, point));
    arm(&pool, point, DEATHS as u16);
    let errands = errands_to(point, &pool, 300);
    let called = Arc::new(AtomicUsize::new(0));
    let mut handles = errands.listen(10, &called);
    errands.abandon(10);
    handles.extend((0..10).map(|_| errands.submit()));
    pool.close();
    pool.join().unwrap();

    assert!(handles.iter().all(AsyncResult::is_ready), "{point:?}: joined means that all has ended");
    assert_eq!(called.load(Ordering::SeqCst), 10);
    let lost = handles.into_iter().map(AsyncResult::get).filter(Result::is_err).count() as u64;
    assert!(lost <= if holds_a_task(point) { DEATHS } else { 0 }, "{point:?}: {lost} tasks were lost");
    let runs = record.runs(errands.count());
    assert!(runs.iter().filter(|&&runs| runs == 0).count() as u64 <= DEATHS, "{point:?}: {runs:?}");
    assert!(runs.iter().all(|&runs| runs <= 1), "{point:?}: no task runs twice: {runs:?}");
}

fn ends_every_task_after_terminate(point: Point, story: &Story) {
    let record = Record::new();
    let pool = story.build(hardy(&record, point));
    arm(&pool, point, u16::MAX);
    let errands = errands_to(point, &pool, 300);
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
}

fn ends_without_workers(point: Point, story: &Story) {
    let pool = story.build(with_retirement(Pool::builder().workers(WORKERS), point));
    let present = workers(&pool, WORKERS);
    pool.arm(point, u16::MAX);
    if is_on_the_way_in(point) {
        present.into_iter().for_each(kill);
    }
    let handles: Vec<_> = (0..40).map(|x: u64| pool.apply_async(|x| x, x)).collect();
    for (handle, sent) in handles.into_iter().zip(0..) {
        match handle.and_then(AsyncResult::get) {
            Ok(got) => assert_eq!(got, sent),
            Err(Error::WorkerDied(_)) => assert!(holds_a_task(point) || is_on_the_way_in(point), "{point:?}"),
            Err(Error::TooManyDeaths { .. }) => assert!(!holds_a_task(point), "{point:?}"),
            // A process that died before anybody heard of it was not a worker yet.
            Err(Error::NotStarted(_)) => assert_eq!(point, Point::Born),
            Err(error) => panic!("{point:?}: {error}"),
        }
    }
}

/// The set-up is tried again by the next worker, which says why it fails.
#[test]
fn a_worker_that_dies_while_it_says_that_its_set_up_failed_leaves_that_to_the_next() {
    fn fail(_: ()) {
        panic!("no such model");
    }
    for_each_point(Point::FAILS, |point, story| {
        let pool = story.build(Pool::builder().workers(WORKERS).initializer(fail, ()));
        arm(&pool, point, DEATHS as u16);
        for handle in (0..5).map(|x: u64| pool.apply_async(|x| x, x)) {
            let error = handle.and_then(AsyncResult::get).unwrap_err();
            assert!(matches!(error, Error::InitializerFailed { .. }), "{point:?}: {error}");
            assert!(error.to_string().contains("no such model"), "{point:?}: {error}");
        }
    });
}

/// It would be nobody's once the dead worker is settled, and the next arguments would be written over it.
#[test]
fn an_argument_that_a_dead_worker_had_kept_is_there_for_the_next_attempt() {
    let story = Story::begin();
    let record = Record::new();
    let pool = story.build(record.pool(1));
    pool.arm(Point::Kept, 1);
    let (is_there, go_on) = stand_at(Point::Recovered);
    let mut errands = Errands::new(&pool, 5000);
    (errands.retries, errands.hoarded) = (1, true);
    let first = errands.submit();
    is_there.recv().unwrap();
    // So many that whatever is free of the arena's beginning is used again.
    let others: Vec<_> = (0..100).map(|_| errands.submit()).collect();
    drop(go_on);
    let ends = [first].into_iter().chain(others).map(|handle| handle.get().unwrap());
    let ends: Vec<_> = ends.collect();
    assert!(errands.are_whole(&ends) && ends[0].id == 0);
}

// ---- zygotes ----

/// It may have forked a worker that nobody has heard of, or know of a death that nobody else knows.
#[test]
fn a_zygote_that_dies_at_any_step_costs_no_task_and_leaves_no_place_empty() {
    for_each_point(Point::FORKS, |point, story| {
        let mut record = Record::new();
        let pool = story.build(hardy(&record, point));
        let mut errands = Errands::new(&pool, 300);
        errands.retries = DEATHS as u32;
        for _ in 0..DEATHS {
            // The first worker is one of the present zygote's.
            let zygote = zygote_of(&pool);
            pool.arm(point, 1);
            kill(workers(&pool, WORKERS)[0]);
            let ends = errands.send_in_all_ways();
            assert!(ends.iter().all(Result::is_ok), "{point:?}: {ends:?}");
            eventually("the zygote is dead", || !is_alive(zygote));
        }
        eventually("every task has run", || record.runs(errands.count()).iter().all(|&runs| runs >= 1));
        assert_eq!(workers(&pool, WORKERS).len(), WORKERS);
        assert_eq!(pool.stats().failed, 0, "{point:?}");
    });
}

/// That which started the first worker. Where it is dead, since nobody was missing, that worker's death makes another
/// come.
fn zygote_of(pool: &Pool) -> u32 {
    let find = || parent(workers(pool, WORKERS)[0]).filter(|&parent| name(parent) == "procpool-zygote");
    if find().is_none() {
        kill(workers(pool, WORKERS)[0]);
    }
    let mut found = None;
    eventually("a zygote has started the first worker", || {
        found = find();
        found.is_some()
    });
    found.unwrap()
}
