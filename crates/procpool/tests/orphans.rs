//! Whatever becomes of the parent, its workers, their zygote and their own pools are gone within a second.
//!
//! Each test starts a program, waits until that has workers, kills it, and looks. The bound is a promise; it is tested
//! with much room, since the machine may be busy with other tests, and the time that it took is printed.

mod common;

use std::time::Duration;

use common::{PATIENCE, Program, children, eventually, is_alive, kill, name, say, signal, wait_to_be_killed};
use procpool::Pool;

/// The promise is one second.
const BOUND: Duration = Duration::from_secs(10);

fn sleep_for_ever(_: ()) {
    std::thread::sleep(PATIENCE * 2);
}

/// A pool whose workers are all busy with such tasks.
fn busy_pool(task: fn(())) -> Pool {
    let pool = Pool::new(2).unwrap();
    (0..4).for_each(|_| drop(pool.apply_async(task, ()).unwrap()));
    eventually("all workers are busy", || pool.stats().running == 2);
    pool
}

/// Program: says that it has workers, and waits for its end.
fn be_ready(pool: Pool) -> ! {
    eventually("the workers are there", || pool.stats().workers.len() == 2);
    say("ready");
    std::mem::forget(pool);
    wait_to_be_killed();
}

/// Test: the program is ready, is ended, and nobody who came from it is left.
fn expect_no_orphans(mut program: Program, least: usize, end: impl FnOnce(&Program)) {
    assert_eq!(program.hear(), "ready");
    let relatives = program.relatives();
    assert!(relatives.len() >= least, "there should be {least} processes, and there are {relatives:?}");
    end(&program);
    let took = program.wait_for_relatives();
    println!("{} processes were gone after {took:?}", relatives.len());
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn idle_workers_and_their_zygote_end_with_a_parent_that_is_killed() {
    let program = Program::start(|| be_ready(Pool::new(2).unwrap()));
    expect_no_orphans(program, 3, Program::kill);
}

#[test]
fn busy_workers_and_their_zygote_end_with_a_parent_that_is_killed() {
    let program = Program::start(|| be_ready(busy_pool(sleep_for_ever)));
    expect_no_orphans(program, 3, Program::kill);
}

#[test]
fn workers_that_compute_without_end_end_with_a_parent_that_is_killed() {
    fn compute(_: ()) {
        loop {
            std::hint::spin_loop();
        }
    }
    let program = Program::start(|| be_ready(busy_pool(compute)));
    expect_no_orphans(program, 3, Program::kill);
}

#[test]
fn a_pool_that_is_just_being_started_ends_with_a_parent_that_is_killed() {
    for _ in 0..5 {
        let program = Program::start(|| {
            let pool = Pool::new(4).unwrap();
            say("ready");
            std::mem::forget(pool);
            wait_to_be_killed();
        });
        expect_no_orphans(program, 0, Program::kill);
    }
}

#[test]
fn a_workers_own_pool_ends_with_the_parent_that_is_killed() {
    fn keep_a_pool(_: ()) {
        be_ready(busy_pool(sleep_for_ever));
    }
    let mut program = Program::start(|| {
        let pool = Pool::new(1).unwrap();
        drop(pool.apply_async(keep_a_pool, ()).unwrap());
        std::mem::forget(pool);
        wait_to_be_killed();
    });
    assert_eq!(program.hear(), "ready");
    let relatives = program.relatives();
    assert_eq!(relatives.len(), 5, "two zygotes, a worker and its two workers");
    program.kill();
    let took = program.wait_for_relatives();
    println!("nested pools were gone after {took:?}");
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn a_stopped_worker_ends_with_a_parent_that_is_killed() {
    let program = Program::start(|| be_ready(busy_pool(sleep_for_ever)));
    expect_no_orphans(program, 3, |program| {
        let workers = program.relatives().into_iter().filter(|&pid| name(pid) == "procpool");
        workers.for_each(|worker| signal(worker, libc::SIGSTOP));
        program.kill();
    });
}

#[test]
fn workers_that_ignore_signals_end_with_a_parent_that_is_killed() {
    fn ignore_signals(_: ()) {
        for number in 1..32 {
            // SAFETY: `SIG_IGN` is a disposition for any signal; for those that cannot be ignored this fails.
            unsafe { libc::signal(number, libc::SIG_IGN) };
        }
        sleep_for_ever(());
    }
    let program = Program::start(|| be_ready(busy_pool(ignore_signals)));
    expect_no_orphans(program, 3, Program::kill);
}

#[test]
fn workers_that_closed_all_descriptors_end_with_a_parent_that_is_killed() {
    fn close_all(_: ()) {
        // SAFETY: it is the point of the test that these are others' descriptors.
        unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
        sleep_for_ever(());
    }
    let program = Program::start(|| be_ready(busy_pool(close_all)));
    expect_no_orphans(program, 3, Program::kill);
}

#[test]
fn workers_whose_zygote_died_before_end_with_a_parent_that_is_killed() {
    let program = Program::start(|| be_ready(busy_pool(sleep_for_ever)));
    expect_no_orphans(program, 3, |program| {
        let zygote = children(program.pid())[0];
        kill(zygote);
        eventually("the zygote is gone", || !is_alive(zygote));
        program.kill();
    });
}

#[test]
fn workers_end_with_a_parent_that_returns_from_main_and_forgets_its_pool() {
    let program = Program::start(|| {
        let pool = busy_pool(sleep_for_ever);
        say("ready");
        std::mem::forget(pool);
        std::thread::sleep(Duration::from_millis(200));
    });
    expect_no_orphans(program, 0, |_| {});
}

#[test]
fn workers_end_with_a_parent_that_aborts() {
    let program = Program::start(|| {
        let _pool = busy_pool(sleep_for_ever);
        say("ready");
        std::thread::sleep(Duration::from_millis(200));
        std::process::abort();
    });
    expect_no_orphans(program, 0, |_| {});
}

#[test]
fn workers_outlive_the_thread_that_made_their_pool() {
    let program = Program::start(|| {
        let pool = std::thread::spawn(|| {
            let pool = Pool::new(2).unwrap();
            pool.apply(|x: u64| x, 1).unwrap();
            pool
        });
        let pool = pool.join().unwrap();
        let before: Vec<u32> = pool.stats().workers.iter().map(|worker| worker.pid).collect();
        pool.map(|x: u64| x, 0..100).unwrap();
        assert!(before.iter().all(|&pid| is_alive(pid)));
        be_ready(pool);
    });
    expect_no_orphans(program, 3, Program::kill);
}
