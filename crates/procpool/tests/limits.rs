//! What a task may cost, how often it is tried, how long a worker serves, and what happens when there is no room.

mod common;

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Gate, PATIENCE, Story, alone, eventually, is_alive, kill, workers};
use procpool::{AsyncResult, Buffer, Error, Options, Pool, TimeLimit};

fn square(x: u64) -> u64 {
    x * x
}

fn sleep_for_ever(_: ()) {
    thread::sleep(PATIENCE * 2);
}

fn process(_: ()) -> u32 {
    std::process::id()
}

/// Tells how often a task was begun: each attempt makes another file.
struct Attempts(tempfile::TempDir);

impl Attempts {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> String {
        self.0.path().display().to_string()
    }

    fn count(&self) -> usize {
        std::fs::read_dir(self.0.path()).unwrap().count()
    }
}

/// Task: counts this attempt, and gives how many there were before.
fn begin_attempt(folder: &str) -> usize {
    let before = std::fs::read_dir(folder).unwrap().count();
    File::create_new(format!("{folder}/{before}")).unwrap();
    before
}

// ---- time ----

#[test]
fn a_task_that_runs_too_long_is_ended_and_its_worker_replaced() {
    let story = Story::begin();
    let pool = story.pool(1);
    let worker = workers(&pool, 1)[0];
    let limit = Duration::from_millis(100);
    let error = pool.options().timeout(limit).apply(sleep_for_ever, ()).unwrap_err();
    let Error::TimedOut { ran: Some(ran), limit: reached } = error else { panic!("{error}") };
    assert!(ran >= limit, "{ran:?}");
    assert_eq!(reached, TimeLimit::Timeout(limit));
    assert!(!is_alive(worker));
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

#[test]
fn the_time_in_the_queue_does_not_count() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let running = gate.enter(&pool);
    let limit = Duration::from_secs(5);
    let queued = pool.options().timeout(limit).apply_async(square, 3).unwrap();
    let submitted = Instant::now();
    eventually("it has waited for longer than its limit", || submitted.elapsed() > limit);
    assert!(!queued.is_ready());
    gate.open();
    assert_eq!((running.get().unwrap(), queued.get().unwrap()), (1, 9));
}

#[test]
fn a_time_limit_harms_no_other_task() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(2), Gate::closed());
    let innocent = gate.enter(&pool);
    let limited = pool.options().timeout(Duration::from_millis(20));
    for _ in 0..5 {
        assert!(matches!(limited.apply(sleep_for_ever, ()), Err(Error::TimedOut { .. })));
    }
    gate.open();
    assert_eq!(innocent.get().unwrap(), 1);
}

