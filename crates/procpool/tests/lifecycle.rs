//! A pool's life: work, close, join, terminate, resize; its processes killed meanwhile; and random calls against a
//! model of what they may do.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{
    Gate, PATIENCE, Story, alone, children, eventually, is_alive, kill, name, signal, state, workers,
};
use procpool::{AsyncResult, Error, Pool};
use proptest::prelude::*;

fn square(x: u64) -> u64 {
    x * x
}

fn sleep_for_ever(_: ()) -> u64 {
    thread::sleep(PATIENCE * 2);
    0
}

// ---- the end ----

#[test]
fn close_finishes_what_was_accepted_and_join_waits_for_that() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(2), Gate::closed());
    let held: Vec<_> = (0..2).map(|_| gate.submit(&pool)).collect();
    let queued: Vec<_> = (0..100).map(|x| pool.apply_async(square, x).unwrap()).collect();
    pool.close();
    assert!(!pool.join_timeout(Duration::from_millis(10)).unwrap());
    assert!(queued.iter().all(|handle| !handle.is_ready()));
    gate.open();
    pool.join().unwrap();
    assert!(held.iter().all(AsyncResult::is_ready) && queued.iter().all(AsyncResult::is_ready));
    for (handle, x) in queued.into_iter().zip(0..) {
        assert_eq!(handle.get().unwrap(), square(x));
    }
    assert!(pool.stats().workers.is_empty());
}

#[test]
fn terminate_ends_what_is_queued_and_what_runs_and_keeps_what_has_ended() {
    let story = Story::begin();
    let pool = story.pool(2);
    let ended = pool.apply_async(square, 3).unwrap();
    ended.wait();
    let running: Vec<_> = (0..2).map(|_| pool.apply_async(sleep_for_ever, ()).unwrap()).collect();
    eventually("both run", || pool.stats().running == 2);
    let queued: Vec<_> = (0..100).map(|x| pool.apply_async(square, x).unwrap()).collect();
    let processes = workers(&pool, 2);
    pool.terminate();
    pool.join().unwrap();
    assert!(processes.iter().all(|&pid| !is_alive(pid)));
    assert_eq!(ended.get().unwrap(), 9);
    assert!(running.into_iter().chain(queued).all(|handle| matches!(handle.get(), Err(Error::Terminated))));
    let stats = pool.stats();
    assert_eq!((stats.accepted, stats.done, stats.failed), (103, 1, 102));
}

#[test]
fn terminate_wakes_all_who_wait() {
    let story = Story::begin();
    let pool = story.pool(1);
    let waiting = AtomicUsize::new(0);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    waiting.fetch_add(1, Ordering::SeqCst);
                    pool.apply(sleep_for_ever, ())
                })
            })
            .collect();
        eventually("all wait", || pool.stats().accepted == 4);
        let joiner = scope.spawn(|| {
            eventually("it may be joined", || !matches!(pool.join(), Err(Error::StillOpen)));
        });
        pool.terminate();
        assert!(callers.into_iter().all(|caller| matches!(caller.join().unwrap(), Err(Error::Terminated))));
        joiner.join().unwrap();
    });
}

#[test]
fn a_closed_pool_is_rid_of_a_worker_that_never_gets_to_what_has_ended_in_the_queue() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).initializer(|_: ()| thread::sleep(PATIENCE * 2), ()));
    let queued = pool.options().deadline(Duration::from_millis(50)).apply_async(square, 1).unwrap();
    pool.close();
    assert!(matches!(queued.get(), Err(Error::TimedOut { ran: None, .. })));
    assert!(pool.join_timeout(PATIENCE).unwrap());
}

#[test]
fn a_closed_pool_can_still_be_terminated() {
    let story = Story::begin();
    let pool = story.pool(1);
    let running = pool.apply_async(sleep_for_ever, ()).unwrap();
    pool.close();
    assert!(!pool.join_timeout(Duration::from_millis(10)).unwrap());
    pool.terminate();
    pool.join().unwrap();
    assert!(matches!(running.get(), Err(Error::Terminated)));
}

