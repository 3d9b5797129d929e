//! The stories. Each begins with what would go wrong.

use std::sync::Arc;
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::mpsc;
use shuttle::thread;

use super::check;
use super::house::{End, House, Ledger, assert_explained, dawdle, kill, usual};
use super::world::{self, Fate};
use crate::faults::Point;
use crate::outcome::Refusal;
use crate::policy::RestartIntensity;
use crate::pool::{Config, PoolError};
use crate::submit::{Deadline, Limits};

/// A task would be lost with a worker that vanished: its caller would wait for ever, or it would run twice.
#[test]
fn every_task_ends_once_though_workers_vanish() {
    check(|| {
        let killer = kill(2);
        let house = House::open(usual());
        let ends = house.run([0, 1, 3], Limits::default());
        house.assert_runs(1);
        house.close();
        killer.join().unwrap();
        assert_explained(&ends);
    });
}

/// A task that may be tried again would be given up, or tried after its end, or its argument would be gone, which the
/// worker's host held on to.
#[test]
fn with_retries_every_task_returns_though_workers_vanish() {
    check(|| {
        let killer = kill(2);
        let house = House::open(usual());
        let ends = house.run([0, 1, 3], Limits { retries: 2, ..Limits::default() });
        assert_eq!(ends, [End::Returned; 3]);
        house.assert_runs(3);
        house.close();
        killer.join().unwrap();
    });
}

/// A listener would never be called, or twice.
#[test]
fn every_listener_is_called_once_though_workers_vanish() {
    check(|| {
        let killer = kill(2);
        let house = House::open(usual());
        let calls = Arc::new(Ledger::default());
        let (tell, told) = mpsc::channel();
        let tasks = [0, 1, 2].map(|id| {
            let (task, calls, tell) = (house.submit(id, Limits::default()), calls.clone(), tell.clone());
            let listener = move || {
                calls.count(id);
                tell.send(()).unwrap();
            };
            assert!(task.listen(listener).is_none(), "the pool has not ended");
            (id, task)
        });
        // Nobody waits for the tasks themselves, and nobody ends the pool before.
        tasks.iter().for_each(|_| told.recv().unwrap());
        let ends = tasks.map(|(id, task)| house.take(id, task));
        house.assert_runs(1);
        house.close();
        assert_eq!([0, 1, 2].map(|id| calls.of(id)), [1; 3]);
        killer.join().unwrap();
        assert_explained(&ends);
    });
}

/// A caller would not be let in while another is, or would be woken for another's task and sleep on.
#[test]
fn two_callers_do_not_wait_for_ever() {
    check(|| {
        let killer = kill(1);
        let house = House::open(Config { spin: true, ..usual() });
        let call = |ids: [u8; 2]| {
            let house = house.clone();
            thread::spawn(move || ids.map(|id| house.run([id], Limits::default())).concat())
        };
        let callers = [call([0, 1]), call([2, 3])];
        let ends = callers.map(|caller| caller.join().unwrap()).concat();
        house.assert_runs(1);
        house.close();
        killer.join().unwrap();
        assert_explained(&ends);
    });
}

/// A worker would sleep while a task waits behind another.
#[test]
fn no_task_waits_while_a_worker_idles() {
    check(|| {
        let killer = kill(1);
        // Pushers count on whoever spins.
        let spin = thread_rng().gen_bool(0.5);
        let house = House::open(Config { spin, ..usual() });
        let limits = Limits { retries: 1, ..Limits::default() };
        for ids in [[0, 1], [2, 3]] {
            let [one, other] = house.submit_pair(ids, limits);
            assert_eq!([house.take(ids[0], one), house.take(ids[1], other)], [End::Returned; 2]);
        }
        house.assert_runs(2);
        house.close();
        killer.join().unwrap();
    });
}

