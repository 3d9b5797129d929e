//! One test for each fault that was found in use, or by another test.

mod common;

use std::sync::Mutex;
use std::time::Duration;

use common::{Gate, Story, alone, children, eventually, is_alive, kill, name, wait_at, workers};
use procpool::{Buffer, Error};

fn sleep_for_ever(_: ()) {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// A first worker can have claimed its task before the supervisor heard of its start; the request to kill it was
/// lost then, and the task never ended.
#[test]
fn a_running_task_can_be_cancelled_before_its_workers_start_was_told() {
    for _ in 0..50 {
        let story = Story::begin();
        let pool = story.pool(1);
        let task = pool.apply_async(sleep_for_ever, ()).unwrap();
        while pool.stats().running == 0 {
            std::hint::spin_loop();
        }
        assert!(task.cancel_running());
        assert!(matches!(task.get(), Err(Error::Cancelled)));
    }
}

fn zygote() -> u32 {
    let mut children = children(std::process::id()).into_iter();
    children.find(|&child| name(child) == "procpool-zygote").unwrap()
}

/// Sets how many descriptors this process may have; gives how many that were.
fn limit_descriptors(most: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is whole and outlives the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        let before = std::mem::replace(&mut limit.rlim_cur, most);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        before
    }
}

/// A worker's pidfd gets lost where its parent is out of descriptors at that moment; then the zygote alone knew of its
/// death, and with that dead as well, the task that the worker ran never ended.
#[test]
fn a_death_is_heard_of_although_the_worker_came_without_a_pidfd_and_its_zygote_is_dead() {
    alone(|story| {
        let pool = story.pool(1);
        let first = workers(&pool, 1)[0];
        let zygote =
            children(std::process::id()).into_iter().find(|&child| name(child) == "procpool-zygote").unwrap();
        let before = limit_descriptors(0);
        kill(first);
        let mut second = first;
        eventually("another worker sits there", || {
            second = pool.stats().workers.first().map_or(first, |worker| worker.pid);
            second != first
        });
        limit_descriptors(before);

        let task = pool.apply_async(sleep_for_ever, ()).unwrap();
        eventually("the task runs", || pool.stats().running == 1);
        kill(zygote);
        eventually("the zygote is gone", || !is_alive(zygote));
        kill(second);
        match task.get() {
            Err(Error::WorkerDied(death)) => assert_eq!(death.pid, second),
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.apply(|x: u64| x, 1).unwrap(), 1);
    });
}

/// A region was as large as the limit on address space let it be, to the last page: then the program that made the pool
/// had no room for its next thread, and aborted.
#[test]
fn where_address_space_is_limited_a_pool_takes_no_more_than_it_leaves() {
    let address_space = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
    };
    alone(|story| {
        let room = address_space() + (3 << 30);
        let limit = libc::rlimit { rlim_cur: room, rlim_max: libc::RLIM_INFINITY };
        // Wherever the limit lies between one size of a region and the next.
        for more in 0..6 {
            let limit = libc::rlimit { rlim_cur: room + (more << 29), ..limit };
            // SAFETY: `limit` is whole.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
            let before = address_space();
            let pool = story.pool(1);
            let (taken, left) = (address_space() - before, limit.rlim_cur - address_space());
            // A thread's stack and heap count as well.
            assert!(left + (256 << 20) >= taken, "{taken} bytes taken, {left} left");
            assert_eq!(pool.apply(|x: u64| x, 1).unwrap(), 1);
        }
    });
}

/// A zygote that replaced another was started by the supervisor, and inherited that all signals are blocked; so did its
/// workers, and the programs that those started.
#[test]
fn workers_of_a_second_zygote_can_be_reached_by_signals() {
    fn blocked_signals(_: ()) -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim().to_owned()
    }
    alone(|story| {
        let pool = story.pool(1);
        let before = pool.apply(blocked_signals, ()).unwrap();
        let (first, worker) = (zygote(), workers(&pool, 1)[0]);
        kill(first);
        eventually("the zygote is gone", || !is_alive(first));
        kill(worker);
        eventually("another worker sits there", || {
            pool.stats().workers.first().is_some_and(|present| present.pid != worker)
        });
        assert_eq!(pool.apply(blocked_signals, ()).unwrap(), before);
    });
}