/// Else they would be killed, and only after their grace.
#[test]
fn terminate_wakes_workers_that_sleep_and_they_leave_by_themselves() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(2).grace(PATIENCE * 2));
    assert_eq!(pool.map(square, 0..10).unwrap().len(), 10);
    let processes = workers(&pool, 2);
    eventually("all sleep", || processes.iter().all(|&pid| state(pid) == Some('S')));
    pool.terminate();
    pool.join().unwrap();
}

#[test]
fn terminate_lets_a_worker_say_good_bye() {
    extern "C" fn say_good_bye(_: libc::c_int) {
        // SAFETY: both calls are allowed in a handler; the path is a C string.
        unsafe {
            libc::close(libc::open(c"good-bye".as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600));
            libc::_exit(0);
        }
    }
    fn work(folder: String) -> u64 {
        std::env::set_current_dir(folder).unwrap();
        let handler = say_good_bye as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler calls only what is allowed in one.
        unsafe { libc::signal(libc::SIGTERM, handler) };
        std::fs::write("ready", "").unwrap();
        sleep_for_ever(())
    }
    let story = Story::begin();
    let folder = tempfile::tempdir().unwrap();
    let is_there = |file: &str| Path::new(&folder.path().join(file)).exists();
    let pool = story.build(Pool::builder().workers(1).grace(PATIENCE));
    let running = pool.apply_async(work, folder.path().display().to_string()).unwrap();
    eventually("it works", || is_there("ready"));
    pool.terminate();
    pool.join().unwrap();
    assert!(is_there("good-bye"), "it was told by SIGTERM, and had time");
    assert!(matches!(running.get(), Err(Error::Terminated)));
}