#[test]
fn a_task_that_ends_about_when_its_time_does_ends_once() {
    fn sleep(microseconds: u64) -> u64 {
        thread::sleep(Duration::from_micros(microseconds));
        microseconds
    }
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(2).restart_intensity(usize::MAX, PATIENCE));
    let limited = pool.options().timeout(Duration::from_millis(3));
    let (mut finished, mut ended) = (0, 0);
    for x in 0..100 {
        let time = 2500 + x * 10;
        match limited.apply(sleep, time) {
            Ok(slept) => {
                assert_eq!(slept, time);
                finished += 1;
            }
            Err(Error::TimedOut { .. }) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!("{finished} finished, {ended} were ended");
}

#[test]
fn no_time_at_all_is_a_limit_like_any_other() {
    let story = Story::begin();
    let pool = story.pool(1);
    let limited = pool.options().timeout(Duration::ZERO);
    assert!(matches!(limited.apply(sleep_for_ever, ()), Err(Error::TimedOut { .. })));
    assert!(matches!(limited.apply(square, 2), Ok(4) | Err(Error::TimedOut { .. })));
}

#[test]
fn a_worker_is_killed_soon_after_its_tasks_time_is_over() {
    let story = Story::begin();
    let pool = story.pool(2);
    let promised = Duration::from_millis(50);
    let limit = Duration::from_millis(100);
    let mut late = Vec::new();
    for kind in [Options::timeout, Options::deadline] {
        for _ in 0..10 {
            let began = Instant::now();
            let error = kind(pool.options(), limit).apply(sleep_for_ever, ()).unwrap_err();
            assert!(matches!(error, Error::TimedOut { ran: Some(_), .. }), "{error}");
            late.push(began.elapsed().saturating_sub(limit));
        }
    }
    late.sort();
    println!(
        "the caller heard of it after {:?} at best, {:?} mostly, {:?} at worst",
        late[0], late[10], late[19]
    );
    // The machine may be busy with other tests, but not all the time.
    assert!(late[0] < promised, "{late:?}");
}

// ---- deadlines ----

#[test]
fn a_queued_task_ends_soon_after_its_deadline_also_where_the_supervisor_would_sleep_for_longer() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let running = gate.enter(&pool);
    let deadline = Duration::from_millis(300);
    let mut late = Vec::new();
    for _ in 0..6 {
        let began = Instant::now();
        let error = pool.options().deadline(deadline).apply(square, 3).unwrap_err();
        assert!(matches!(error, Error::TimedOut { ran: None, .. }), "{error}");
        late.push(began.elapsed().saturating_sub(deadline));
    }
    // Before the first, the supervisor may have been about to look anyhow.
    println!("the caller heard of it late by {late:?}");
    assert!(late[1..].iter().any(|&late| late < Duration::from_millis(50)), "{late:?}");
    gate.open();
    assert_eq!(running.get().unwrap(), 1);
}

#[test]
fn a_task_whose_deadline_passes_in_the_queue_is_never_run() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let running = gate.enter(&pool);
    let attempts = Attempts::new();
    let begin = |folder: String| begin_attempt(&folder);
    let deadline = Duration::from_millis(50);
    let queued = pool.options().deadline(deadline).retries(3).apply_async(begin, attempts.path()).unwrap();
    let patient = pool.options().deadline(PATIENCE).apply_async(square, 3).unwrap();
    let error = queued.get().unwrap_err();
    let Error::TimedOut { ran: None, limit: TimeLimit::Deadline(reached) } = error else { panic!("{error}") };
    assert_eq!(reached, deadline);
    assert!(error.to_string().contains("no worker had begun it"), "{error}");
    gate.open();
    assert_eq!((running.get().unwrap(), patient.get().unwrap()), (1, 9));
    assert_eq!((attempts.count(), pool.stats().retries, pool.stats().restarts), (0, 0, 0));
}

#[test]
fn a_task_that_runs_at_its_deadline_is_ended_and_no_other() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(2), Gate::closed());
    let innocent = gate.enter(&pool);
    let deadline = Duration::from_millis(100);
    let limited = pool.options().deadline(deadline).retries(5);
    let error = limited.apply(sleep_for_ever, ()).unwrap_err();
    let Error::TimedOut { ran: Some(ran), limit } = error else { panic!("{error}") };
    assert!(limit == TimeLimit::Deadline(deadline) && ran > Duration::ZERO, "{ran:?}");
    gate.open();
    assert_eq!(innocent.get().unwrap(), 1);
    assert_eq!(pool.stats().retries, 0, "another attempt would come after the deadline");
}

