//! What users, their programs and their systems get wrong: each ends in a clear error, or simply works.
//!
//! Limits and signals belong to a whole process, so each story that touches them has one of its own.

mod common;

use std::time::Duration;

use common::{Gate, Program, Story, alone, children, eventually, is_alive, kill, say, signal, workers};
use procpool::{Buffer, Error, Pool};

fn square(x: u64) -> u64 {
    x * x
}

fn exit(status: i32) {
    std::process::exit(status);
}

fn expect_to_work(pool: &Pool) {
    let squares: Vec<u64> = (0..200).map(square).collect();
    assert_eq!(pool.map(square, 0..200).unwrap(), squares);
}

// ---- arguments ----

#[test]
fn a_pool_without_workers_is_refused() {
    let error = Pool::new(0).unwrap_err();
    assert!(matches!(error, Error::Workers(0)));
    assert_eq!(error.to_string(), "a pool has 1 to 1024 workers, not 0");
}

#[test]
fn a_pool_with_too_many_workers_is_refused() {
    assert!(matches!(Pool::new(1025), Err(Error::Workers(1025))));
    assert!(matches!(Pool::new(usize::MAX), Err(Error::Workers(usize::MAX))));
}

#[test]
fn a_pool_cannot_shrink_to_nothing() {
    let story = Story::begin();
    let pool = story.pool(1);
    assert!(matches!(pool.resize(0), Err(Error::Workers(0))));
    expect_to_work(&pool);
}

#[test]
fn a_name_of_any_kind_will_do() {
    let story = Story::begin();
    for name in ["", "a\0b", "größer als fünfzehn Bytes, und mit Umlauten", &"long".repeat(100)] {
        let pool = story.build(Pool::builder().workers(1).name(name));
        expect_to_work(&pool);
    }
}

#[test]
fn a_function_that_is_not_the_programs_own_is_refused() {
    let story = Story::begin();
    let pool = story.pool(1);
    // SAFETY: the function is never called: it is libc's, and of another type.
    let foreign = unsafe { std::mem::transmute::<*const (), fn(u64) -> u64>(libc::getpid as *const ()) };
    let error = pool.apply(foreign, 1).unwrap_err();
    assert!(matches!(error, Error::NotInExecutable { function: "fn(u64) -> u64" }), "{error}");
    expect_to_work(&pool);
}

#[test]
fn a_function_that_captures_does_not_compile_and_the_compiler_says_why() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

#[test]
fn an_argument_of_three_gibibytes_is_carried() {
    let story = Story::begin();
    let pool = story.pool(1);
    let length = 3 << 30;
    let mut argument = vec![0_u8; length];
    argument[length - 1] = 7;
    let look = |buffer: Buffer<u8>| (buffer.len(), buffer[0], buffer[buffer.len() - 1]);
    assert_eq!(pool.apply(look, Buffer::from(argument)).unwrap(), (length, 0, 7));
}

#[test]
fn what_is_larger_than_all_shared_memory_is_refused_with_both_numbers() {
    alone(|story| {
        limit(libc::RLIMIT_FSIZE, 64 << 20);
        let pool = story.pool(1);
        let error = pool.apply(|buffer: Buffer<u8>| buffer.len(), vec![0; 64 << 20].into()).unwrap_err();
        assert!(matches!(error, Error::NoRoom { bytes, arena: Some(arena) } if bytes > arena), "{error}");
        let error = pool.apply(|length: usize| Buffer::from(vec![0_u8; length]), 64 << 20).unwrap_err();
        assert!(matches!(error, Error::NoRoom { .. }), "{error}");
        expect_to_work(&pool);
    });
}

// ---- order of calls ----

#[test]
fn join_before_close_is_refused() {
    let story = Story::begin();
    let pool = story.pool(1);
    assert!(matches!(pool.join(), Err(Error::StillOpen)));
    assert!(matches!(pool.join_timeout(Duration::from_secs(1)), Err(Error::StillOpen)));
    expect_to_work(&pool);
}

#[test]
fn a_closed_pool_takes_no_calls() {
    let story = Story::begin();
    let pool = story.pool(1);
    pool.close();
    assert!(matches!(pool.apply(square, 1), Err(Error::Closed)));
    assert!(matches!(pool.apply_async(square, 1), Err(Error::Closed)));
    assert!(matches!(pool.map(square, 0..10), Err(Error::Closed)));
    let each: Vec<_> = pool.imap(square, 0..10).collect();
    assert!(matches!(each[..], [Err(Error::Closed)]), "{each:?}");
    let each: Vec<_> = pool.imap_unordered(square, 0..10).collect();
    assert!(matches!(each[..], [Err(Error::Closed)]), "{each:?}");
    pool.join().unwrap();
    assert!(matches!(pool.apply(square, 1), Err(Error::Closed)));
}

