//! The handle of one call: waiting, asking, cancelling, callbacks, awaiting.

mod common;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

use common::{Gate, PATIENCE, Story, eventually, is_alive, workers};
use procpool::{AsyncResult, Buffer, Error, Pool};

const A_MOMENT: Duration = Duration::from_millis(20);

fn square(x: u64) -> u64 {
    x * x
}

fn fail(_: ()) -> u64 {
    panic!("no luck");
}

fn sleep_for_ever(_: ()) -> u64 {
    thread::sleep(PATIENCE * 2);
    0
}

// ---- waiting ----

#[test]
fn get_waits_for_the_result() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let handle = gate.enter(&pool);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| handle.get().unwrap());
        gate.open();
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

#[test]
fn get_timeout_says_that_it_is_not_ready_and_may_be_called_again() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let mut handle = gate.enter(&pool);
    for _ in 0..3 {
        assert!(matches!(handle.get_timeout(A_MOMENT), Err(Error::NotReady)));
    }
    assert!(matches!(handle.get_timeout(Duration::ZERO), Err(Error::NotReady)));
    gate.open();
    assert_eq!(handle.get_timeout(PATIENCE).unwrap(), 1);
}

#[test]
fn a_time_limit_beyond_all_clocks_is_none() {
    let story = Story::begin();
    let pool = story.pool(1);
    assert_eq!(pool.apply_async(square, 2).unwrap().get_timeout(Duration::MAX).unwrap(), 4);
    assert!(pool.apply_async(square, 2).unwrap().wait_timeout(Duration::MAX));
    assert!(pool.map_async(square, [2]).unwrap().wait_timeout(Duration::MAX));
    let unlimited = pool.options().timeout(Duration::MAX).retries(u32::MAX);
    assert_eq!(unlimited.apply(square, 3).unwrap(), 9);
    pool.close();
    assert!(pool.join_timeout(Duration::MAX).unwrap());
}

#[test]
fn wait_takes_nothing_away() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let handle = gate.enter(&pool);
    assert!(!handle.wait_timeout(A_MOMENT));
    assert!(!handle.is_ready());
    assert_eq!(handle.is_successful(), None);
    gate.open();
    handle.wait();
    assert!(handle.wait_timeout(Duration::ZERO) && handle.is_ready());
    assert_eq!(handle.is_successful(), Some(true));
    assert_eq!(handle.get().unwrap(), 1);
}

#[test]
fn a_failure_is_ready_and_not_successful() {
    let story = Story::begin();
    let pool = story.pool(1);
    let died = pool.apply_async(|_: ()| -> u64 { std::process::abort() }, ()).unwrap();
    let panicked = pool.apply_async(fail, ()).unwrap();
    for handle in [died, panicked] {
        handle.wait();
        assert!(handle.is_ready());
        assert_eq!(handle.is_successful(), Some(false));
        assert!(handle.get().is_err());
    }
}

#[test]
fn a_result_is_given_once() {
    let story = Story::begin();
    let pool = story.pool(1);
    let mut handle = pool.apply_async(square, 3).unwrap();
    assert_eq!(handle.get_timeout(PATIENCE).unwrap(), 9);
    assert!(handle.is_ready());
    assert_eq!(handle.is_successful(), None);
    assert!(!handle.cancel() && !handle.cancel_running());
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.get_timeout(PATIENCE)));
    let message = *again.unwrap_err().downcast::<&str>().unwrap();
    assert!(message.contains("taken already"), "{message}");
}

#[test]
fn a_handle_may_be_waited_for_in_any_thread() {
    let story = Story::begin();
    let pool = story.pool(2);
    let handles: Vec<_> = (0..50).map(|x| pool.apply_async(square, x).unwrap()).collect();
    let waiting: Vec<_> = handles.into_iter().map(|handle| thread::spawn(|| handle.get().unwrap())).collect();
    for (thread, x) in waiting.into_iter().zip(0..) {
        assert_eq!(thread.join().unwrap(), square(x));
    }
}

