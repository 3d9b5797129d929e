//! Many items at once: `map`, `imap` and `imap_unordered`.

mod common;

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use common::{Gate, Story, eventually, wait_at};
use procpool::{Error, Pool};

fn square(x: u64) -> u64 {
    x * x
}

fn squares(count: u64) -> Vec<u64> {
    (0..count).map(square).collect()
}

/// Sleeps for so many milliseconds, and gives them back.
fn sleep(milliseconds: u64) -> u64 {
    thread::sleep(Duration::from_millis(milliseconds));
    milliseconds
}

fn only_odd(x: u64) -> u64 {
    assert!(x % 2 == 1, "{x} is even");
    x
}

fn abort_at_seven(x: u64) -> u64 {
    if x == 7 { std::process::abort() } else { x }
}

/// Waits until another worker is in here as well, and gives this one's process.
fn meet(folder: String) -> u32 {
    let process = std::process::id();
    std::fs::write(format!("{folder}/{process}"), []).unwrap();
    while std::fs::read_dir(&folder).unwrap().count() < 2 {
        thread::sleep(Duration::from_millis(1));
    }
    process
}

#[test]
fn any_chunk_size_gives_the_same_results() {
    let story = Story::begin();
    let pool = story.pool(2);
    for size in [0, 1, 7, 100, 1000, usize::MAX] {
        assert_eq!(pool.options().chunk_size(size).map(square, 0..100).unwrap(), squares(100), "{size}");
        let each = pool.options().chunk_size(size).imap(square, 0..100);
        assert_eq!(each.collect::<Result<Vec<_>, _>>().unwrap(), squares(100), "{size}");
        let each = pool.options().chunk_size(size).imap_unordered(square, 0..100);
        let mut unordered = each.collect::<Result<Vec<_>, _>>().unwrap();
        unordered.sort_unstable();
        assert_eq!(unordered, squares(100), "{size}");
    }
}

#[test]
fn a_chunk_is_one_task() {
    let story = Story::begin();
    let pool = story.pool(2);
    pool.options().chunk_size(30).map(square, 0..100).unwrap();
    assert_eq!(pool.stats().accepted, 4);
    pool.map(square, 0..100).unwrap();
    assert_eq!(pool.stats().accepted, 4 + 32, "chunks of 2 to 6 items");
    pool.imap(square, 0..10).for_each(drop);
    assert_eq!(pool.stats().accepted, 4 + 32 + 10);
}

#[test]
fn without_a_chunk_size_any_number_of_items_is_mapped() {
    let story = Story::begin();
    let pool = story.pool(2);
    for count in (0..70).chain([1_000, 100_003]) {
        assert_eq!(pool.map(square, 0..count).unwrap(), squares(count), "{count}");
    }
}

#[test]
fn without_a_chunk_size_many_items_are_few_chunks() {
    let story = Story::begin();
    let pool = story.pool(2);
    pool.map(square, 0..1_000_000).unwrap();
    assert_eq!(pool.stats().accepted, 39);
}

#[test]
fn without_a_chunk_size_few_items_keep_all_workers_busy() {
    let story = Story::begin();
    let pool = story.pool(2);
    let folder = tempfile::tempdir().unwrap();
    let items = (0..4).map(|_| folder.path().display().to_string());
    let mut workers = pool.map(meet, items).unwrap();
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers.len(), 2);
}

#[test]
fn chunks_are_cut_for_as_many_workers_as_there_are_now() {
    let story = Story::begin();
    let pool = story.pool(1);
    pool.map(square, 0..100_000).unwrap();
    let for_one = pool.stats().accepted;
    pool.resize(4).unwrap();
    pool.map(square, 0..100_000).unwrap();
    assert!(
        pool.stats().accepted - for_one > 3 * for_one,
        "{for_one} for one worker, then {:?}",
        pool.stats()
    );
}

#[test]
fn without_a_chunk_size_a_death_costs_its_chunk() {
    let story = Story::begin();
    let pool = story.pool(2);
    let each = pool.map_async(abort_at_seven, 0..20).unwrap().get_each();
    let lost: Vec<_> = (0..20).filter(|&x| each[x].is_err()).collect();
    assert_eq!(lost, [7]);
    let each = pool.map_async(abort_at_seven, 0..1000).unwrap().get_each();
    let lost: Vec<_> = (0..1000).filter(|&x| each[x].is_err()).collect();
    assert_eq!(lost, Vec::from_iter(0..16), "the first chunk");
}

#[test]
fn nothing_is_mapped_to_nothing() {
    let story = Story::begin();
    let pool = story.pool(2);
    assert_eq!(pool.map(square, []).unwrap(), []);
    let handle = pool.map_async(square, []).unwrap();
    assert!(handle.is_ready() && handle.wait_timeout(Duration::ZERO));
    assert_eq!(handle.get().unwrap(), []);
    assert_eq!(pool.imap(square, []).count(), 0);
    assert_eq!(pool.imap_unordered(square, []).count(), 0);
    assert_eq!(pool.stats().accepted, 0);
}