#[test]
fn of_timeout_and_deadline_the_one_that_comes_first_ends_a_task() {
    let story = Story::begin();
    let pool = story.pool(1);
    let (short, long) = (Duration::from_millis(50), PATIENCE);
    let ended_by = |timeout, deadline| {
        let options = pool.options().timeout(timeout).deadline(deadline);
        match options.apply(sleep_for_ever, ()) {
            Err(Error::TimedOut { limit, .. }) => limit,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ended_by(short, long), TimeLimit::Timeout(short));
    assert_eq!(ended_by(long, short), TimeLimit::Deadline(short));
}

#[test]
fn a_deadline_is_the_end_of_a_task_whose_worker_is_being_killed_for_its_time() {
    let story = Story::begin();
    let pool = story.pool(1);
    let at_once = Duration::from_millis(100);
    for _ in 0..5 {
        let limited = pool.options().timeout(at_once).deadline(at_once).retries(u32::MAX);
        let error = limited.apply(sleep_for_ever, ()).unwrap_err();
        assert!(matches!(error, Error::TimedOut { limit: TimeLimit::Deadline(_), .. }), "{error}");
    }
}

#[test]
fn deadlines_hold_in_any_order_and_for_many_tasks() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let running = gate.enter(&pool);
    let deadline =
        |x: u64| Duration::from_millis(if x.is_multiple_of(2) { 60_000 } else { 1 + x * 37 % 200 });
    let submit = |x| pool.options().deadline(deadline(x)).apply_async(square, x).unwrap();
    let handles: Vec<_> = (0..1000).map(|x| (x, submit(x))).collect();
    let (even, odd): (Vec<_>, Vec<_>) = handles.into_iter().partition(|(x, _)| x.is_multiple_of(2));
    for (_, handle) in odd {
        assert!(matches!(handle.get(), Err(Error::TimedOut { ran: None, .. })));
    }
    gate.open();
    assert!(even.into_iter().all(|(x, handle)| handle.get().unwrap() == square(x)));
    assert_eq!(running.get().unwrap(), 1);
}

#[test]
fn a_deadline_of_a_task_that_has_ended_harms_nobody() {
    let story = Story::begin();
    let pool = story.pool(1);
    let deadline = Duration::from_secs(3);
    let kept: Vec<_> =
        (0..10).map(|x| pool.options().deadline(deadline).apply_async(square, x).unwrap()).collect();
    let submitted = Instant::now();
    kept.iter().for_each(AsyncResult::wait);
    let worker = workers(&pool, 1)[0];
    // The slots of these are used again, by tasks without a limit.
    assert!((0..10).all(|x| pool.options().deadline(deadline).apply(square, x).unwrap() == square(x)));
    let gate = Gate::closed();
    let running = gate.enter(&pool);
    eventually("all deadlines have passed", || submitted.elapsed() > deadline * 2);
    gate.open();
    assert_eq!(running.get().unwrap(), 1);
    assert!(kept.into_iter().zip(0..).all(|(handle, x)| handle.get().unwrap() == square(x)));
    assert_eq!(workers(&pool, 1), [worker]);
}