#[test]
fn a_handle_outlives_its_pool() {
    let story = Story::begin();
    let pool = story.pool(1);
    let small = pool.apply_async(square, 3).unwrap();
    let large = pool.apply_async(|length: usize| Buffer::from(vec![5_u8; length]), 1 << 20).unwrap();
    small.wait();
    large.wait();
    let unfinished = pool.apply_async(sleep_for_ever, ()).unwrap();
    drop(pool);
    assert_eq!(small.get().unwrap(), 9);
    assert!(large.get().unwrap().iter().all(|&byte| byte == 5));
    assert!(matches!(unfinished.get(), Err(Error::Terminated)));
}

#[test]
fn a_received_buffer_keeps_its_content_whatever_the_pool_does_next() {
    let story = Story::begin();
    let pool = story.pool(2);
    let make = |(length, value): (usize, u8)| Buffer::from(vec![value; length]);
    let kept: Vec<_> = (0..20).map(|value| pool.apply(make, (100_000, value)).unwrap()).collect();
    (0..100).for_each(|_| drop(pool.apply(make, (100_000, 99)).unwrap()));
    for (buffer, value) in kept.into_iter().zip(0..) {
        assert!(buffer.iter().all(|&byte| byte == value));
    }
}

// ---- cancelling ----

#[test]
fn a_queued_task_that_is_cancelled_never_runs() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let running = gate.enter(&pool);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ran").display().to_string();
    let queued = pool.apply_async(|path: String| std::fs::write(path, "").unwrap(), path.clone()).unwrap();
    assert!(queued.cancel());
    assert!(!queued.cancel() && !queued.cancel_running(), "it is cancelled once");
    assert!(queued.is_ready());
    assert!(matches!(queued.get(), Err(Error::Cancelled)));
    gate.open();
    assert_eq!(running.get().unwrap(), 1);
    pool.apply(square, 1).unwrap();
    assert!(!std::path::Path::new(&path).exists());
    let stats = pool.stats();
    assert_eq!((stats.accepted, stats.failed), (3, 1));
}

#[test]
fn a_running_task_is_not_cancelled_by_cancel() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let running = gate.enter(&pool);
    assert!(!running.cancel());
    gate.open();
    assert_eq!(running.get().unwrap(), 1);
}

#[test]
fn cancel_running_kills_the_worker_of_that_task_and_no_other() {
    let story = Story::begin();
    let pool = story.pool(3);
    let gate = Gate::closed();
    let innocent = gate.enter(&pool);
    let guilty = pool.apply_async(sleep_for_ever, ()).unwrap();
    eventually("both run", || pool.stats().running == 2);
    let before = workers(&pool, 3);
    assert!(guilty.cancel_running());
    assert!(!guilty.cancel_running());
    assert!(matches!(guilty.get(), Err(Error::Cancelled)));
    eventually("one worker is gone", || before.iter().filter(|&&pid| is_alive(pid)).count() == 2);
    gate.open();
    assert_eq!(innocent.get().unwrap(), 1);
    eventually("it was replaced", || pool.stats().workers.len() == 3);
    assert_eq!(pool.stats().restarts, 1);
}

#[test]
fn a_task_that_has_ended_cannot_be_cancelled() {
    let story = Story::begin();
    let pool = story.pool(1);
    let worker = workers(&pool, 1);
    let handle = pool.apply_async(square, 3).unwrap();
    handle.wait();
    assert!(!handle.cancel() && !handle.cancel_running());
    assert_eq!(handle.get().unwrap(), 9);
    assert_eq!(pool.apply(square, 4).unwrap(), 16);
    assert_eq!(workers(&pool, 1), worker);
}

#[test]
fn cancelling_at_any_moment_ends_the_task_one_way_or_the_other() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(2).restart_intensity(usize::MAX, PATIENCE));
    let (mut cancelled, mut finished) = (0, 0);
    for x in 0..300 {
        let handle = pool.apply_async(square, x).unwrap();
        let neighbour = pool.apply_async(square, x).unwrap();
        (0..x % 50).for_each(|_| std::hint::spin_loop());
        let said = if x % 2 == 0 { handle.cancel() } else { handle.cancel_running() };
        match handle.get() {
            Ok(value) => {
                assert!(!said && value == square(x));
                finished += 1;
            }
            Err(Error::Cancelled) => {
                assert!(said);
                cancelled += 1;
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(neighbour.get().unwrap(), square(x), "nobody else was harmed");
    }
    println!("{cancelled} were cancelled, {finished} finished");
}

#[test]
fn dropping_the_handle_does_not_cancel_the_task() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ran").display().to_string();
    drop(gate.enter(&pool));
    drop(pool.apply_async(|path: String| std::fs::write(path, "").unwrap(), path.clone()).unwrap());
    gate.open();
    eventually("it has run", || std::path::Path::new(&path).exists());
}