#[test]
fn items_whose_number_is_not_known_are_mapped_as_well() {
    let story = Story::begin();
    let pool = story.pool(2);
    let some = (0..1000).filter(|x| x % 3 == 0);
    let expected: Vec<u64> = some.clone().map(square).collect();
    assert_eq!(pool.map(square, some.clone()).unwrap(), expected);
    assert_eq!(pool.options().chunk_size(10).map(square, some).unwrap(), expected);
}

#[test]
fn the_error_is_that_of_the_first_item_that_has_one() {
    let story = Story::begin();
    let pool = story.pool(2);
    for size in [1, 3, 100] {
        let error = pool.options().chunk_size(size).map(only_odd, [1, 3, 8, 5, 6]).unwrap_err();
        assert!(matches!(&error, Error::Panicked { message, .. } if message == "8 is even"), "{error}");
    }
}

#[test]
fn each_item_has_an_end_of_its_own() {
    let story = Story::begin();
    let pool = story.pool(2);
    let each = pool.options().chunk_size(1).map_async(abort_at_seven, 0..20).unwrap().get_each();
    let lost: Vec<_> = (0..20).filter(|&x| each[x].is_err()).collect();
    assert_eq!(lost, [7]);
    let each = pool.options().chunk_size(5).map_async(abort_at_seven, 0..20).unwrap().get_each();
    let lost: Vec<_> = (0..20).filter(|&x| each[x].is_err()).collect();
    assert_eq!(lost, [5, 6, 7, 8, 9], "a chunk dies together");
    let each: Vec<_> = pool.imap(abort_at_seven, 0..20).collect();
    let lost: Vec<_> = (0..20).filter(|&x| each[x].is_err()).collect();
    assert_eq!(lost, [7]);
    assert_eq!(pool.imap_unordered(abort_at_seven, 0..20).filter(Result::is_err).count(), 1);
}

#[test]
fn a_maps_handle_can_be_waited_for_and_asked() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let handle = pool.options().chunk_size(1).map_async(wait_at, (0..3).map(|_| gate.path())).unwrap();
    assert!(!handle.wait_timeout(Duration::from_millis(1)) && !handle.is_ready());
    gate.open();
    handle.wait();
    assert!(handle.wait_timeout(Duration::ZERO) && handle.is_ready());
    assert_eq!(handle.get().unwrap(), [1; 3]);
}

#[test]
fn cancelling_a_map_ends_the_chunks_that_nobody_has_begun() {
    let story = Story::begin();
    let (pool, gate) = (story.pool(1), Gate::closed());
    let handle = pool.options().chunk_size(2).map_async(wait_at, (0..20).map(|_| gate.path())).unwrap();
    eventually("the first chunk runs", || pool.stats().running == 1);
    assert_eq!(handle.cancel(), 18);
    gate.open();
    let (begun, cancelled): (Vec<_>, Vec<_>) = handle.get_each().into_iter().partition(Result::is_ok);
    assert_eq!((begun.len(), cancelled.len()), (2, 18));
    assert!(cancelled.iter().all(|end| matches!(end, Err(Error::Cancelled))));
}

#[test]
fn an_endless_iterator_is_read_only_so_far_ahead() {
    let story = Story::begin();
    let pool = story.pool(2);
    for (chunk, buffer) in [(1, 5), (4, 20), (10, 1)] {
        let read = Cell::new(0);
        let numbers = (0..).inspect(|_| read.set(read.get() + 1));
        let limited = pool.options().chunk_size(chunk).buffer_size(buffer);
        let ahead = buffer.max(chunk);
        let mut results = limited.imap(square, numbers);
        for x in 0..100 {
            assert_eq!(results.next().unwrap().unwrap(), square(x));
            let taken = x as usize + 1;
            assert!(read.get() <= taken + ahead + chunk, "{} were read for {taken}", read.get());
        }
    }
}

#[test]
fn an_endless_iterator_can_be_taken_from_in_any_order() {
    let story = Story::begin();
    let pool = story.pool(2);
    let read = Cell::new(0_u64);
    let numbers = (0..).inspect(|_| read.set(read.get() + 1));
    let mut first: Vec<u64> = pool
        .options()
        .buffer_size(8)
        .imap_unordered(|x: u64| x, numbers)
        .take(100)
        .collect::<Result<_, _>>()
        .unwrap();
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), 100);
    assert!(*first.last().unwrap() < 108 && read.get() <= 108);
}

#[test]
fn what_is_ready_first_comes_first_where_order_does_not_matter() {
    let story = Story::begin();
    let pool = story.pool(2);
    let gate = Gate::closed();
    let items = (0..10).map(|x| (x == 0).then(|| gate.path()));
    let mut results = pool.imap_unordered(|gate: Option<String>| gate.map(wait_at), items);
    for _ in 0..9 {
        assert_eq!(results.next().unwrap().unwrap(), None);
    }
    gate.open();
    assert_eq!(results.next().unwrap().unwrap(), Some(1));
    assert!(results.next().is_none());
}