/// Memory goes back to the system in pages, and small blocks are smaller: with the free ones, their neighbours on the
/// same page were given back, and results that nobody had taken yet read as zeroes.
#[test]
fn results_that_are_taken_after_the_pool_gave_back_its_memory_are_whole() {
    let story = Story::begin();
    let pool = story.pool(2);
    let long = |x: u32| vec![x; 500];
    let handles: Vec<_> = (1..3000).map(|x| (x, pool.apply_async(long, x).unwrap())).collect();
    let (kept, taken): (Vec<_>, Vec<_>) = handles.into_iter().partition(|(x, _)| x % 7 == 0);
    taken.into_iter().for_each(|(x, handle)| assert_eq!(handle.get().unwrap(), vec![x; 500]));
    pool.close();
    pool.join().unwrap();
    kept.into_iter().for_each(|(x, handle)| assert_eq!(handle.get().unwrap(), vec![x; 500], "{x}"));
}

/// Callbacks are called on a thread that is started for the first of them. Where none could be had they were called
/// when the pool ended: whoever waited for one waited for ever.
#[test]
fn callbacks_and_futures_are_served_where_the_system_has_no_thread_left() {
    alone(|story| {
        let pool = story.pool(2);
        workers(&pool, 2);
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let room = pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096 + (1 << 20);
        let limit = libc::rlimit { rlim_cur: room, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: `limit` is whole.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        assert!(std::thread::Builder::new().spawn(|| ()).is_err());

        let slowly = |x: u64| {
            std::thread::sleep(Duration::from_millis(50));
            x + 1
        };
        let (told, hear) = std::sync::mpsc::channel();
        let heard = pool.apply_async(slowly, 1).unwrap().on_success(move |&x| told.send(x).unwrap());
        assert_eq!(heard.get().unwrap(), 2);
        assert_eq!(hear.recv().unwrap(), 2);
        assert_eq!(pollster::block_on(pool.apply_async(slowly, 2).unwrap()).unwrap(), 3);
        let mut results: Vec<u64> = pool.imap_unordered(slowly, 0..4).map(Result::unwrap).collect();
        results.sort_unstable();
        assert_eq!(results, [1, 2, 3, 4]);

        // A callback may end the pool, and then of course does not wait for itself.
        let (late, over) = (pool.apply_async(slowly, 1).unwrap(), pool.clone());
        let late = late.on_success(move |_| {
            over.terminate();
            over.join().unwrap();
        });
        late.wait();
        pool.join().unwrap();
        let (told, hear) = std::sync::mpsc::channel();
        let unserved = pool.apply_async(slowly, 1);
        assert!(unserved.is_err());
        drop(late.on_success(move |&x| told.send(x).unwrap()));
        assert_eq!(hear.recv().unwrap(), 2);
    });
}

/// A task may keep a buffer that it was given, in a static for instance, and let go of it later. When the outcome was
/// taken after that, the parent gave the buffer's memory back a second time: it was another task's by then, and a third
/// one's argument was written over it.
#[test]
fn memory_that_a_worker_has_kept_and_given_back_is_not_given_back_once_more() {
    static KEPT: Mutex<Option<Buffer<u8>>> = Mutex::new(None);
    fn keep(bytes: Buffer<u8>) {
        *KEPT.lock().unwrap() = Some(bytes);
    }
    fn let_go(_: ()) {
        *KEPT.lock().unwrap() = None;
    }
    fn sum(bytes: Buffer<u8>) -> u64 {
        bytes.iter().map(|&byte| u64::from(byte)).sum()
    }
    fn sum_later((gate, bytes): (String, Buffer<u8>)) -> u64 {
        wait_at(gate);
        sum(bytes)
    }
    // So long that the search for memory begins from the start each time.
    const LENGTH: usize = 65_000;
    let bytes = |byte: u8| Buffer::from(vec![byte; LENGTH]);
    let (story, gate) = (Story::begin(), Gate::closed());
    let pool = story.pool(1);
    let kept = pool.apply_async(keep, bytes(1)).unwrap();
    kept.wait();
    pool.apply(let_go, ()).unwrap();
    let later = pool.apply_async(sum_later, (gate.path(), bytes(3))).unwrap();
    eventually("it runs", || pool.stats().running == 1);
    kept.get().unwrap();
    let other = pool.apply_async(sum, bytes(4)).unwrap();
    gate.open();
    assert_eq!(later.get().unwrap(), 3 * LENGTH as u64);
    assert_eq!(other.get().unwrap(), 4 * LENGTH as u64);
}