#[test]
fn the_slots_of_dropped_handles_are_used_again() {
    let story = Story::begin();
    let pool = story.pool(2);
    for _ in 0..50 {
        (0..200).for_each(|x| drop(pool.apply_async(square, x).unwrap()));
        (0..20).for_each(|_| drop(pool.apply_async(|bytes: Vec<u8>| bytes, vec![1; 3000]).unwrap()));
        pool.apply(square, 1).unwrap();
    }
    eventually("all payloads were given back", || {
        let stats = pool.stats();
        // The set-up data stay.
        stats.queued + stats.running == 0 && stats.extents <= 1
    });
}

// ---- callbacks ----

/// What callbacks were told, in order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn say(&self, what: impl ToString) {
        self.0.lock().unwrap().push(what.to_string());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn listen(&self, handle: AsyncResult<u64>) -> AsyncResult<u64> {
        let (on_success, on_error) = (self.clone(), self.clone());
        handle.on_success(move |value| on_success.say(value)).on_error(move |error| on_error.say(error))
    }
}

#[test]
fn callbacks_are_called_with_the_result_or_the_error_before_get_gives_it() {
    let story = Story::begin();
    let pool = story.pool(1);
    let heard = Heard::default();
    assert_eq!(heard.listen(pool.apply_async(square, 3).unwrap()).get().unwrap(), 9);
    assert_eq!(heard.all(), ["9"]);
    let error = heard.listen(pool.apply_async(fail, ()).unwrap()).get().unwrap_err();
    assert_eq!(heard.all(), ["9".to_owned(), error.to_string()]);
}

#[test]
fn callbacks_are_called_for_every_kind_of_end() {
    let story = Story::begin();
    let pool = story.pool(1);
    let heard = Heard::default();
    let died = pool.apply_async(|_: ()| -> u64 { std::process::abort() }, ()).unwrap();
    let timed_out = pool.options().timeout(A_MOMENT).apply_async(sleep_for_ever, ()).unwrap();
    for handle in [died, timed_out] {
        drop(heard.listen(handle).get());
    }
    let running = heard.listen(pool.apply_async(sleep_for_ever, ()).unwrap());
    eventually("it runs", || pool.stats().running == 1);
    let queued = heard.listen(pool.apply_async(square, 1).unwrap());
    assert!(queued.cancel() && running.cancel_running());
    drop((queued.get(), running.get()));
    let left = heard.listen(pool.apply_async(sleep_for_ever, ()).unwrap());
    pool.terminate();
    drop(left.get());
    let words = ["SIGABRT", "timeout", "cancelled", "cancelled", "terminated"];
    let heard = heard.all();
    assert_eq!(heard.len(), words.len());
    for (text, word) in heard.iter().zip(words) {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[test]
fn a_callback_may_be_added_after_the_end() {
    let story = Story::begin();
    let pool = story.pool(1);
    let heard = Heard::default();
    let handle = pool.apply_async(square, 3).unwrap();
    handle.wait();
    let handle = heard.listen(heard.listen(handle));
    handle.wait();
    assert_eq!(heard.listen(handle).get().unwrap(), 9);
    assert_eq!(heard.all(), ["9", "9", "9"]);
}

#[test]
fn a_callback_is_called_though_the_handle_was_dropped() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let (tell, told) = mpsc::channel();
    drop(gate.enter(&pool).on_success(move |&value| tell.send(value).unwrap()));
    gate.open();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(1));
}