#[test]
fn a_terminated_pool_takes_no_calls() {
    let story = Story::begin();
    let pool = story.pool(1);
    pool.terminate();
    assert!(matches!(pool.apply(square, 1), Err(Error::Terminated)));
    pool.join().unwrap();
    assert!(matches!(pool.apply(square, 1), Err(Error::Terminated)));
}

#[test]
fn calls_in_a_wrong_order_or_twice_do_no_harm() {
    let story = Story::begin();
    let pool = story.pool(1);
    for _ in 0..2 {
        pool.close();
    }
    pool.resize(3).unwrap();
    for _ in 0..2 {
        pool.join().unwrap();
    }
    pool.resize(2).unwrap();
    for _ in 0..2 {
        pool.terminate();
    }
    pool.close();
    pool.join().unwrap();
    assert!(pool.join_timeout(Duration::ZERO).unwrap());
}

// ---- initializers ----

#[test]
fn a_panic_in_the_initializer_is_told_by_every_task() {
    fn fail(level: u8) {
        panic!("level {level} is too high");
    }
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(2).initializer(fail, 9));
    let error = pool.apply(square, 1).unwrap_err();
    let Error::InitializerFailed { message } = &error else { panic!("{error}") };
    assert!(message.contains("level 9 is too high") && message.contains("bad_input.rs:"), "{message}");
    assert!(matches!(pool.apply_async(square, 1), Err(Error::InitializerFailed { .. })));
    assert!(matches!(pool.join(), Err(Error::InitializerFailed { .. })));
}

#[test]
fn an_initializer_that_exits_ends_in_an_error_and_not_in_endless_workers() {
    let story = Story::begin();
    for status in [0, 3] {
        let pool = story.build(Pool::builder().workers(2).initializer(exit, status));
        let error = pool.apply(square, 1).unwrap_err();
        let Error::TooManyDeaths { last, .. } = &error else { panic!("{error}") };
        assert_eq!((last.code, last.signal), (Some(status), None));
        assert!(error.to_string().contains("initializer"), "{error}");
    }
}

#[test]
fn an_initializer_that_hangs_can_be_terminated() {
    fn hang(_: ()) {
        loop {
            std::thread::park();
        }
    }
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(2).initializer(hang, ()));
    let handle = pool.apply_async(square, 1).unwrap();
    workers(&pool, 2);
    pool.terminate();
    pool.join().unwrap();
    assert!(matches!(handle.get(), Err(Error::Terminated)));
}

// ---- the program ----

#[test]
fn the_program_may_be_replaced_on_disk_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let executable = folder.path().join("replaced");
    std::fs::copy(std::env::current_exe().unwrap(), &executable).unwrap();
    let mut program = Program::start_copy(&executable, || {
        let story = Story::begin();
        let pool = story.pool(1);
        expect_to_work(&pool);
        // Asked for before anybody replaces it: from then on the kernel adds " (deleted)" to the name.
        let path = std::env::current_exe().unwrap();
        say("running");
        eventually("the program was replaced", || {
            std::fs::metadata(&path).is_ok_and(|file| file.len() < 100)
        });
        // A new worker, from the zygote that there is.
        kill(workers(&pool, 1)[0]);
        pool.options().retries(9).apply(square, 2).unwrap();
        // A new zygote, and a worker from that.
        children(std::process::id()).into_iter().for_each(kill);
        eventually("a new zygote serves", || {
            workers(&pool, 1).into_iter().for_each(kill);
            pool.options().retries(9).apply(square, 2).is_ok() && !children(std::process::id()).is_empty()
        });
        expect_to_work(&pool);
        // A new pool.
        expect_to_work(&story.pool(2));
        say("done");
    });
    assert_eq!(program.hear(), "running");
    let other = folder.path().join("other");
    std::fs::write(&other, "#!/bin/sh\nexit 7\n").unwrap();
    std::fs::rename(&other, &executable).unwrap();
    assert_eq!(program.hear(), "done");
    program.expect_success();
}