#[test]
fn a_deadline_ends_the_wait_for_another_attempt() {
    fn die(folder: String) {
        begin_attempt(&folder);
        std::process::abort();
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let attempts = Attempts::new();
    let options = pool.options().retries(u32::MAX).deadline(Duration::from_secs(1));
    let error = options.apply(die, attempts.path()).unwrap_err();
    let Error::TimedOut { ran: Some(_), limit: TimeLimit::Deadline(_) } = error else { panic!("{error}") };
    println!("{} attempts before the deadline", attempts.count());
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

// ---- retries ----

#[test]
fn a_task_is_tried_again_after_its_workers_death() {
    fn die_twice(folder: String) -> usize {
        let before = begin_attempt(&folder);
        if before < 2 { std::process::abort() } else { before }
    }
    let story = Story::begin();
    let pool = story.pool(1);
    for payload in [0, 5000] {
        let attempts = Attempts::new();
        let task = |(folder, _): (String, Vec<u8>)| die_twice(folder);
        let argument = (attempts.path(), vec![0; payload]);
        assert_eq!(pool.options().retries(2).apply(task, argument).unwrap(), 2);
        let attempts = Attempts::new();
        let argument = (attempts.path(), vec![0; payload]);
        let error = pool.options().retries(1).apply(task, argument).unwrap_err();
        assert!(matches!(error, Error::WorkerDied(_)));
        assert_eq!(attempts.count(), 2);
    }
    assert_eq!(pool.stats().retries, 2 * (2 + 1));
}

#[test]
fn a_task_is_tried_again_after_its_time_was_over() {
    fn be_slow_once(folder: String) -> usize {
        let before = begin_attempt(&folder);
        if before == 0 {
            sleep_for_ever(());
        }
        before
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let attempts = Attempts::new();
    let options = pool.options().timeout(Duration::from_secs(2)).retries(3);
    assert_eq!(options.apply(be_slow_once, attempts.path()).unwrap(), 1);
    assert_eq!((attempts.count(), pool.stats().retries), (2, 1));
}

#[test]
fn a_task_is_not_tried_again_after_an_error_of_its_own() {
    fn panic_always(folder: String) {
        begin_attempt(&folder);
        panic!("always");
    }
    fn cannot_be_sent(folder: String) -> Unsendable {
        begin_attempt(&folder);
        Unsendable
    }
    #[derive(Debug, serde::Deserialize)]
    struct Unsendable;
    impl serde::Serialize for Unsendable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("never"))
        }
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let options = pool.options().retries(5);
    let attempts = Attempts::new();
    assert!(matches!(options.apply(panic_always, attempts.path()), Err(Error::Panicked { .. })));
    assert!(matches!(options.apply(cannot_be_sent, attempts.path()), Err(Error::ResultNotSent { .. })));
    assert_eq!((attempts.count(), pool.stats().retries), (2, 0));
}

#[test]
fn a_task_that_was_cancelled_or_took_too_much_memory_is_not_tried_again() {
    fn take_memory(folder: String) {
        begin_attempt(&folder);
        let mut taken = Vec::new();
        loop {
            taken.push(vec![1_u8; 1 << 20]);
            thread::sleep(Duration::from_millis(1));
        }
    }
    fn stay(folder: String) {
        begin_attempt(&folder);
        sleep_for_ever(());
    }
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).memory_limit_hard(64 << 20));
    let attempts = Attempts::new();
    let running = pool.options().retries(5).apply_async(stay, attempts.path()).unwrap();
    eventually("it runs", || attempts.count() == 1);
    assert!(running.cancel_running());
    assert!(matches!(running.get(), Err(Error::Cancelled)));
    let error = pool.options().retries(5).apply(take_memory, attempts.path()).unwrap_err();
    assert!(matches!(error, Error::MemoryLimit { .. }));
    assert_eq!((attempts.count(), pool.stats().retries), (2, 0));
}

#[test]
fn a_task_that_waits_for_another_attempt_can_be_cancelled_and_terminated() {
    fn die(folder: String) {
        begin_attempt(&folder);
        std::process::abort();
    }
    let story = Story::begin();
    for terminates in [true, false] {
        let pool = story.build(Pool::builder().workers(1).restart_intensity(usize::MAX, PATIENCE));
        let attempts = Attempts::new();
        let handle = pool.options().retries(u32::MAX).apply_async(die, attempts.path()).unwrap();
        eventually("it was tried some times", || attempts.count() >= 3);
        if terminates {
            pool.terminate();
            assert!(matches!(handle.get(), Err(Error::Terminated)));
        } else {
            eventually("it is cancelled", || handle.cancel() || handle.cancel_running());
            assert!(matches!(handle.get(), Err(Error::Cancelled)));
            assert_eq!(pool.apply(square, 3).unwrap(), 9);
        }
    }
}

#[test]
fn a_task_that_kills_every_worker_is_reported_with_all_its_deaths() {
    fn die(folder: String) {
        match begin_attempt(&folder) {
            0 => std::process::exit(7),
            // SAFETY: `kill` has no precondition.
            1 => unsafe { libc::kill(libc::getpid(), libc::SIGKILL) },
            _ => std::process::abort(),
        };
    }
    let story = Story::begin();
    let (pool, gate) = (story.pool(2), Gate::closed());
    let innocent = gate.enter(&pool);
    let attempts = Attempts::new();
    let poison = pool.options().retries(3).apply_async(die, attempts.path()).unwrap();
    let error = poison.get().unwrap_err();
    let Error::WorkerDied(last) = &error else { panic!("{error}") };
    let all: Vec<_> = last.earlier().iter().chain([last]).collect();
    let causes: Vec<_> = all.iter().map(|death| (death.code, death.signal)).collect();
    let expected = [(Some(7), None), (None, Some(9)), (None, Some(6)), (None, Some(6))];
    assert_eq!(causes, expected, "{error}");
    assert!(all.iter().all(|death| death.task == last.task && death.earlier().is_empty() || *death == last));
    let said = error.to_string();
    assert!(all.iter().all(|death| said.contains(&format!("worker {} ", death.pid))), "{said}");
    gate.open();
    assert_eq!((innocent.get().unwrap(), attempts.count(), pool.stats().retries), (1, 4, 3));
}