/// A worker would sleep on to whom another, when it vanished, had been about to pass a wake-up on.
#[test]
fn a_wake_up_that_vanishes_with_a_worker_is_made_up_for() {
    check(|| {
        (0..2).for_each(|_| world::next_dies(Fate::At(Point::Chose)));
        let house = House::open(Config { spin: true, ..usual() });
        let [first, second] = [0, 1].map(|id| house.submit(id, Limits::default()));
        // Then nothing waits that would have the sleeper woken after the death.
        let was_cancelled = second.cancel();
        let ends = [house.take(0, first), house.take(1, second)];
        assert_eq!(ends[1] == End::Cancelled, was_cancelled);
        let [one, other] = house.submit_pair([2, 4], Limits { retries: 2, ..Limits::default() });
        assert_eq!([house.take(2, one), house.take(4, other)], [End::Returned; 2]);
        house.close();
    });
}

/// An innocent task would be lost with the worker that is killed for another's sake, or be written over by it.
#[test]
fn who_cancels_a_running_task_harms_no_other() {
    check(|| {
        let house = House::open(usual());
        let [cancelled, innocent] = [1, 2].map(|id| house.submit(id, Limits::default()));
        let cancelled = Arc::new(cancelled);
        let canceller = thread::spawn({
            let task = cancelled.clone();
            move || task.cancel_running()
        });
        let was_cancelled = canceller.join().unwrap();
        let cancelled = Arc::into_inner(cancelled).expect("the canceller is gone");
        let expected = if was_cancelled { End::Cancelled } else { End::Returned };
        assert_eq!(house.take(1, cancelled), expected);
        // It may be given the slot of the cancelled one.
        let last = house.submit(3, Limits::default());
        assert_eq!([house.take(2, innocent), house.take(3, last)], [End::Returned; 2]);
        house.assert_runs(1);
        house.close();
    });
}

/// A task that was cancelled would be tried again, since its worker was about to be killed for its time; or whoever cancels
/// would be told that it has ended, and it would go on.
#[test]
fn what_is_cancelled_is_not_tried_again() {
    check(|| {
        let killer = kill(1);
        let house = House::open(usual());
        let timeout = Some(Duration::from_micros(thread_rng().gen_range(1..20)));
        let task = Arc::new(house.submit(1, Limits { timeout, retries: 3, ..Limits::default() }));
        let canceller = thread::spawn({
            let task = task.clone();
            move || {
                let was_cancelled = task.cancel_running();
                assert!(was_cancelled || task.is_ended());
                was_cancelled
            }
        });
        let was_cancelled = canceller.join().unwrap();
        let end = house.take(1, Arc::into_inner(task).expect("the canceller is gone"));
        assert!(if was_cancelled { end == End::Cancelled } else { end != End::Cancelled }, "{end:?}");
        house.close();
        killer.join().unwrap();
    });
}

/// As above, for a task that has run too long; and nobody would hear of one that waits for its time limit.
#[test]
fn a_time_limit_ends_its_own_task_only() {
    check(|| {
        let house = House::open(usual());
        let span = Duration::from_micros(thread_rng().gen_range(1..20));
        let limits = match thread_rng().gen_bool(0.5) {
            true => Limits { timeout: Some(span), ..Limits::default() },
            false => Limits { deadline: Some(Deadline::after(span)), ..Limits::default() },
        };
        let timed = house.submit(1, limits);
        let innocent = house.submit(2, Limits::default());
        let end = house.take(1, timed);
        assert!(matches!(end, End::Returned | End::TimedOut), "{end:?}");
        assert_eq!(house.take(2, innocent), End::Returned);
        house.assert_runs(1);
        house.close();
    });
}

/// A pool of which workers leave after each task would stand still with tasks in its queue.
#[test]
fn workers_that_leave_are_replaced() {
    check(|| {
        let killer = kill(1);
        let house = House::open(Config { tasks_per_worker: Some(1), ..usual() });
        let ends = house.run([0, 1, 2, 3], Limits::default());
        house.assert_runs(1);
        house.close();
        killer.join().unwrap();
        assert_explained(&ends);
    });
}

/// `close` would leave a task behind, or wait for a worker that sleeps.
#[test]
fn a_closed_pool_ends_all_that_it_accepted() {
    check(|| {
        let killer = kill(2);
        let house = House::open(usual());
        let tasks = [0, 1, 2].map(|id| (id, house.submit(id, Limits::default())));
        house.pool.close();
        assert!(house.pool.join(None).unwrap());
        assert!(tasks.iter().all(|(_, task)| task.is_ended()));
        let ends = tasks.map(|(id, task)| house.take(id, task));
        house.assert_runs(1);
        house.expect_the_end();
        killer.join().unwrap();
        assert_explained(&ends);
    });
}

