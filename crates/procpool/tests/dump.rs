//! A pool says what everybody in it is doing, also when it is stuck.

mod common;

use std::thread;
use std::time::Duration;

use common::{Gate, PATIENCE, Program, Story, alone, eventually, kill, say, signal, state, workers};
use procpool::{Error, Pool};

#[procpool::task]
fn sleep_for_ever(_: ()) {
    thread::sleep(PATIENCE * 2);
}

fn square(x: u64) -> u64 {
    x * x
}

/// The lines of a dump, without their indentation.
fn lines(pool: &Pool) -> Vec<String> {
    pool.dump().to_string().lines().map(|line| line.trim().to_owned()).collect()
}

/// The line that begins so.
#[track_caller]
fn line(pool: &Pool, start: &str) -> String {
    let lines = lines(pool);
    let found = lines.iter().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no line begins with {start:?}: {lines:#?}")).clone()
}

#[test]
fn a_dump_names_every_worker_and_every_task_that_has_not_ended() {
    let story = Story::begin();
    let (pool, gate) = (story.build(Pool::builder().workers(2).name("shown")), Gate::closed());
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
    let held = gate.enter(&pool);
    let named = pool.apply_async(sleep_for_ever, ()).unwrap();
    // A worker has its task a moment before it begins it.
    eventually("both run", || pool.stats().workers.iter().filter(|worker| worker.age.is_some()).count() == 2);
    let queued = pool.options().deadline(PATIENCE * 100).apply_async(square, 4).unwrap();
    let dump = pool.dump();
    println!("{dump}");
    let head = line(&pool, "pool ");
    let expected = format!("pool \"shown\" of process {} takes tasks: ", std::process::id());
    assert!(head.starts_with(&expected), "{head}");
    assert!(head.ends_with("4 tasks accepted, 3 not ended; 1 entries in the queue"), "{head}");
    assert_eq!((dump.unfinished, dump.tasks.len()), (3, 3));
    for (seat, pid) in workers(&pool, 2).into_iter().enumerate() {
        let worker = line(&pool, &format!("worker {seat}: pid {pid}, "));
        assert!(worker.contains("runs task ") && worker.contains(" MiB"), "{worker}");
    }
    let supervisor = line(&pool, "supervisor: ");
    assert!(supervisor.contains("wants 2 workers"), "{supervisor}");
    let first = line(&pool, "task 2, ");
    assert!(first.contains("the function at 0x") && first.contains(": runs on worker "), "{first}");
    let second = line(&pool, "task 3, ");
    assert!(second.contains("sleep_for_ever: runs on worker "), "{second}");
    let third = line(&pool, "task 4, ");
    assert!(third.contains(": queued") && third.contains(" to its deadline"), "{third}");
    eventually("the age of what is queued is known", || line(&pool, "task 4, ").contains(" s or more"));
    gate.open();
    assert_eq!((held.get().unwrap(), queued.get().unwrap()), (1, 16));
    assert!(named.cancel_running());
    assert!(matches!(named.get(), Err(Error::Cancelled)));
    eventually("nothing is left to tell of", || pool.dump().unfinished == 0 && pool.dump().tasks.is_empty());
}

#[test]
fn a_dump_names_a_hundred_tasks_and_counts_the_rest() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let held = gate.enter(&pool);
    // Of all sizes: some lie in their slots, others in blocks.
    let handles: Vec<_> =
        (0..500).map(|x| pool.apply_async(|text: Vec<u8>| text.len(), vec![1; x * 20]).unwrap()).collect();
    let dump = pool.dump();
    assert_eq!((dump.unfinished, dump.tasks.len()), (501, 100));
    assert!(
        dump.tasks.iter().zip(1..).all(|(task, ticket)| task.ticket == ticket && task.function.is_some())
    );
    assert_eq!(lines(&pool).last().unwrap(), "and 401 more");
    gate.open();
    assert_eq!(held.get().unwrap(), 1);
    assert!(handles.into_iter().zip(0..).all(|(handle, x)| handle.get().unwrap() == x * 20));
}

#[test]
fn a_dump_tells_of_a_worker_that_was_stopped() {
    let story = Story::begin();
    let pool = story.pool(1);
    let worker = workers(&pool, 1)[0];
    signal(worker, libc::SIGSTOP);
    eventually("it is stopped", || state(worker) == Some('T'));
    let stuck = pool.apply_async(square, 3).unwrap();
    let told = line(&pool, "worker 0: ");
    assert!(told.contains("T (is stopped)"), "{told}");
    assert!(line(&pool, "task 1, ").contains(": queued"));
    signal(worker, libc::SIGCONT);
    assert_eq!(stuck.get().unwrap(), 9);
}