#[test]
fn between_two_attempts_a_task_holds_no_worker() {
    fn die(folder: String) {
        begin_attempt(&folder);
        std::process::abort();
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let attempts = Attempts::new();
    let poison = pool.options().retries(u32::MAX).apply_async(die, attempts.path()).unwrap();
    eventually("it waits for longer than a task takes", || attempts.count() >= 6);
    for x in 0..50 {
        assert_eq!(pool.options().retries(9).apply(square, x).unwrap(), square(x));
    }
    let waits = |_: u32| pool.stats().queued == 1 && pool.stats().running == 0;
    eventually("it waits", || (0..1000).any(waits));
    assert!(poison.cancel(), "it is on no worker, so it can be taken back");
    let tried = attempts.count();
    assert!(matches!(poison.get(), Err(Error::Cancelled)));
    // Its turn comes, and nothing happens.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!((attempts.count(), pool.apply(square, 3).unwrap(), pool.stats().repairs), (tried, 9, 0));
}

#[test]
fn a_closed_pool_makes_all_attempts_and_starts_workers_only_for_them() {
    fn die_often(folder: String) -> usize {
        let before = begin_attempt(&folder);
        if before < 6 { std::process::abort() } else { before }
    }
    let story = Story::begin();
    let pool = story.pool(2);
    let attempts = Attempts::new();
    let handle = pool.options().retries(6).apply_async(die_often, attempts.path()).unwrap();
    pool.close();
    pool.join().unwrap();
    assert_eq!((handle.get().unwrap(), attempts.count()), (6, 7));
    println!("{} workers were started after the first two", pool.stats().restarts);
    assert!(pool.stats().restarts <= 8, "{}", pool.stats().restarts);
}

// ---- workers ----

#[test]
fn each_worker_process_runs_exactly_as_many_tasks_as_it_may() {
    let story = Story::begin();
    for (most, count) in [(1, 1), (1, 3), (3, 2), (10, 3)] {
        let pool = story.build(Pool::builder().workers(count).tasks_per_worker(most));
        let handles: Vec<_> = (0..30).map(|_| pool.apply_async(process, ()).unwrap()).collect();
        let mut tasks: HashMap<u32, u64> = HashMap::new();
        handles.into_iter().for_each(|handle| *tasks.entry(handle.get().unwrap()).or_default() += 1);
        let fewer = tasks.values().filter(|&&ran| ran < most).count();
        assert!(tasks.values().all(|&ran| ran <= most) && fewer <= count, "{most} at most: {tasks:?}");
    }
}

#[test]
fn a_chunk_counts_as_one_task_of_its_worker() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).tasks_per_worker(1));
    let pids = pool.options().chunk_size(5).map(process, [(); 20]).unwrap();
    let mut distinct = pids.clone();
    distinct.dedup();
    assert_eq!(distinct.len(), 4);
    assert!(pids.chunks(5).all(|chunk| chunk.iter().all(|&pid| pid == chunk[0])));
}

#[test]
fn a_worker_that_has_grown_too_large_is_replaced_after_its_task() {
    fn grow(bytes: usize) -> u32 {
        std::mem::forget(vec![1_u8; bytes]);
        std::process::id()
    }
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).memory_limit(64 << 20));
    let first = pool.apply(grow, 1 << 20).unwrap();
    assert_eq!(pool.apply(grow, 1 << 20).unwrap(), first);
    assert_eq!(pool.apply(grow, 100 << 20).unwrap(), first, "the task itself is not harmed");
    let second = pool.apply(process, ()).unwrap();
    assert_ne!(second, first);
    assert_eq!(pool.stats().failed, 0);
}