#[test]
fn an_iterator_ends_with_an_error_where_the_pool_takes_no_more() {
    let story = Story::begin();
    for ordered in [true, false] {
        let pool = story.pool(1);
        let options = pool.options().buffer_size(3);
        let each: Vec<_> = {
            let close = |x: &u64| {
                if *x == 10 {
                    pool.close()
                }
            };
            let items = (0..).inspect(close);
            if ordered {
                options.imap(square, items).collect()
            } else {
                options.imap_unordered(square, items).collect()
            }
        };
        let (last, others) = each.split_last().unwrap();
        assert!(matches!(last, Err(Error::Closed)));
        assert_eq!((others.len(), others.iter().all(Result::is_ok)), (10, true));
    }
}

#[test]
fn a_terminated_pool_ends_its_iterators() {
    let story = Story::begin();
    let pool = story.pool(2);
    let mut ordered = pool.imap(sleep, [0, 60_000, 60_000]);
    assert_eq!(ordered.next().unwrap().unwrap(), 0);
    let mut unordered = pool.imap_unordered(sleep, [60_000, 60_000]);
    pool.terminate();
    assert!(ordered.all(|end| matches!(end, Err(Error::Terminated))));
    assert!(unordered.all(|end| matches!(end, Err(Error::Terminated))));
    assert!(unordered.next().is_none());
}

#[test]
fn limits_of_a_map_are_those_of_its_chunks() {
    let story = Story::begin();
    let pool = story.pool(2);
    let limited = pool.options().chunk_size(1).timeout(Duration::from_secs(1));
    let each = limited.map_async(sleep, [0, 60_000, 0]).unwrap().get_each();
    assert!(matches!(each[..], [Ok(0), Err(Error::TimedOut { .. }), Ok(0)]), "{each:?}");
}

#[test]
fn items_may_come_from_the_pool_itself() {
    let story = Story::begin();
    let pool = story.pool(2);
    let items = (0..20).map(|x| pool.apply(square, x).unwrap());
    let expected: Vec<u64> = (0..20).map(|x| square(square(x))).collect();
    assert_eq!(pool.map(square, items).unwrap(), expected);
    let chained = pool.imap(square, pool.imap(square, 0..20).map(Result::unwrap));
    assert_eq!(chained.collect::<Result<Vec<_>, _>>().unwrap(), expected);
}

#[test]
fn large_items_and_results_are_mapped_as_well() {
    let story = Story::begin();
    let pool = story.pool(2);
    let reverse = |mut bytes: Vec<u8>| {
        bytes.reverse();
        bytes
    };
    let make = |x: usize| (0..x * 997).map(|byte| (byte % 251) as u8).collect::<Vec<u8>>();
    let expected: Vec<Vec<u8>> = (0..60).map(make).map(reverse).collect();
    assert_eq!(pool.map(reverse, (0..60).map(make)).unwrap(), expected);
    assert_eq!(pool.imap(reverse, (0..60).map(make)).collect::<Result<Vec<_>, _>>().unwrap(), expected);
}

#[test]
fn many_threads_map_at_once() {
    let story = Story::begin();
    let pool = story.pool(2);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(pool.map(square, 0..1000).unwrap(), squares(1000)));
            scope.spawn(|| assert_eq!(pool.imap(square, 0..100).map(Result::unwrap).sum::<u64>(), 328_350));
            scope.spawn(|| {
                assert_eq!(pool.imap_unordered(square, 0..100).map(Result::unwrap).sum::<u64>(), 328_350)
            });
        }
    });
}

#[test]
fn a_map_that_is_dropped_runs_all_the_same() {
    let story = Story::begin();
    let pool = story.pool(2);
    drop(pool.map_async(square, 0..100).unwrap());
    eventually("all chunks have run", || pool.stats().done == 32);
}

#[test]
fn retries_are_for_chunks_as_well() {
    /// Dies the first time.
    fn die_once(path: String) -> bool {
        let first = std::fs::File::options().write(true).create_new(true).open(&path).is_ok();
        if first { std::process::abort() } else { true }
    }
    let story = Story::begin();
    let pool = story.pool(2);
    let folder = tempfile::tempdir().unwrap();
    let paths = (0..6).map(|x| folder.path().join(x.to_string()).display().to_string());
    let survived = pool.options().chunk_size(2).retries(2).map(die_once, paths).unwrap();
    assert_eq!(survived, [true; 6]);
    assert_eq!(pool.stats().retries, 6);
}

#[test]
fn the_initial_number_of_workers_decides_the_default_chunks() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1));
    pool.map(square, 0..100).unwrap();
    assert_eq!(pool.stats().accepted, 17);
}
