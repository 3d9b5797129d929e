//! Workers beyond the CPUs, which short tasks do better without.
//!
//! A wake-up costs as much as many short tasks, and one worker more than there are CPUs only takes the core of one that
//! works. Long tasks may do nothing but wait, and then want every worker at once. So workers measure: each notes how long
//! tasks take while it goes from one to the next without a rest. Where they are short, a worker that is woken although as
//! many are awake as there are CPUs holds back at first, and naps while the others take the tasks. It is not for long,
//! since the measure may be of yesterday: a backlog that lasts gets one worker more every half a millisecond.

use std::time::Duration;

use crate::queue::Queue;
use crate::sync::{Instant, thread};
use crate::wake::Idlers;

/// What takes less is short: about what the cheaper wake-ups cost.
const SHORT: Duration = Duration::from_micros(20);

/// Tasks between two readings of the clock.
const STRETCH: u32 = 64;

const FIRST_NAP: Duration = Duration::from_micros(50);
const LAST_NAP: Duration = Duration::from_micros(200);

/// A worker's tasks since it last had none.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    tasks: u32,
    began: Option<Instant>,
}

impl Stretch {
    /// The worker has no task, or had none before this one.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// The worker takes one task after another. Whether these are short, now and then.
    pub(crate) fn go_on(&mut self) -> Option<bool> {
        self.tasks += 1;
        if self.tasks < STRETCH {
            return None;
        }
        let began = std::mem::take(self).began;
        let now = Instant::now();
        self.began = Some(now);
        began.map(|began| now - began < SHORT * STRETCH)
    }
}

/// A worker that holds back.
#[derive(Debug)]
pub(crate) struct Reserve {
    /// The queue's head at the last look.
    head: u64,
    /// How long the last nap was: each is twice as long as the one before.
    napped: Duration,
}

impl Reserve {
    /// Of a worker that was woken; none where it is needed at once.
    pub(crate) fn of(idlers: &Idlers, queue: &Queue<'_>) -> Option<Self> {
        let holds_back = idlers.are_tasks_short() && idlers.are_enough();
        holds_back.then(|| Self { head: queue.head(), napped: Duration::ZERO })
    }

    /// Whether the others, who are still enough, have taken short tasks since the last look, and left some. Otherwise this
    /// worker is needed, or may sleep.
    pub(crate) fn is_spared(&mut self, idlers: &Idlers, queue: &Queue<'_>) -> bool {
        let head = queue.head();
        let taken = head.saturating_sub(std::mem::replace(&mut self.head, head));
        // Fewer than one worker takes of short ones.
        if SHORT.saturating_mul(taken.try_into().unwrap_or(u32::MAX)) < self.napped {
            idlers.note_tasks(false);
            return false;
        }
        self.napped < LAST_NAP && !queue.is_empty() && idlers.are_enough()
    }

    pub(crate) fn nap(&mut self) {
        self.napped = (self.napped * 2).max(FIRST_NAP);
        thread::sleep(self.napped);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn only_tasks_without_a_rest_are_measured() {
        let mut stretch = Stretch::default();
        for _ in 0..10 * STRETCH {
            assert_eq!(stretch.go_on(), None);
            stretch.end();
        }
    }

    #[test]
    fn a_stretch_of_long_tasks_is_told_from_one_of_short_ones() {
        let mut stretch = Stretch::default();
        // The first reading of the clock is only the beginning.
        assert!((0..STRETCH).all(|_| stretch.go_on().is_none()));
        stretch.began = Instant::now().checked_sub(SHORT * STRETCH);
        let told: Vec<bool> = (0..STRETCH).filter_map(|_| stretch.go_on()).collect();
        assert_eq!(told, [false]);
        stretch.began = Instant::now().checked_add(Duration::from_secs(60));
        let told: Vec<bool> = (0..STRETCH).filter_map(|_| stretch.go_on()).collect();
        assert_eq!(told, [true]);
    }
}