#[test]
fn a_task_that_takes_too_much_memory_is_ended() {
    fn take(megabytes: usize) -> usize {
        let mut taken = Vec::new();
        for _ in 0..megabytes {
            taken.push(vec![1_u8; 1 << 20]);
            thread::sleep(Duration::from_millis(1));
        }
        taken.len()
    }
    let story = Story::begin();
    let limit = 64 << 20;
    let pool = story.build(Pool::builder().workers(2).memory_limit_hard(limit));
    assert_eq!(pool.apply(take, 10).unwrap(), 10);
    let innocent = pool.apply_async(take, 20).unwrap();
    let error = pool.apply(take, 1_000_000).unwrap_err();
    let Error::MemoryLimit { seen, peak, limit: allowed } = error else { panic!("{error}") };
    assert!(seen > limit && peak >= seen && allowed == limit, "{seen} {peak}");
    assert!(
        [seen, peak, limit].iter().all(|bytes| error.to_string().contains(&bytes.to_string())),
        "{error}"
    );
    assert_eq!(innocent.get().unwrap(), 20);
    assert_eq!(pool.apply(take, 1).unwrap(), 1);
}

#[test]
fn a_task_that_takes_memory_as_fast_as_it_can_is_ended_before_it_has_much() {
    /// Also the first task of an idle pool, that nobody measured before.
    fn devour(_: ()) -> usize {
        let mut taken: Vec<Vec<u8>> = Vec::new();
        // Enough for the kernel to act, were the limit not there; but not more than the test may take of the machine.
        while taken.len() < 4 << 10 {
            taken.push(vec![1; 1 << 20]);
        }
        taken.len()
    }
    let story = Story::begin();
    let limit = 64 << 20;
    let pool = story.build(Pool::builder().workers(1).memory_limit_hard(limit));
    for _ in 0..3 {
        let before = workers(&pool, 1)[0];
        let error = pool.apply(devour, ()).unwrap_err();
        let Error::MemoryLimit { seen, peak, .. } = error else { panic!("{error}") };
        println!("limit {} MiB, seen with {}, peak {}", limit >> 20, seen >> 20, peak >> 20);
        assert!(!is_alive(before));
        eventually("nobody watches any more", || {
            thread::sleep(Duration::from_secs(2));
            pool.stats().running == 0
        });
    }
}

#[test]
fn shared_memory_does_not_count_as_a_workers_own() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).memory_limit(64 << 20).memory_limit_hard(64 << 20));
    let worker = pool.apply(process, ()).unwrap();
    let sum = |buffer: Buffer<u8>| {
        thread::sleep(Duration::from_millis(50));
        buffer.iter().map(|&byte| u64::from(byte)).sum::<u64>()
    };
    assert_eq!(pool.apply(sum, vec![1; 128 << 20].into()).unwrap(), 128 << 20);
    assert_eq!(pool.apply(process, ()).unwrap(), worker);
}

#[test]
fn deaths_that_cost_a_task_do_not_make_a_pool_give_up() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).restart_intensity(0, PATIENCE));
    for _ in 0..20 {
        let error = pool.apply(|_: ()| -> u8 { std::process::abort() }, ()).unwrap_err();
        assert!(matches!(error, Error::WorkerDied(_)));
    }
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

#[test]
fn idle_deaths_beyond_the_limit_make_a_pool_give_up() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).restart_intensity(2, PATIENCE));
    for _ in 0..3 {
        let worker = workers(&pool, 1)[0];
        kill(worker);
        eventually("its death was noticed", || pool.stats().workers.iter().all(|other| other.pid != worker));
    }
    let mut error = None;
    eventually("the pool gives up", || {
        error = pool.apply(square, 1).err();
        error.is_some()
    });
    let Some(Error::TooManyDeaths { deaths: 3, last, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(last.signal_name(), Some("SIGKILL"));
    assert!(matches!(pool.join(), Err(Error::TooManyDeaths { .. })));
}

#[test]
fn deaths_with_finished_tasks_between_them_do_not_make_a_pool_give_up() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).restart_intensity(1, PATIENCE));
    for x in 0..10 {
        assert_eq!(pool.options().retries(1).apply(square, x).unwrap(), square(x));
        let worker = workers(&pool, 1)[0];
        eventually("the task is counted", || pool.stats().done > x);
        kill(worker);
        eventually("its death was noticed", || pool.stats().workers.iter().all(|other| other.pid != worker));
    }
}