#[test]
fn close_join_and_terminate_may_come_from_many_threads_at_once() {
    let story = Story::begin();
    for terminates in [false, true] {
        let pool = story.pool(2);
        let handles: Vec<_> = (0..200).map(|x| pool.apply_async(square, x).unwrap()).collect();
        thread::scope(|scope| {
            for thread in 0..8 {
                let pool = &pool;
                scope.spawn(move || {
                    if terminates && thread % 2 == 0 {
                        pool.terminate()
                    } else {
                        pool.close()
                    }
                    pool.join().unwrap();
                });
            }
        });
        for (handle, x) in handles.into_iter().zip(0..) {
            match handle.get() {
                Ok(value) => assert_eq!(value, square(x)),
                Err(Error::Terminated) => assert!(terminates),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

// ---- size and numbers ----

#[test]
fn a_pool_grows_and_shrinks() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    for size in [4, 2, 7, 1, 3] {
        pool.resize(size).unwrap();
        workers(&pool, size);
        assert_eq!(pool.map(square, 0..50).unwrap(), (0..50).map(square).collect::<Vec<_>>());
    }
    let busy: Vec<_> = (0..3).map(|_| gate.enter(&pool)).collect();
    pool.resize(1).unwrap();
    assert_eq!(pool.stats().running, 3, "surplus workers end what they run");
    gate.open();
    assert!(busy.into_iter().all(|handle| handle.get().unwrap() == 1));
    workers(&pool, 1);
    assert_eq!((pool.apply(square, 3).unwrap(), pool.stats().failed), (9, 0));
}

#[test]
fn stats_say_what_the_pool_does() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(2), Gate::closed());
    let running: Vec<_> = (0..2).map(|_| gate.enter(&pool)).collect();
    let queued: Vec<_> = (0..5).map(|x| pool.apply_async(square, x).unwrap()).collect();
    // A worker may be at work before its start is told.
    workers(&pool, 2);
    let stats = pool.stats();
    assert_eq!((stats.accepted, stats.queued, stats.running, stats.done, stats.failed), (7, 5, 2, 0, 0));
    let pids: Vec<u32> = stats.workers.iter().map(|worker| worker.pid).collect();
    assert!(pids.len() == 2 && pids.iter().all(|&pid| is_alive(pid)));
    assert!(
        stats
            .workers
            .iter()
            .all(|worker| worker.age.is_some() && worker.memory.is_some_and(|bytes| bytes > 0))
    );

    assert!(queued[0].cancel());
    gate.open();
    running.into_iter().for_each(|handle| assert_eq!(handle.get().unwrap(), 1));
    let ends = queued.into_iter().map(AsyncResult::get).filter(Result::is_ok).count();
    let _ = pool.apply(|_: ()| -> u8 { panic!() }, ());
    let _ = pool.apply(|_: ()| -> u8 { std::process::abort() }, ());
    assert_eq!(ends, 4);
    // A worker counts a task after it has told of its end.
    eventually("everything is counted", || (pool.stats().done, pool.stats().failed) == (6, 3));
    let stats = pool.stats();
    assert_eq!(stats.accepted, 9);
    assert_eq!((stats.queued, stats.running, stats.retries, stats.repairs), (0, 0, 0, 0));
    eventually("the dead worker was replaced", || {
        pool.stats().restarts == 1 && pool.stats().workers.len() == 2
    });
    let served: u64 = pool.stats().workers.iter().map(|worker| worker.tasks).sum();
    assert!(served <= 7 && pool.stats().workers.iter().all(|worker| worker.age.is_none()));
}

#[test]
fn an_idle_pool_wakes_nobody() {
    /// How often those threads of the process were switched to whose names begin so.
    fn switches(of: u32, name: &str) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{of}/task")).unwrap().flatten();
        let status = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
        let status = status.filter(|text| text.starts_with(&format!("Name:\t{name}")));
        let line = |text: String| {
            text.lines().find(|line| line.starts_with("voluntary"))?.split('\t').nth(1)?.parse::<u64>().ok()
        };
        status.filter_map(line).sum::<u64>()
    }
    let story = Story::begin();
    let pool = story.pool(2);
    pool.map(square, 0..100).unwrap();
    // From now on there is a thread that calls callbacks.
    assert_eq!(pool.apply_async(square, 3).unwrap().on_success(|_| ()).get().unwrap(), 9);
    let mut processes = workers(&pool, 2);
    processes.push(parent_of(processes[0]));
    let own = std::process::id();
    eventually("two seconds have passed in which nobody woke", || {
        let all = || processes.iter().map(|&pid| switches(pid, "")).sum::<u64>() + switches(own, "procpool-");
        let before = all();
        thread::sleep(Duration::from_secs(2));
        all() == before
    });
}

fn parent_of(worker: u32) -> u32 {
    common::parent(worker).unwrap()
}

// ---- its processes killed ----

#[test]
fn when_all_workers_are_killed_over_and_over_every_task_ends_and_retries_lose_none() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(3).restart_intensity(usize::MAX, PATIENCE));
    let patient = pool.options().retries(1000);
    thread::scope(|scope| {
        let callers = [0, 1].map(|_| {
            scope.spawn(|| (0..300).for_each(|x| assert_eq!(patient.apply(square, x).unwrap(), square(x))))
        });
        let mapper = scope.spawn(|| patient.chunk_size(3).map(square, 0..600).unwrap());
        while callers.iter().any(|caller| !caller.is_finished()) || !mapper.is_finished() {
            pool.stats()
                .workers
                .iter()
                .filter(|worker| name(worker.pid) == "procpool")
                .for_each(|worker| kill(worker.pid));
            // Not at once again: that would be before they have run anything.
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(mapper.join().unwrap(), (0..600).map(square).collect::<Vec<_>>());
    });
}

