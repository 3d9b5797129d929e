//! After a pool nothing is left: no process, no thread, no descriptor, no mapping, no file.
//!
//! Each story has a process of its own, and the end of `alone` compares what that has with what it had before.

mod common;

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{Inventory, PATIENCE, alone, children, eventually, kill, name, parent, workers};
use procpool::{Buffer, Error, Pool};

fn sleep_for_ever(_: ()) {
    std::thread::sleep(PATIENCE * 2);
}

fn zygote() -> u32 {
    let found = Cell::new(0);
    eventually("there is a zygote", || {
        let mut zygotes =
            children(std::process::id()).into_iter().filter(|&child| name(child) == "procpool-zygote");
        found.set(zygotes.next_back().unwrap_or(0));
        found.get() != 0
    });
    found.get()
}

#[test]
fn a_pool_that_was_joined_leaves_nothing() {
    alone(|story| {
        let pool = story.pool(2);
        pool.map(|x: u64| x * x, 0..1000).unwrap();
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn what_join_says_is_gone_is_gone() {
    alone(|story| {
        let before = Inventory::take();
        let pool = story.pool(2);
        pool.apply(|x: u64| x, 1).unwrap();
        pool.close();
        pool.join().unwrap();
        let processes = before.new_since().into_iter().filter(|line| line.starts_with("child"));
        assert_eq!(processes.collect::<Vec<_>>(), [""; 0]);
    });
}

#[test]
fn a_pool_that_was_terminated_while_it_worked_leaves_nothing() {
    alone(|story| {
        let pool = story.pool(2);
        let handles: Vec<_> = (0..10).map(|_| pool.apply_async(sleep_for_ever, ()).unwrap()).collect();
        eventually("both workers are busy", || pool.stats().running == 2);
        pool.terminate();
        pool.join().unwrap();
        handles.into_iter().for_each(|handle| assert!(matches!(handle.get(), Err(Error::Terminated))));
    });
}

#[test]
fn a_pool_that_is_dropped_at_once_leaves_nothing() {
    alone(|story| drop(story.pool(3)));
}

#[test]
fn a_pool_that_is_dropped_idle_leaves_nothing() {
    alone(|story| {
        let pool = story.pool(2);
        workers(&pool, 2);
    });
}

#[test]
fn a_pool_that_is_dropped_while_it_works_leaves_nothing() {
    alone(|story| {
        let pool = story.pool(2);
        let handles: Vec<_> = (0..10).map(|_| pool.apply_async(sleep_for_ever, ()).unwrap()).collect();
        eventually("both workers are busy", || pool.stats().running == 2);
        drop(pool);
        handles.into_iter().for_each(|handle| assert!(matches!(handle.get(), Err(Error::Terminated))));
    });
}

#[test]
fn a_pool_whose_workers_were_killed_leaves_nothing() {
    alone(|story| {
        let pool = story.pool(2);
        for _ in 0..5 {
            workers(&pool, 2).into_iter().for_each(kill);
            pool.options().retries(10).map(|x: u64| x + 1, 0..100).unwrap();
        }
    });
}

#[test]
fn a_pool_whose_zygote_was_killed_leaves_nothing() {
    alone(|story| {
        let pool = story.pool(2);
        let busy = pool.apply_async(sleep_for_ever, ()).unwrap();
        eventually("a worker is busy", || pool.stats().running == 1);
        let orphans = workers(&pool, 2);
        kill(zygote());
        eventually("the workers have no zygote", || {
            orphans
                .iter()
                .all(|&worker| parent(worker).is_none_or(|parent| name(parent) != "procpool-zygote"))
        });
        assert_eq!(pool.apply(|x: u64| x, 1).unwrap(), 1);
        drop(pool);
        assert!(matches!(busy.get(), Err(Error::Terminated)));
    });
}

#[test]
fn a_pool_that_gave_up_leaves_nothing() {
    fn fail(_: ()) {
        panic!("not today");
    }
    alone(|story| {
        let pool = story.build(Pool::builder().workers(2).initializer(fail, ()));
        assert!(matches!(pool.apply(|x: u64| x, 1), Err(Error::InitializerFailed { .. })));
    });
}

#[test]
fn a_pool_that_could_not_be_made_leaves_nothing() {
    alone(|_story| {
        assert!(matches!(Pool::new(0), Err(Error::Workers(0))));
        let limit = |soft| {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: 1 << 12 };
            // SAFETY: `limit` is whole.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        };
        // Each step of the beginning once meets the end of descriptors.
        for more in 1..20 {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            limit(open + more);
            let made = Pool::new(1).and_then(|pool| pool.apply(|x: u64| x, 1));
            println!("with {more} more descriptors: {made:?}");
            limit(1 << 12);
        }
    });
}

#[test]
fn callbacks_and_futures_leave_nothing() {
    alone(|story| {
        let called = Arc::new(AtomicUsize::new(0));
        let pool = story.pool(2);
        for x in 0..100 {
            let called = called.clone();
            let handle = pool.apply_async(|x: u64| x, x).unwrap();
            drop(handle.on_success(move |_| drop(called.fetch_add(1, Ordering::SeqCst).to_string())));
            assert_eq!(pollster::block_on(pool.apply_async(|x: u64| x, x).unwrap()).unwrap(), x);
        }
        let mut results = pool.imap_unordered(|x: u64| x, 0..);
        assert!(results.by_ref().take(100).all(|result| result.is_ok()));
        drop(results);
        pool.close();
        pool.join().unwrap();
        assert_eq!(called.load(Ordering::SeqCst), 100);
    });
}

#[test]
fn a_future_that_is_dropped_before_its_end_leaves_nothing() {
    alone(|story| {
        let pool = story.pool(1);
        let slow = pool.apply_async(|_: ()| std::thread::sleep(Duration::from_millis(50)), ()).unwrap();
        let mut future = Box::pin(slow);
        pollster::block_on(std::future::poll_fn(|context| {
            assert!(future.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        }));
        drop(future);
        assert_eq!(pool.apply(|x: u64| x, 1).unwrap(), 1);
    });
}

#[test]
fn handles_and_results_that_outlive_their_pool_leave_nothing_once_they_are_dropped() {
    alone(|story| {
        let pool = story.pool(2);
        let big = pool.apply(|length: usize| Buffer::from(vec![7_u8; length]), 1 << 20).unwrap();
        let ended = pool.apply_async(|length: usize| Buffer::from(vec![8_u8; length]), 1 << 20).unwrap();
        ended.wait();
        let cancelled = pool.apply_async(sleep_for_ever, ()).unwrap();
        drop(pool);
        assert!(big.iter().all(|&byte| byte == 7));
        assert!(ended.get().unwrap().iter().all(|&byte| byte == 8));
        assert!(matches!(cancelled.get(), Err(Error::Terminated)));
    });
}

#[test]
fn callbacks_on_a_pool_that_has_ended_are_called_and_leave_nothing() {
    alone(|story| {
        let pool = story.pool(1);
        let before = pool.apply_async(|x: u64| x, 1).unwrap().on_success(|_| {});
        let later: Vec<_> = (0..3).map(|x| pool.apply_async(|x: u64| x, x).unwrap()).collect();
        let polled = pool.apply_async(|x: u64| x, 4).unwrap();
        pool.close();
        pool.join().unwrap();
        drop(pool);
        for (handle, expected) in later.into_iter().zip(0..) {
            let (tell, told) = mpsc::channel();
            let handle = handle.on_success(move |&x| tell.send(x).unwrap());
            assert_eq!(told.recv_timeout(PATIENCE), Ok(expected));
            assert_eq!(handle.get().unwrap(), expected);
        }
        assert_eq!(before.get().unwrap(), 1);
        assert_eq!(pollster::block_on(polled).unwrap(), 4);
    });
}

#[test]
fn nested_pools_leave_nothing() {
    fn sum_of_squares(numbers: u64) -> u64 {
        Pool::new(2).unwrap().map(|x: u64| x * x, 0..numbers).unwrap().into_iter().sum()
    }
    alone(|story| {
        let pool = story.pool(2);
        assert_eq!(pool.map(sum_of_squares, [3, 4, 5]).unwrap(), [5, 14, 30]);
    });
}

#[test]
fn workers_that_are_killed_with_pools_of_their_own_leave_nothing() {
    fn keep_a_pool(_: ()) {
        let pool = Pool::new(2).unwrap();
        pool.apply(|x: u64| x, 1).unwrap();
        drop(pool.apply_async(sleep_for_ever, ()).unwrap());
        std::mem::forget(pool);
        sleep_for_ever(());
    }
    alone(|story| {
        let pool = story.pool(1);
        let busy = pool.apply_async(keep_a_pool, ()).unwrap();
        let worker = workers(&pool, 1)[0];
        eventually("the worker has a pool", || !children(worker).is_empty());
        kill(worker);
        assert!(matches!(busy.get(), Err(Error::WorkerDied(_))));
    });
}

#[test]
fn an_iterator_dropped_midway_leaves_nothing() {
    alone(|story| {
        let pool = story.pool(2);
        assert_eq!(pool.imap(|x: u64| x, 0..).take(3).map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(pool.imap_unordered(|x: u64| x, 0..).take(3).count(), 3);
    });
}

#[test]
fn several_pools_at_once_leave_nothing() {
    alone(|story| {
        let pools: Vec<_> = (0..5).map(|_| story.pool(2)).collect();
        let handles: Vec<_> = pools.iter().map(|pool| pool.apply_async(|x: u64| x, 1).unwrap()).collect();
        assert!(handles.into_iter().all(|handle| handle.get().unwrap() == 1));
    });
}

#[test]
fn many_pools_one_after_another_take_no_more_memory_than_a_few() {
    fn size() -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
    }
    alone(|story| {
        let use_one = || {
            let pool = story.pool(1);
            let buffer = pool.apply(|length: usize| Buffer::from(vec![7_u8; length]), 1 << 20).unwrap();
            assert_eq!(buffer.len(), 1 << 20);
        };
        (0..10).for_each(|_| use_one());
        let before = size();
        (0..40).for_each(|_| use_one());
        let grown = size().saturating_sub(before);
        // One region that was forgotten would be gigabytes, one thread's stack two megabytes.
        assert!(grown < 40 * (1 << 20), "40 pools left {grown} bytes of address space");
    });
}

/// How much memory the story's only region takes.
fn touched() -> u64 {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let regions = open.filter(|entry| {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        target.to_string_lossy().starts_with("/memfd:")
    });
    let sizes = regions.filter_map(|entry| std::fs::metadata(entry.path()).ok());
    sizes.map(|file| file.blocks() * 512).max().unwrap()
}

const LARGE: u64 = 256 << 20;

#[test]
fn the_memory_of_payloads_goes_back_to_the_system_when_the_pool_idles() {
    alone(|story| {
        let pool = story.pool(1);
        let large = LARGE as usize;
        let payload = Buffer::from(vec![1_u8; large]);
        assert_eq!(pool.apply(|buffer: Buffer<u8>| buffer.len(), payload).unwrap(), large);
        eventually("the memory is the system's again", || touched() < LARGE / 2);
        let payload = Buffer::from(vec![2_u8; large]);
        assert!(pool.apply(|buffer: Buffer<u8>| buffer.iter().all(|&byte| byte == 2), payload).unwrap());
    });
}

#[test]
fn the_memory_of_a_result_that_is_let_go_of_in_an_idle_pool_goes_back_to_the_system() {
    alone(|story| {
        let pool = story.pool(1);
        let copy = |buffer: Buffer<u8>| Buffer::from(buffer.to_vec());
        let result = pool.apply(copy, Buffer::from(vec![1_u8; LARGE as usize])).unwrap();
        eventually("the pool idles, and has given back the argument", || touched() < LARGE * 3 / 2);
        assert!(result.iter().all(|&byte| byte == 1));
        drop(result);
        eventually("the memory is the system's again", || touched() < LARGE / 2);
    });
}
