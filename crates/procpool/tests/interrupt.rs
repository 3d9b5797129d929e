//! Ctrl-C and other ends of a program, in the middle of each call that waits: the program dies as any other would, its
//! workers and their zygote are gone, and none of them says a word.
//!
//! Each test starts a program in a process group of its own and sends the signal to all of that, as a terminal does.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use common::{PATIENCE, Program, eventually, say, signal};
use procpool::Pool;

/// Task: says that it runs.
fn stay(_: ()) -> u8 {
    say("ready");
    sleep_for_ever(())
}

fn sleep_for_ever(_: ()) -> u8 {
    std::thread::sleep(PATIENCE * 2);
    0
}

fn pool() -> Pool {
    Pool::new(2).unwrap()
}

/// The program's call waits; it is interrupted, and nothing is left of it or said by it.
#[track_caller]
fn expect_death_by(number: i32, mut program: Program) {
    assert_eq!(program.hear(), "ready");
    assert!(program.relatives().len() >= 2, "at least a zygote and a worker");
    let interrupted = Instant::now();
    program.signal_group(number);
    let status = program.wait();
    assert_eq!(
        status.signal(),
        Some(number),
        "it ends by the signal, as a program without a pool does: {status}"
    );
    program.wait_for_relatives();
    println!("all were gone after {:?}", interrupted.elapsed());
    let said = program.rest();
    assert_eq!(said.trim(), "", "nobody says anything");
}

// ---- Ctrl-C in the middle of a call ----