/// The zygote of a pool that has such workers.
fn zygote_of(workers: &[u32]) -> u32 {
    let zygote = parent_of(workers[0]);
    assert_eq!(name(zygote), "procpool-zygote");
    zygote
}

#[test]
fn workers_go_on_when_their_zygote_is_killed_and_later_deaths_are_replaced() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(2), Gate::closed());
    for _ in 0..3 {
        let before = workers(&pool, 2);
        let running = gate.enter(&pool);
        let zygote = zygote_of(&before);
        kill(zygote);
        eventually("the zygote is gone", || !is_alive(zygote));
        assert_eq!(pool.apply(square, 3).unwrap(), 9);
        assert_eq!(workers(&pool, 2), before, "the workers are the same");
        let busy = *gate.entered().last().unwrap();
        kill(busy);
        let error = running.get().unwrap_err();
        let Error::WorkerDied(death) = &error else { panic!("{error}") };
        assert_eq!(death.pid, busy);
        eventually("both are there again", || {
            let now = pool.stats().workers;
            now.len() == 2 && now.iter().all(|worker| worker.pid != busy)
        });
        before.iter().for_each(|&pid| kill(pid));
        eventually("both are new", || {
            pool.stats().workers.iter().filter(|worker| !before.contains(&worker.pid)).count() == 2
        });
        assert_eq!(pool.apply(square, 4).unwrap(), 16);
    }
    assert_eq!(pool.stats().repairs, 0);
}

#[test]
fn a_pool_without_its_zygote_can_be_closed_terminated_and_dropped() {
    let story = Story::begin();
    for end in [Pool::close, Pool::terminate] {
        let pool = story.pool(2);
        let zygote = zygote_of(&workers(&pool, 2));
        let handles: Vec<_> = (0..50).map(|x| pool.apply_async(square, x).unwrap()).collect();
        kill(zygote);
        end(&pool);
        pool.join().unwrap();
        assert!(handles.into_iter().all(|handle| matches!(handle.get(), Ok(_) | Err(Error::Terminated))));
    }
    let pool = story.pool(2);
    kill(zygote_of(&workers(&pool, 2)));
}

#[test]
fn a_worker_that_is_stopped_holds_up_no_other_and_no_end_of_the_pool() {
    let story = Story::begin();
    for ends in [false, true] {
        let pool = story.pool(3);
        let gate = Gate::closed();
        let held = gate.enter(&pool);
        let busy = *gate.entered().last().unwrap();
        let idle = workers(&pool, 3).into_iter().find(|&pid| pid != busy).unwrap();
        [busy, idle].into_iter().for_each(|pid| signal(pid, libc::SIGSTOP));
        eventually("both are stopped", || {
            [busy, idle].into_iter().all(|pid| common::state(pid) == Some('T'))
        });
        // One worker is left, and does it all.
        assert_eq!(pool.map(square, 0..200).unwrap(), (0..200).map(square).collect::<Vec<_>>());
        gate.open();
        assert!(!held.wait_timeout(Duration::from_millis(100)));
        if ends {
            pool.terminate();
            pool.join().unwrap();
            assert!(matches!(held.get(), Err(Error::Terminated)));
            assert!(!is_alive(busy) && !is_alive(idle));
        } else {
            [busy, idle].into_iter().for_each(|pid| signal(pid, libc::SIGCONT));
            assert_eq!(held.get().unwrap(), 1);
            pool.close();
            pool.join().unwrap();
        }
    }
}

#[test]
fn a_zygote_that_hangs_is_replaced() {
    let story = Story::begin();
    let pool = story.pool(1);
    let before = workers(&pool, 1);
    let zygote = zygote_of(&before);
    signal(zygote, libc::SIGSTOP);
    kill(before[0]);
    assert_eq!(pool.options().retries(1).apply(square, 3).unwrap(), 9);
    assert!(!is_alive(zygote));
}