#[test]
fn tasks_have_the_stack_that_was_asked_for() {
    fn descend(kibibytes: usize) -> u64 {
        let frame = std::hint::black_box([1_u8; 1024]);
        u64::from(frame[0]) + if kibibytes > 1 { descend(kibibytes - 1) } else { 0 }
    }
    let story = Story::begin();
    let large = story.build(Pool::builder().workers(1).stack_size(64 << 20));
    assert_eq!(large.apply(descend, 16 << 10).unwrap(), 16 << 10);
    let small = story.build(Pool::builder().workers(1).stack_size(128 << 10));
    assert!(matches!(small.apply(descend, 16 << 10), Err(Error::WorkerDied(_))));
    assert_eq!(small.apply(descend, 8).unwrap(), 8);
}

#[test]
fn workers_have_the_environment_that_was_asked_for() {
    fn look_up(name: String) -> Option<String> {
        std::env::var(name).ok()
    }
    let story = Story::begin();
    let builder =
        Pool::builder().workers(1).env("PROCPOOL_A", "first").env("PROCPOOL_B", "x").env("PATH", "/nowhere");
    let pool = story.build(builder.env("PROCPOOL_B", "second"));
    assert_eq!(pool.apply(look_up, "PROCPOOL_A".to_owned()).unwrap().as_deref(), Some("first"));
    assert_eq!(pool.apply(look_up, "PROCPOOL_B".to_owned()).unwrap().as_deref(), Some("second"));
    assert_eq!(pool.apply(look_up, "PATH".to_owned()).unwrap().as_deref(), Some("/nowhere"));
    assert_eq!(pool.apply(look_up, "PROCPOOL_ZYGOTE".to_owned()).unwrap(), None, "our own is gone");
    assert_eq!(look_up("PROCPOOL_A".to_owned()), None, "this process has its own");
}

#[test]
fn every_worker_runs_the_initializer_once_with_its_argument() {
    static STATE: AtomicUsize = AtomicUsize::new(0);
    fn prepare((base, words): (usize, Vec<String>)) {
        assert_eq!(STATE.swap(base + words.len(), Ordering::SeqCst), 0, "it is called once");
    }
    fn state(_: ()) -> (u32, usize) {
        (std::process::id(), STATE.load(Ordering::SeqCst))
    }
    let story = Story::begin();
    for length in [1, 5000] {
        let words = vec!["word".to_owned(); length];
        let pool =
            story.build(Pool::builder().workers(2).tasks_per_worker(2).initializer(prepare, (100, words)));
        let states: HashMap<u32, usize> = (0..20).map(|_| pool.apply(state, ()).unwrap()).collect();
        assert!(states.len() >= 5 && states.values().all(|&state| state == 100 + length), "{states:?}");
    }
}

#[test]
fn an_initializer_may_be_given_buffers() {
    static TABLE: std::sync::OnceLock<Buffer<u32>> = std::sync::OnceLock::new();
    fn keep(table: Buffer<u32>) {
        TABLE.set(table).unwrap();
    }
    fn look_up(index: usize) -> u32 {
        TABLE.get().unwrap()[index]
    }
    let story = Story::begin();
    let table: Buffer<u32> = (0..100_000).collect();
    let pool = story.build(Pool::builder().workers(2).tasks_per_worker(10).initializer(keep, table));
    assert_eq!(
        pool.map(look_up, (0..100).map(|x| x * 1000)).unwrap(),
        (0..100).map(|x| x * 1000).collect::<Vec<u32>>()
    );
}

// ---- room ----