#[test]
fn ctrl_c_ends_a_program_in_apply() {
    let program = Program::start_in_own_group(|| drop(pool().apply(stay, ())));
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_in_get() {
    let program = Program::start_in_own_group(|| drop(pool().apply_async(stay, ()).unwrap().get()));
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_in_get_timeout() {
    let program = Program::start_in_own_group(|| {
        drop(pool().apply_async(stay, ()).unwrap().get_timeout(PATIENCE * 2));
    });
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_in_wait() {
    let program = Program::start_in_own_group(|| {
        let pool = pool();
        pool.apply_async(stay, ()).unwrap().wait();
    });
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_that_waits_for_a_callback() {
    let program = Program::start_in_own_group(|| {
        let pool = pool();
        let told = pool.apply_async(stay, ()).unwrap().on_success(|_| ()).on_error(|_| ());
        drop(told.get());
    });
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_that_waits_for_a_future() {
    let program =
        Program::start_in_own_group(|| drop(pollster::block_on(pool().apply_async(stay, ()).unwrap())));
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_in_map() {
    let program = Program::start_in_own_group(|| {
        let stay_at = |x: u8| if x == 7 { stay(()) } else { x };
        drop(pool().options().chunk_size(1).map(stay_at, 0..100));
    });
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_in_the_next_of_imap() {
    let program = Program::start_in_own_group(|| drop(pool().imap(stay, [()]).next()));
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_in_the_next_of_imap_unordered() {
    let program = Program::start_in_own_group(|| drop(pool().imap_unordered(stay, [()]).next()));
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_in_join() {
    let program = Program::start_in_own_group(|| {
        let pool = pool();
        let running = pool.apply_async(stay, ()).unwrap();
        pool.close();
        pool.join().unwrap();
        drop(running);
    });
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_that_drops_a_pool() {
    fn ignore_requests_to_end(_: ()) {
        // SAFETY: `SIG_IGN` is a disposition for any signal.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    }
    let program = Program::start_in_own_group(|| {
        let pool = Pool::builder().workers(2).grace(PATIENCE * 2);
        let pool = pool.initializer(ignore_requests_to_end, ()).build().unwrap();
        let running = pool.apply_async(stay, ()).unwrap();
        eventually("it runs", || pool.stats().running == 1);
        drop(pool);
        drop(running);
    });
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn ctrl_c_ends_a_program_whose_pool_is_just_being_started() {
    let program = Program::start_in_own_group(|| {
        let pools: Vec<Pool> = (0..4).map(|_| pool()).collect();
        say("ready");
        std::mem::forget(pools);
        sleep_for_ever(());
    });
    expect_death_by(libc::SIGINT, program);
}

#[test]
fn a_program_that_handles_ctrl_c_has_a_pool_that_goes_on() {
    extern "C" fn nothing(_: libc::c_int) {}
    let mut program = Program::start_in_own_group(|| {
        let handler = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler does nothing, which is allowed in one.
        unsafe { libc::signal(libc::SIGINT, handler) };
        let pool = pool();
        let before = pool.map(|_: u8| std::process::id(), 0..100).unwrap();
        let slow = pool.apply_async(
            |_: ()| {
                say("ready");
                std::thread::sleep(Duration::from_secs(1));
                7_u8
            },
            (),
        );
        say(slow.unwrap().get().unwrap());
        let after = pool.map(|_: u8| std::process::id(), 0..100).unwrap();
        say(after.iter().all(|pid| before.contains(pid)) || pool.stats().restarts == 0);
    });
    assert_eq!(program.hear(), "ready");
    program.signal_group(libc::SIGINT);
    assert_eq!((program.hear(), program.hear()), ("7".to_owned(), "true".to_owned()));
    assert!(program.wait().success());
}

// ---- other ends ----

#[test]
fn a_program_that_is_told_to_end_takes_its_workers_with_it() {
    let mut program = Program::start_in_own_group(|| drop(pool().apply(stay, ())));
    assert_eq!(program.hear(), "ready");
    // As a service manager may do it: to the program alone.
    signal(program.pid(), libc::SIGTERM);
    assert_eq!(program.wait().signal(), Some(libc::SIGTERM));
    println!("all were gone after {:?}", program.wait_for_relatives());
    assert_eq!(program.rest().trim(), "");
}

#[test]
fn sigterm_to_the_whole_group_ends_all() {
    let program = Program::start_in_own_group(|| drop(pool().apply(stay, ())));
    expect_death_by(libc::SIGTERM, program);
}

/// The program exits by itself, with status 3.
#[track_caller]
fn expect_exit(mut program: Program) {
    assert_eq!(program.hear(), "ready");
    assert_eq!(program.wait().code(), Some(3));
    println!("all were gone after {:?}", program.wait_for_relatives());
    assert_eq!(program.rest().trim(), "");
}

#[test]
fn a_program_may_exit_while_tasks_run_and_wait_in_a_pool_that_nobody_closed() {
    static POOL: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();
    expect_exit(Program::start(|| {
        let pool = POOL.get_or_init(pool);
        let handles: Vec<_> = (0..100).map(|_| pool.apply_async(sleep_for_ever, ()).unwrap()).collect();
        eventually("two run", || pool.stats().running == 2);
        std::mem::forget(handles);
        say("ready");
        std::process::exit(3);
    }));
}

#[test]
fn a_program_may_exit_while_callbacks_are_due_and_one_is_being_called() {
    expect_exit(Program::start(|| {
        let pool = pool();
        let (called, is_called) = std::sync::mpsc::channel();
        let handles: Vec<_> = (0..100)
            .map(|x| {
                let called = called.clone();
                let handle = pool.apply_async(|x: u32| x, x).unwrap();
                handle.on_success(move |_| {
                    called.send(()).unwrap();
                    std::thread::sleep(PATIENCE * 2);
                })
            })
            .collect();
        is_called.recv_timeout(PATIENCE).unwrap();
        std::mem::forget(handles);
        say("ready");
        std::process::exit(3);
    }));
}

#[test]
fn a_program_may_exit_while_another_thread_waits_for_a_task() {
    expect_exit(Program::start(|| {
        let pool = std::sync::Arc::new(pool());
        let (caller, joiner) = (pool.clone(), pool.clone());
        std::thread::spawn(move || caller.apply(sleep_for_ever, ()));
        eventually("it runs", || pool.stats().running == 1);
        pool.close();
        std::thread::spawn(move || joiner.join());
        say("ready");
        std::process::exit(3);
    }));
}