#[test]
fn a_callback_that_panics_harms_nobody() {
    let story = Story::begin();
    let pool = story.pool(1);
    let handle = pool.apply_async(square, 3).unwrap().on_success(|_| panic!("a callback's own affair"));
    assert_eq!(handle.get().unwrap(), 9);
    let heard = Heard::default();
    assert_eq!(heard.listen(pool.apply_async(square, 4).unwrap()).get().unwrap(), 16);
    assert_eq!(heard.all(), ["16"]);
}

/// What a panic may carry.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Bomb);
    }
}

#[test]
fn a_callback_that_panics_with_what_panics_again_harms_nobody() {
    let story = Story::begin();
    let pool = story.pool(1);
    for _ in 0..2 {
        let handle = pool.apply_async(square, 3).unwrap().on_success(|_| std::panic::panic_any(Bomb));
        assert_eq!(handle.get().unwrap(), 9);
    }
    let heard = Heard::default();
    assert_eq!(heard.listen(pool.apply_async(square, 4).unwrap()).get().unwrap(), 16);
}

#[test]
fn a_callback_may_wait_for_what_has_a_callback_too() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(2), Gate::closed());
    let heard = Heard::default();
    let (same, others, path) = (pool.clone(), heard.clone(), gate.path());
    let first = pool.apply_async(square, 3).unwrap().on_success(move |_| {
        let mut next = others.listen(same.apply_async(common::wait_at, path).unwrap());
        assert!(matches!(next.get_timeout(A_MOMENT), Err(Error::NotReady)));
        gate.open();
        others.say(next.get().unwrap());
        let mut squares: Vec<u64> = same.imap_unordered(square, [5, 6]).map(Result::unwrap).collect();
        squares.sort_unstable();
        others.say(squares[1]);
    });
    assert_eq!(first.get().unwrap(), 9);
    assert_eq!(heard.all(), ["1", "1", "36"]);
}

#[test]
fn a_callback_may_use_the_pool() {
    let story = Story::begin();
    let pool = story.pool(1);
    let (tell, told) = mpsc::channel();
    let same = pool.clone();
    let first = pool.apply_async(square, 3).unwrap().on_success(move |&value| {
        let next = same.apply_async(square, value).unwrap();
        drop(next.on_success(move |&value| tell.send(value).unwrap()));
        assert_eq!(same.apply(square, 2).unwrap(), 4);
    });
    assert_eq!(first.get().unwrap(), 9);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(81));
}

