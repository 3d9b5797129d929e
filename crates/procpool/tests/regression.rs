//! One test for each fault that was found in use, or by another test.

mod common;

use std::time::Duration;

use common::Story;
use procpool::Error;

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