fn limit_files(most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: `limit` is whole.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

#[test]
fn a_caller_waits_where_there_is_no_room_for_another_task() {
    alone(|story| {
        // The smallest memory there is: room for 4096 tasks.
        limit_files(16 << 20);
        let (pool, gate) = (story.pool(1), Gate::closed());
        let running = gate.enter(&pool);
        let accepted = AtomicUsize::new(0);
        thread::scope(|scope| {
            let caller = scope.spawn(|| {
                for x in 0..20_000 {
                    drop(pool.apply_async(square, x).unwrap());
                    accepted.fetch_add(1, Ordering::SeqCst);
                }
            });
            eventually("there is no more room", || {
                let before = accepted.load(Ordering::SeqCst);
                thread::sleep(Duration::from_millis(200));
                before > 1000 && accepted.load(Ordering::SeqCst) == before
            });
            assert!(accepted.load(Ordering::SeqCst) < 20_000 && !caller.is_finished());
            gate.open();
        });
        assert_eq!(running.get().unwrap(), 1);
        assert_eq!(pool.apply(square, 3).unwrap(), 9);
        assert_eq!(pool.stats().accepted, 20_002);
    });
}

#[test]
fn a_caller_that_waits_for_room_is_told_of_the_end_of_the_pool() {
    alone(|story| {
        limit_files(16 << 20);
        for closes in [true, false] {
            let (pool, gate) = (story.pool(1), Gate::closed());
            let running = gate.enter(&pool);
            let accepted = AtomicUsize::new(0);
            let submit = |_| {
                accepted.fetch_add(1, Ordering::SeqCst);
                pool.apply_async(square, 1).map(drop)
            };
            let refused = thread::scope(|scope| {
                let caller = scope.spawn(|| (0..).find_map(|x: u32| submit(x).err()).unwrap());
                eventually("there is no more room", || {
                    let before = accepted.load(Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(200));
                    before > 1000 && accepted.load(Ordering::SeqCst) == before
                });
                if closes {
                    pool.close()
                } else {
                    pool.terminate()
                }
                caller.join().unwrap()
            });
            assert!(matches!((closes, refused), (true, Error::Closed) | (false, Error::Terminated)));
            gate.open();
            assert_eq!(running.get().is_ok(), closes);
        }
    });
}

#[test]
fn large_payloads_wait_for_room_as_well() {
    alone(|story| {
        limit_files(32 << 20);
        let pool = story.pool(2);
        let length = |bytes: Buffer<u8>| bytes.len();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        assert_eq!(pool.apply(length, vec![1; 2 << 20].into()).unwrap(), 2 << 20);
                    }
                });
            }
        });
    });
}

#[test]
fn where_every_task_has_ended_and_none_was_taken_a_caller_is_told_and_does_not_wait() {
    alone(|story| {
        limit_files(16 << 20);
        let pool = story.pool(1);
        let mut handles = Vec::new();
        let error = loop {
            match pool.apply_async(square, 2) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoRoom { arena: None, .. }), "{error}");
        println!("{} results were kept", handles.len());
        assert!(handles.into_iter().all(|handle| handle.get().unwrap() == 4));
        assert_eq!(pool.apply(square, 3).unwrap(), 9);
    });
}

#[test]
fn tasks_that_were_cancelled_take_no_room_for_ever() {
    alone(|story| {
        limit_files(16 << 20);
        for ends_by_terminate in [false, true] {
            let (pool, gate) = (story.pool(1), Gate::closed());
            let running = gate.enter(&pool);
            thread::scope(|scope| {
                let caller = scope.spawn(|| {
                    // More than the queue holds; nobody looks at it while the only worker is busy.
                    for _ in 0..10_000 {
                        match pool.apply_async(square, 1) {
                            Ok(handle) => assert!(handle.cancel() || handle.get().is_ok()),
                            Err(error) => return error,
                        }
                    }
                    Error::Closed
                });
                thread::sleep(Duration::from_millis(300));
                if ends_by_terminate {
                    pool.terminate();
                    assert!(matches!(caller.join().unwrap(), Error::Terminated));
                } else {
                    gate.open();
                    assert!(matches!(caller.join().unwrap(), Error::Closed));
                    assert_eq!(pool.apply(square, 3).unwrap(), 9);
                }
            });
            assert_eq!(running.get().is_ok(), !ends_by_terminate);
        }
    });
}
