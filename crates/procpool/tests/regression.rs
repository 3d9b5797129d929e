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