#[test]
fn a_program_that_closed_its_standard_streams_can_have_a_pool() {
    alone(|story| {
        // SAFETY: nobody else uses these numbers until the pool does.
        let kept = [0, 1, 2].map(|number| unsafe {
            let kept = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 10);
            libc::close(number);
            kept
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let pool = story.pool(2);
            expect_to_work(&pool);
            pool.apply(|_: ()| println!("into the void"), ()).unwrap();
        }));
        for (kept, number) in kept.into_iter().zip(0..) {
            // SAFETY: these are the descriptors from above, back to where they were.
            unsafe {
                libc::dup2(kept, number);
                libc::close(kept);
            }
        }
        worked.unwrap();
    });
}

#[test]
fn a_program_that_ignores_the_deaths_of_its_children_can_have_a_pool() {
    alone(|story| {
        // SAFETY: `SIG_IGN` is a disposition for any signal.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let pool = story.pool(2);
        expect_to_work(&pool);
        let error = pool.apply(exit, 5).unwrap_err();
        assert!(matches!(&error, Error::WorkerDied(death) if death.code == Some(5)), "{error}");
        expect_to_work(&pool);
    });
}

#[test]
fn a_program_that_reaps_all_its_children_can_have_a_pool() {
    alone(|story| {
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    // SAFETY: a null pointer means that the status is not asked for.
                    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
                    std::thread::yield_now();
                }
            });
            for _ in 0..5 {
                let pool = story.pool(1);
                expect_to_work(&pool);
                children(std::process::id()).into_iter().for_each(kill);
                kill(workers(&pool, 1)[0]);
                assert_eq!(pool.options().retries(9).apply(square, 3).unwrap(), 9);
            }
            over.store(true, std::sync::atomic::Ordering::SeqCst);
        });
    });
}