/// `terminate` would leave a task without an end, or a listener uncalled.
#[test]
fn terminate_ends_all_at_any_moment() {
    check(|| {
        let killer = kill(1);
        let house = House::open(usual());
        let calls = Arc::new(Ledger::default());
        let limits = Limits { retries: 1, ..Limits::default() };
        let tasks = [0, 1, 2].map(|id| (id, house.submit(id, limits)));
        let heard = calls.clone();
        assert!(tasks[1].1.listen(move || heard.count(1)).is_none(), "the pool has not ended");
        dawdle();
        house.pool.terminate();
        let ends = tasks.map(|(id, task)| house.take(id, task));
        let allowed = |end: &End| matches!(end, End::Returned | End::Died | End::Terminated);
        assert!(ends.iter().all(allowed), "{ends:?}");
        house.expect_the_end();
        assert_eq!(calls.of(1), 1);
        killer.join().unwrap();
    });
}

/// A pool that gives up would leave somebody waiting, or would take a task that it never ends.
#[test]
fn a_pool_that_gives_up_tells_everybody() {
    check(|| {
        let killer = kill(3);
        let restart = RestartIntensity { deaths: 1, ..usual().restart };
        let house = House::open(Config { restart, ..usual() });
        let offered = [0, 1, 2].map(|id| (id, house.offer(id, Limits::default())));
        let ends = offered.map(|(id, task)| match task {
            Ok(task) => house.take(id, task),
            Err(Refusal::Broken(_)) => End::Broken,
            Err(other) => panic!("task {id} was refused: {other:?}"),
        });
        house.pool.close();
        let joined = house.pool.join(None);
        assert!(matches!(joined, Ok(true) | Err(PoolError::Broken(_))), "{joined:?}");
        assert_eq!(joined.is_err(), house.pool.breakdown().is_some());
        let allowed = |end: &End| matches!(end, End::Returned | End::Died | End::Broken);
        assert!(ends.iter().all(allowed), "{ends:?}");
        assert!(joined.is_err() || !ends.contains(&End::Broken), "{ends:?}, and the pool did not give up");
        house.assert_nothing_is_left();
        killer.join().unwrap();
    });
}

/// What nobody waits for would stay in the region for ever.
#[test]
fn a_task_whose_handle_is_gone_leaves_nothing() {
    check(|| {
        world::be_patient_for(Duration::from_secs(2));
        let killer = kill(1);
        let house = House::open(usual());
        [0, 1, 3].into_iter().for_each(|id| drop(house.submit(id, Limits::default())));
        while house.slots_in_use() > 0 {
            thread::yield_now();
        }
        house.assert_runs(1);
        house.close();
        killer.join().unwrap();
    });
}

/// A pool that becomes smaller and larger would lose the task of one who leaves, or never have the other again.
#[test]
fn a_resized_pool_loses_nothing() {
    check(|| {
        let house = House::open(usual());
        let tasks = [0, 1].map(|id| (id, house.submit(id, Limits::default())));
        house.pool.resize(1).unwrap();
        let later = house.submit(2, Limits::default());
        house.pool.resize(2).unwrap();
        let ends = tasks.map(|(id, task)| house.take(id, task));
        assert_eq!(ends, [End::Returned; 2]);
        assert_eq!(house.take(2, later), End::Returned);
        house.assert_runs(1);
        house.close();
    });
}

/// The look once a second would take what is merely under way for rubbish, and end a task that runs.
#[test]
fn who_looks_the_pool_over_at_any_moment_does_no_harm() {
    check(|| {
        world::be_patient_for(Duration::from_secs(2));
        let killer = kill(1);
        let house = House::open(usual());
        let ends = house.run([0, 1, 2], Limits { retries: 1, ..Limits::default() });
        assert_eq!(ends, [End::Returned; 3]);
        house.assert_runs(2);
        house.close();
        killer.join().unwrap();
    });
}