#[test]
fn callbacks_that_were_held_up_are_called_in_the_order_of_their_tasks() {
    const TASKS: u64 = 200;
    let story = Story::begin();
    let pool = story.pool(1);
    // Their slots are free again, and will be used in another order.
    pool.map(square, 0..TASKS).unwrap();
    let (called, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let holds_up = ended.clone();
    let first = pool.apply_async(square, 0).unwrap().on_success(move |_| {
        eventually("all tasks have ended", || holds_up.load(Ordering::SeqCst));
    });
    let listen = |number| {
        let called = called.clone();
        pool.apply_async(square, number).unwrap().on_success(move |_| called.lock().unwrap().push(number))
    };
    let handles: Vec<_> = (0..TASKS).map(listen).collect();
    eventually("all tasks have ended", || pool.stats().queued + pool.stats().running == 0);
    ended.store(true, Ordering::SeqCst);
    assert_eq!(first.get().unwrap(), 0);
    handles.into_iter().for_each(|handle| assert!(handle.get().is_ok()));
    assert!(called.lock().unwrap().iter().copied().eq(0..TASKS), "{:?}", called.lock().unwrap());
}

#[test]
fn a_callback_may_join_its_pool_and_drop_it() {
    let story = Story::begin();
    for joins in [true, false] {
        let (pool, gate) = (story.pool(1), Gate::closed());
        let running = gate.enter(&pool);
        let (tell, told) = mpsc::channel();
        let last = pool.clone();
        let handle = running.on_success(move |_| {
            if joins {
                last.close();
                last.join().unwrap();
            }
            drop(last);
            tell.send("still here").unwrap();
        });
        drop(pool);
        gate.open();
        assert_eq!(told.recv_timeout(PATIENCE), Ok("still here"));
        assert_eq!(handle.get().unwrap(), 1);
    }
}

#[test]
fn join_comes_back_after_the_last_callback() {
    let story = Story::begin();
    let pool = story.pool(2);
    let called = Arc::new(AtomicUsize::new(0));
    for x in 0..100 {
        let called = called.clone();
        drop(pool.apply_async(square, x).unwrap().on_success(move |_| {
            called.fetch_add(1, Ordering::SeqCst);
        }));
    }
    pool.close();
    pool.join().unwrap();
    assert_eq!(called.load(Ordering::SeqCst), 100);
}

// ---- awaiting ----

#[test]
fn a_handle_can_be_awaited() {
    let story = Story::begin();
    let pool = story.pool(2);
    let sum = pollster::block_on(async {
        let first = pool.apply_async(square, 3).unwrap().await.unwrap();
        let second = pool.apply_async(square, first).unwrap().await.unwrap();
        assert!(matches!(pool.apply_async(fail, ()).unwrap().await, Err(Error::Panicked { .. })));
        first + second
    });
    assert_eq!(sum, 90);
}

#[test]
fn many_handles_can_be_awaited_at_once() {
    let story = Story::begin();
    let pool = story.pool(2);
    let handles: Vec<_> = (0..500).map(|x| pool.apply_async(square, x).unwrap()).collect();
    let all = pollster::block_on(futures_util::future::join_all(handles));
    for (end, x) in all.into_iter().zip(0..) {
        assert_eq!(end.unwrap(), square(x));
    }
}

#[test]
fn an_awaited_handle_wakes_whoever_polled_it_last() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let mut handle = gate.enter(&pool);
    // One who polled it and lost interest.
    let poll_once = std::future::poll_fn(|context| {
        let pending = std::pin::Pin::new(&mut handle).poll(context).is_pending();
        Poll::Ready(pending)
    });
    assert!(pollster::block_on(poll_once));
    let waiting = thread::spawn(|| pollster::block_on(handle).unwrap());
    gate.open();
    assert_eq!(waiting.join().unwrap(), 1);
}

#[test]
fn a_handle_that_was_polled_can_be_waited_for_as_well() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let mut handle = gate.enter(&pool);
    let poll_once = std::future::poll_fn(|context| {
        Poll::Ready(std::pin::Pin::new(&mut handle).poll(context).is_pending())
    });
    assert!(pollster::block_on(poll_once));
    assert!(!handle.is_ready() && !handle.cancel());
    gate.open();
    let called = Arc::new(AtomicBool::new(false));
    let same = called.clone();
    let handle = handle.on_success(move |_| same.store(true, Ordering::SeqCst));
    assert_eq!(handle.get().unwrap(), 1);
    assert!(called.load(Ordering::SeqCst));
}

/// An executor that has no queue: it polls whatever is woken at once.
struct Hasty(Mutex<Option<AsyncResult<u64>>>, Mutex<mpsc::Sender<u64>>);

impl Wake for Hasty {
    fn wake(self: Arc<Self>) {
        let Some(mut handle) = self.0.lock().unwrap().take() else { return };
        let waker = self.clone().into();
        match Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => self.1.lock().unwrap().send(result.unwrap()).unwrap(),
            Poll::Pending => *self.0.lock().unwrap() = Some(handle),
        }
    }
}

#[test]
fn whoever_is_woken_may_poll_at_once() {
    let story = Story::begin();
    let pool = story.pool(1);
    let (tell, told) = mpsc::channel();
    for has_callback in [false, true] {
        let gate = Gate::closed();
        let mut handle = gate.enter(&pool);
        if has_callback {
            handle = handle.on_success(|_| ());
        }
        Arc::new(Hasty(Mutex::new(Some(handle)), Mutex::new(tell.clone()))).wake();
        gate.open();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(1));
    }
}

#[test]
fn an_awaited_handle_with_callbacks_calls_them_first() {
    let story = Story::begin();
    let pool = story.pool(1);
    let heard = Heard::default();
    assert_eq!(pollster::block_on(heard.listen(pool.apply_async(square, 3).unwrap())).unwrap(), 9);
    assert_eq!(heard.all(), ["9"]);
}