#[test]
fn zygotes_that_are_killed_over_and_over_cost_no_task() {
    alone(|story| {
        let pool = story
            .build(Pool::builder().workers(2).tasks_per_worker(5).restart_intensity(usize::MAX, PATIENCE));
        let own = std::process::id();
        thread::scope(|scope| {
            let mapper = scope.spawn(|| pool.options().chunk_size(1).map(square, 0..300).unwrap());
            while !mapper.is_finished() {
                children(own).into_iter().filter(|&child| name(child) == "procpool-zygote").for_each(kill);
                // Long enough for a zygote to start some workers.
                thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(mapper.join().unwrap(), (0..300).map(square).collect::<Vec<_>>());
        });
        assert_eq!((pool.stats().failed, pool.stats().repairs), (0, 0));
    });
}

// ---- random calls ----

/// What the model knows of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closed,
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Square,
    Panic,
    Crash,
}

#[derive(Clone, Debug)]
enum Call {
    Submit(Work),
    Get(prop::sample::Index),
    Cancel(prop::sample::Index),
    CancelRunning(prop::sample::Index),
    Drop(prop::sample::Index),
    Resize(usize),
    Kill(prop::sample::Index),
    Listen(prop::sample::Index),
    Join,
    Close,
    Terminate,
}

fn call() -> impl Strategy<Value = Call> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => Just(Call::Submit(Work::Square)),
        2 => Just(Call::Submit(Work::Panic)),
        1 => Just(Call::Submit(Work::Crash)),
        4 => index().prop_map(Call::Get),
        2 => index().prop_map(Call::Cancel),
        1 => index().prop_map(Call::CancelRunning),
        2 => index().prop_map(Call::Drop),
        1 => (1_usize..4).prop_map(Call::Resize),
        2 => index().prop_map(Call::Kill),
        2 => index().prop_map(Call::Listen),
        1 => Just(Call::Join),
        1 => Just(Call::Close),
        1 => Just(Call::Terminate),
    ]
}

fn work((kind, number): (u8, u64)) -> u64 {
    match kind {
        0 => number * number,
        1 => panic!("number {number}"),
        _ => std::process::abort(),
    }
}

struct Pending {
    work: Work,
    number: u64,
    may_be_cancelled: bool,
    /// How many callbacks it has, and how many were called.
    callbacks: usize,
    called: Arc<AtomicUsize>,
    handle: AsyncResult<u64>,
}

impl Pending {
    fn new(work: Work, number: u64, handle: AsyncResult<u64>) -> Self {
        Self { work, number, may_be_cancelled: false, callbacks: 0, called: Arc::default(), handle }
    }

    fn listen(mut self) -> Self {
        let [on_success, on_error] = [self.called.clone(), self.called.clone()];
        let count = |called: Arc<AtomicUsize>| {
            move || {
                called.fetch_add(1, Ordering::SeqCst);
            }
        };
        let (on_success, on_error) = (count(on_success), count(on_error));
        self.handle = self.handle.on_success(move |_| on_success()).on_error(move |_| on_error());
        self.callbacks += 1;
        self
    }
}

/// Plays the calls, and keeps the model beside the pool.
struct Play {
    pool: Arc<Pool>,
    phase: Phase,
    pending: Vec<Pending>,
    accepted: u64,
    /// Whether a worker was killed: then any task may have been lost with it.
    has_killed: bool,
}

impl Play {
    fn call(&mut self, call: &Call) {
        match call {
            Call::Submit(work) => self.submit(*work),
            Call::Get(index) => {
                if let Some(pending) = self.pick(index) {
                    self.check(pending);
                }
            }
            Call::Cancel(index) => self.cancel(index, AsyncResult::cancel),
            Call::CancelRunning(index) => self.cancel(index, AsyncResult::cancel_running),
            Call::Drop(index) => drop(self.pick(index)),
            Call::Resize(workers) => self.pool.resize(*workers).unwrap(),
            Call::Kill(index) => self.kill(index),
            Call::Listen(index) => {
                if let Some(pending) = self.pick(index) {
                    self.pending.push(pending.listen());
                }
            }
            Call::Join => match (self.phase, self.pool.join()) {
                (Phase::Open, result) => assert!(matches!(result, Err(Error::StillOpen))),
                (_, result) => result.unwrap(),
            },
            Call::Close => {
                self.pool.close();
                self.phase = if self.phase == Phase::Open { Phase::Closed } else { self.phase };
            }
            Call::Terminate => {
                self.pool.terminate();
                self.phase = Phase::Terminated;
            }
        }
    }