#[test]
fn a_pool_says_so_in_a_forked_child() {
    alone(|story| {
        let pool = story.pool(1);
        let handle = pool.apply_async(square, 3).unwrap();
        handle.wait();
        let gate = Gate::closed();
        let running = gate.enter(&pool);
        let [queued, heard] = [4, 5].map(|x| pool.apply_async(square, x).unwrap());
        let heard = heard.on_success(|_| ());
        // SAFETY: the child allocates, which glibc allows, and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let refused = matches!(pool.apply_async(square, 1), Err(Error::Forked));
            pool.close();
            pool.terminate();
            let not_joined = matches!(pool.join(), Err(Error::Forked));
            let not_resized = matches!(pool.resize(2), Err(Error::Forked));
            let not_cancelled = !queued.cancel() && !running.cancel_running();
            let not_given =
                [handle, running, queued, heard].map(|handle| matches!(handle.get(), Err(Error::Forked)));
            let counted = pool.stats().accepted;
            drop(pool);
            let as_it_should =
                refused && not_joined && not_resized && not_cancelled && not_given == [true; 4];
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(i32::from(!as_it_should || counted != 0)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child's status");
        gate.open();
        let given = [handle, running, queued, heard].map(|handle| handle.get().unwrap());
        assert_eq!(given, [9, 1, 16, 25], "the parent's handles are as they were");
        expect_to_work(&pool);
    });
}

#[test]
fn a_forked_child_that_drops_its_copy_of_a_result_does_not_take_it_from_its_parent() {
    alone(|story| {
        let pool = story.pool(1);
        let make = |(length, value): (usize, u8)| Buffer::from(vec![value; length]);
        let kept = pool.apply(make, (1 << 20, 1)).unwrap();
        // SAFETY: the child frees memory, which glibc allows, and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(kept);
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
        let others: Vec<_> = (0..60).map(|_| pool.apply(make, (1 << 20, 2)).unwrap()).collect();
        assert!(kept.iter().all(|&byte| byte == 1), "nobody wrote over the result");
        drop(others);
    });
}

// ---- limits ----

fn limit(what: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: `limit` is whole.
    assert_eq!(unsafe { libc::setrlimit(what, &raw const limit) }, 0);
}

/// The address space that this process takes now.
fn address_space() -> u64 {
    let sizes = std::fs::read_to_string("/proc/self/statm").unwrap();
    sizes.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn thirty_two_descriptors_are_enough() {
    alone(|story| {
        limit(libc::RLIMIT_NOFILE, 32);
        let pool = story.pool(4);
        expect_to_work(&pool);
        kill(workers(&pool, 4)[0]);
        assert_eq!(pool.options().retries(9).apply(square, 3).unwrap(), 9);
        expect_to_work(&pool);
    });
}

#[test]
fn more_workers_than_descriptors_work_all_the_same() {
    alone(|story| {
        limit(libc::RLIMIT_NOFILE, 32);
        let pool = story.pool(40);
        expect_to_work(&pool);
        let pids = workers(&pool, 40);
        pids.iter().for_each(|&pid| kill(pid));
        eventually("they are replaced", || {
            pool.stats().workers.iter().all(|worker| !pids.contains(&worker.pid))
        });
        expect_to_work(&pool);
    });
}

#[test]
fn without_descriptors_a_pool_is_refused_with_what_the_system_said() {
    alone(|_story| {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        limit(libc::RLIMIT_NOFILE, open);
        let error = Pool::new(1).unwrap_err();
        let Error::System { error: cause, .. } = &error else { panic!("{error}") };
        assert_eq!(cause.raw_os_error(), Some(libc::EMFILE), "{error}");
    });
}

#[test]
fn where_address_space_is_short_a_pool_takes_less_of_it() {
    alone(|story| {
        limit(libc::RLIMIT_AS, address_space() + (128 << 20));
        let pool = story.pool(2);
        expect_to_work(&pool);
        let lengths = pool.map(|bytes: Vec<u8>| bytes.len(), (0..20).map(|_| vec![0; 100_000])).unwrap();
        assert_eq!(lengths, [100_000; 20]);
    });
}

#[test]
fn where_there_is_hardly_any_address_space_a_pool_is_refused_with_what_the_system_said() {
    alone(|_story| {
        limit(libc::RLIMIT_AS, address_space() + (1 << 20));
        let error = Pool::new(1).unwrap_err();
        let Error::System { error: cause, .. } = &error else { panic!("{error}") };
        assert_eq!(cause.raw_os_error(), Some(libc::ENOMEM), "{error}");
    });
}

#[test]
fn where_files_may_not_be_large_a_pool_takes_less_memory() {
    alone(|story| {
        limit(libc::RLIMIT_FSIZE, 32 << 20);
        expect_to_work(&story.pool(2));
    });
}

// ---- tasks ----

#[test]
fn a_task_may_close_all_descriptors() {
    fn close_all(_: ()) -> usize {
        // SAFETY: it is the point of the test that these are others' descriptors.
        unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let worker = workers(&pool, 1)[0];
    assert_eq!(pool.apply(close_all, ()).unwrap(), 1);
    expect_to_work(&pool);
    let slow = pool.options().timeout(Duration::from_millis(50));
    let sleep = |_: ()| std::thread::sleep(Duration::from_secs(100));
    assert_eq!(workers(&pool, 1), [worker], "it is still the same worker");
    assert!(matches!(slow.apply(sleep, ()), Err(Error::TimedOut { .. })), "time limits hold");
    expect_to_work(&pool);
}

#[test]
fn a_task_may_fork_a_child_that_comes_back_from_the_task_as_well() {
    fn fork(_: ()) -> u32 {
        // SAFETY: the child does what the worker does.
        unsafe { libc::fork() };
        std::process::id()
    }
    let story = Story::begin();
    let pool = story.pool(1);
    for _ in 0..20 {
        let worker = workers(&pool, 1)[0];
        assert_eq!(pool.apply(fork, ()).unwrap(), worker, "only the worker itself replies");
        eventually("the child is gone", || children(worker).iter().all(|&child| !is_alive(child)));
    }
    expect_to_work(&pool);
    pool.close();
    pool.join().unwrap();
}

#[test]
fn a_task_may_fork_a_child_that_panics_or_exits() {
    fn fork(exits: bool) -> i32 {
        // SAFETY: the child does what the worker does.
        let child = unsafe { libc::fork() };
        if child == 0 {
            assert!(exits, "the child panics");
            std::process::exit(3);
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        libc::WEXITSTATUS(status)
    }
    let story = Story::begin();
    let pool = story.pool(1);
    assert_eq!(pool.apply(fork, true).unwrap(), 3);
    assert_eq!(pool.apply(fork, false).unwrap(), 0, "the child's end is not the task's");
    expect_to_work(&pool);
}

#[test]
fn a_task_may_start_programs_and_threads() {
    fn count_words(text: String) -> String {
        let echo = std::process::Command::new("echo").arg(text).output().unwrap();
        std::thread::spawn(move || String::from_utf8(echo.stdout).unwrap()).join().unwrap()
    }
    let story = Story::begin();
    let pool = story.pool(2);
    assert_eq!(pool.apply(count_words, "three blind mice".to_owned()).unwrap(), "three blind mice\n");
}

#[test]
fn a_task_may_ignore_all_signals_and_is_killed_all_the_same() {
    fn ignore_signals_and_sleep(_: ()) {
        for number in 1..32 {
            // SAFETY: `SIG_IGN` is a disposition for any signal; for those that cannot be ignored this fails.
            unsafe { libc::signal(number, libc::SIG_IGN) };
        }
        loop {
            std::thread::park();
        }
    }
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).grace(Duration::from_millis(100)));
    let limited = pool.options().timeout(Duration::from_millis(100));
    assert!(matches!(limited.apply(ignore_signals_and_sleep, ()), Err(Error::TimedOut { .. })));
    let busy = pool.apply_async(ignore_signals_and_sleep, ()).unwrap();
    eventually("the task runs", || pool.stats().running == 1);
    pool.terminate();
    pool.join().unwrap();
    assert!(matches!(busy.get(), Err(Error::Terminated)));
}

#[test]
fn a_task_may_set_any_signal_handler() {
    extern "C" fn nothing(_: libc::c_int) {}
    fn handle_all_signals(_: ()) {
        for number in (1..65).filter(|&number| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(&number)) {
            let nothing = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
            // SAFETY: the handler does nothing, which is safe at any instruction.
            unsafe { libc::signal(number, nothing) };
        }
    }
    let story = Story::begin();
    let pool = story.pool(1);
    pool.apply(handle_all_signals, ()).unwrap();
    let worker = workers(&pool, 1)[0];
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGCHLD, libc::SIGALRM] {
        signal(worker, number);
        expect_to_work(&pool);
    }
    assert_eq!(workers(&pool, 1), [worker], "it lives");
}

#[test]
fn an_interrupt_from_the_keyboard_is_the_parents_affair() {
    alone(|story| {
        let pool = story.pool(2);
        let before = workers(&pool, 2);
        let zygote = children(std::process::id());
        before.iter().chain(&zygote).for_each(|&process| signal(process, libc::SIGINT));
        expect_to_work(&pool);
        assert_eq!(workers(&pool, 2), before);
    });
}

#[test]
fn a_task_may_change_what_a_process_has_but_one_of() {
    fn change(_: ()) {
        std::env::set_current_dir("/").unwrap();
        // SAFETY: no other thread of the worker looks at the environment; `umask` has no precondition.
        unsafe {
            std::env::remove_var("PATH");
            libc::umask(0o777);
            libc::setpriority(libc::PRIO_PROCESS, 0, 5);
            libc::prctl(libc::PR_SET_DUMPABLE, 0);
        }
        std::panic::set_hook(Box::new(|_| {}));
    }
    let story = Story::begin();
    let pool = story.pool(1);
    pool.apply(change, ()).unwrap();
    expect_to_work(&pool);
    let error = pool.apply(|_: ()| -> u8 { panic!("with another hook") }, ()).unwrap_err();
    assert!(
        matches!(&error, Error::Panicked { message, location: None, .. } if message == "with another hook")
    );
}

#[test]
fn a_task_that_sets_a_limit_on_itself_harms_only_itself() {
    fn limit_memory(_: ()) {
        limit(libc::RLIMIT_AS, address_space() + (16 << 20));
        drop(std::hint::black_box(vec![1_u8; 1 << 30]));
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let error = pool.apply(limit_memory, ()).unwrap_err();
    assert!(matches!(&error, Error::WorkerDied(death) if death.signal_name() == Some("SIGABRT")), "{error}");
    expect_to_work(&pool);
}

#[test]
fn a_task_that_overflows_its_stack_costs_that_task() {
    fn descend(depth: u64) -> u64 {
        if std::hint::black_box(depth) == u64::MAX { 0 } else { 1 + descend(depth + 1) + depth % 2 }
    }
    let story = Story::begin();
    for builder in [Pool::builder().workers(1), Pool::builder().workers(1).stack_size(256 << 10)] {
        let pool = story.build(builder);
        let error = pool.apply(descend, 0).unwrap_err();
        let Error::WorkerDied(death) = &error else { panic!("{error}") };
        assert!(matches!(death.signal_name(), Some("SIGSEGV" | "SIGABRT")), "{error}");
        expect_to_work(&pool);
    }
}
