//! Workers beyond the CPUs, as long as the others do without them.
//!
//! A wake-up costs as much as many short tasks, and one worker more than there are CPUs only takes the core of one that
//! works. But whether a worker works or waits for something in its task can only be seen by what it does. So a worker
//! that is woken although as many as there are CPUs are awake lets the others go first: while they take tasks it naps,
//! longer each time. Once they took none during a nap, tasks are long, and it takes one itself.

use std::time::Duration;

use crate::queue::Queue;
use crate::sync::thread;
use crate::wake::Idlers;

const SHORTEST: Duration = Duration::from_micros(50);

/// What the others may cost by all being held up at once in tasks that were short until then.
const LONGEST: Duration = Duration::from_micros(400);

/// A worker that holds back.
#[derive(Debug)]
pub(crate) struct Reserve {
    /// The queue's head at the last look.
    head: u64,
    nap: Duration,
}

impl Reserve {
    /// Of a worker that was woken. Lets those run who wait for its core, whom the wake-up may have interrupted.
    pub(crate) fn begin(queue: &Queue<'_>) -> Self {
        let head = queue.head();
        thread::yield_now();
        Self { head, nap: SHORTEST }
    }

    /// Whether the others, who are still enough, took tasks since the last look, and left some. Otherwise this worker
    /// is needed, or may sleep.
    pub(crate) fn is_spared(&mut self, idlers: &Idlers, queue: &Queue<'_>) -> bool {
        let head = queue.head();
        std::mem::replace(&mut self.head, head) != head && !queue.is_empty() && idlers.are_enough()
    }

    pub(crate) fn nap(&mut self) {
        thread::sleep(self.nap);
        self.nap = (self.nap * 2).min(LONGEST);
    }
}