    fn submit(&mut self, work_kind: Work) {
        let number = self.accepted + 2;
        match (self.phase, self.pool.apply_async(work, (work_kind as u8, number))) {
            (Phase::Open, handle) => {
                self.accepted += 1;
                let handle = handle.unwrap();
                self.pending.push(Pending::new(work_kind, number, handle));
            }
            (Phase::Closed, result) => assert!(matches!(result, Err(Error::Closed))),
            (Phase::Terminated, result) => assert!(matches!(result, Err(Error::Terminated))),
        }
    }

    fn kill(&mut self, index: &prop::sample::Index) {
        let workers = self.pool.stats().workers;
        if !workers.is_empty() {
            let chosen = workers[index.index(workers.len())].pid;
            // It may have been replaced meanwhile; then the number could be anybody's.
            if name(chosen) == "procpool" {
                kill(chosen);
                self.has_killed = true;
            }
        }
    }

    fn pick(&mut self, index: &prop::sample::Index) -> Option<Pending> {
        (!self.pending.is_empty()).then(|| self.pending.swap_remove(index.index(self.pending.len())))
    }

    fn cancel(&mut self, index: &prop::sample::Index, cancel: impl Fn(&AsyncResult<u64>) -> bool) {
        if !self.pending.is_empty() {
            let chosen = index.index(self.pending.len());
            let pending = &mut self.pending[chosen];
            pending.may_be_cancelled |= cancel(&pending.handle);
        }
    }

    /// Whether a task ended as it may.
    fn check(&self, pending: Pending) {
        let Pending { work, number, may_be_cancelled, callbacks, called, handle } = pending;
        let result = handle.get();
        assert_eq!(
            called.load(Ordering::SeqCst),
            callbacks,
            "each callback is called once, before the result is given"
        );
        let fits = match (&result, work) {
            (Ok(value), Work::Square) => *value == number * number && !may_be_cancelled,
            (Err(Error::Panicked { message, .. }), Work::Panic) => *message == format!("number {number}"),
            (Err(Error::WorkerDied(death)), _) => match death.signal_name() {
                Some("SIGABRT") => work == Work::Crash,
                Some("SIGKILL") => self.has_killed,
                _ => false,
            },
            (Err(Error::Cancelled), _) => may_be_cancelled,
            (Err(Error::Terminated), _) => self.phase == Phase::Terminated,
            _ => false,
        };
        assert!(fits, "{work:?} of {number} in a pool that is {:?}: {result:?}", self.phase);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every accepted task ends exactly once, with an outcome that the calls so far allow.
    #[test]
    fn whatever_is_called_in_whatever_order_every_task_ends_as_it_may(calls in prop::collection::vec(call(), 1..60)) {
        let story = Story::begin();
        let pool = story.build(Pool::builder().workers(2).restart_intensity(usize::MAX, PATIENCE));
        let mut play = Play { pool, phase: Phase::Open, pending: Vec::new(), accepted: 0, has_killed: false };
        calls.iter().for_each(|call| play.call(call));
        play.call(&Call::Close);
        while let Some(pending) = play.pending.pop() {
            play.check(pending);
        }
        play.pool.join().unwrap();
        prop_assert_eq!(play.pool.stats().accepted, play.accepted);
        prop_assert_eq!(play.pool.stats().repairs, 0);
    }
}