#[test]
fn a_dump_tells_of_a_task_that_waits_for_another_attempt() {
    let story = Story::begin();
    let pool = story.pool(1);
    let poison =
        pool.options().retries(u32::MAX).apply_async(|_: ()| -> u8 { std::process::abort() }, ()).unwrap();
    let waits = || line(&pool, "task 1, ").contains(" for its next attempt; ");
    eventually("it waits", waits);
    eventually("it is cancelled", || poison.cancel());
}

#[test]
fn a_dump_tells_how_far_a_pool_is_in_its_life() {
    let story = Story::begin();
    let pool = story.pool(1);
    pool.close();
    assert!(line(&pool, "pool ").contains(" was closed: "));
    pool.terminate();
    pool.join().unwrap();
    assert!(line(&pool, "pool ").contains(" was terminated: "));
    assert_eq!(lines(&pool).len(), 2, "no worker, no task");
    let broken = story.build(Pool::builder().workers(1).initializer(|_: ()| panic!("no luck"), ()));
    assert!(matches!(broken.apply(square, 1), Err(Error::InitializerFailed { .. })));
    let told = line(&broken, "pool ");
    assert!(told.contains(" has given up: ") && told.contains("no luck"), "{told}");
}

#[test]
fn a_dump_may_be_made_at_any_time_from_any_thread() {
    let story = Story::begin();
    let pool = story.pool(2);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for x in 0..300 {
                        let handle = pool.options().retries(9).apply_async(square, x).unwrap();
                        let large = pool.apply_async(|text: Vec<u8>| text.len(), vec![1; 3000]).unwrap();
                        assert_eq!(handle.get().unwrap(), square(x));
                        assert!(matches!(large.get(), Ok(3000) | Err(Error::WorkerDied(_))));
                    }
                })
            })
            .collect();
        while callers.iter().any(|caller| !caller.is_finished()) {
            assert!(pool.dump().to_string().starts_with("pool "));
            workers_now(&pool).into_iter().take(1).for_each(kill);
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(pool.stats().repairs, 0);
}

fn workers_now(pool: &Pool) -> Vec<u32> {
    pool.stats().workers.iter().map(|worker| worker.pid).collect()
}

#[test]
fn a_forked_child_is_told_whose_pool_it_is() {
    alone(|story| {
        let pool = story.pool(1);
        assert_eq!(pool.apply(square, 3).unwrap(), 9);
        // SAFETY: the child makes one dump and exits; all locks that it wants are waited for a moment only.
        match unsafe { libc::fork() } {
            0 => {
                let told = line(&pool, "pool ").contains("belongs to the process that this one is a fork of");
                // SAFETY: `_exit` has no precondition.
                unsafe { libc::_exit(i32::from(!told)) };
            }
            child => {
                let mut status = 0;
                // SAFETY: `status` is an integer that lives.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0);
            }
        }
    });
}

#[test]
fn a_program_can_be_asked_by_a_signal() {
    let mut program = Program::start(|| {
        // The recipe of `Pool::dump`; the test runner's own threads are there already, so this one gets the signal.
        // SAFETY: the set is whole, all zeroes being the empty one.
        let signals = unsafe {
            let mut signals: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut signals, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
            signals
        };
        let pool = Pool::new(1).unwrap();
        let held = pool.apply_async(sleep_for_ever, ()).unwrap();
        eventually("it runs", || pool.stats().workers.iter().any(|worker| worker.age.is_some()));
        say("ready");
        let mut number = 0;
        // SAFETY: both live.
        while unsafe { libc::sigwait(&raw const signals, &raw mut number) } == 0 {
            say(pool.dump().to_string().lines().last().unwrap());
        }
        drop(held);
    });
    assert_eq!(program.hear(), "ready");
    // To the thread that waits: the others of a test program do not block the signal.
    for thread in std::fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap().flatten() {
        let number: i32 = thread.file_name().to_str().unwrap().parse().unwrap();
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap();
        if status.contains("a_program_can") {
            // SAFETY: `tgkill` has no precondition.
            unsafe { libc::syscall(libc::SYS_tgkill, program.pid(), number, libc::SIGUSR2) };
        }
    }
    let told = program.hear();
    assert!(told.contains("sleep_for_ever: runs on worker 0"), "{told}");
    program.kill();
    program.wait_for_relatives();
}
