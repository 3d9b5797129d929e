//! What the supervisor decides, as pure functions and plain records: no process, no clock, no shared memory.

use std::collections::VecDeque;
use std::time::Duration;

use crate::outcome::{Failure, TimeLimit};
use crate::region::Phase;
use crate::sync::Instant;

/// How many deaths are borne: more than `deaths` workers dead within `within`, none of them for a task's sake and
/// with no task finished between them, and the pool gives up instead of starting workers for ever.
///
/// The death of a worker that was running a task does not count, for it has ended that task: queued work cannot
/// feed it for ever. After Erlang's supervisors, which have the same two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartIntensity {
    /// How many deaths.
    pub deaths: usize,
    /// Within how long.
    pub within: Duration,
}

impl RestartIntensity {
    /// Sixteen deaths in ten seconds, or four for each worker where that is more: all workers of a pool may be
    /// killed at once.
    pub fn for_workers(workers: usize) -> Self {
        Self { deaths: workers.saturating_mul(4).max(16), within: Duration::from_secs(10) }
    }
}

/// The deaths that count against the intensity.
#[derive(Debug, Default)]
pub(crate) struct Obituaries {
    recent: VecDeque<Instant>,
    finished: u64,
}

impl Obituaries {
    /// Notes a death without a task at `now`, when the pool had `finished` tasks behind it. True when that was one
    /// too many.
    pub(crate) fn note(&mut self, now: Instant, finished: u64, limit: RestartIntensity) -> bool {
        if finished != self.finished {
            self.recent.clear();
            self.finished = finished;
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|&first| now.duration_since(first) > limit.within) {
            self.recent.pop_front();
        }
        self.recent.len() > limit.deaths
    }

    /// How long to wait before the next worker.
    pub(crate) fn back_off(&self) -> Duration {
        back_off(self.recent.len())
    }

    pub(crate) fn count(&self) -> usize {
        self.recent.len()
    }
}

/// How many launches may fail one after another in a pool without workers before it gives up: it has tried for more than
/// a second by then. Where there are workers it goes on trying, and they with their tasks.
pub(crate) const FAILED_LAUNCHES: usize = 16;

/// How long to wait after so many failures: not at all after the first, then 1 ms, doubled each time up to 128 ms.
pub(crate) fn back_off(failures: usize) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        _ => Duration::from_millis(1 << (failures - 2).min(7)),
    }
}

/// How many workers there should be: in a closed pool no more than tasks that are not finished.
pub(crate) fn staff(phase: Phase, target: usize, unfinished: usize) -> usize {
    match phase {
        Phase::Running => target,
        Phase::Closed => target.min(unfinished),
        Phase::Stopped => 0,
    }
}

/// Whether a task that failed so is tried again. Only after its worker's death or a time-out: what a function
/// reports by itself, and what the user asked for, is final. So is a deadline: another attempt would come after it.
pub(crate) fn tries_again(failure: &Failure, retries_left: u32) -> bool {
    let was_unlucky =
        matches!(failure, Failure::Died { .. } | Failure::TimedOut { limit: TimeLimit::Timeout(_), .. });
    retries_left > 0 && was_unlucky
}

/// Whether a task that failed so is never tried again.
pub(crate) fn is_final(failure: &Failure) -> bool {
    !tries_again(failure, 1)
}

/// How long a task waits before its next attempt, after so many that failed: not at all after the first, then 10 ms,
/// doubled each time up to 1.28 s. A task that kills whoever runs it costs the pool a worker at each attempt.
pub(crate) fn pause_before_attempt(failed: u32) -> Duration {
    match failed {
        0 | 1 => Duration::ZERO,
        _ => Duration::from_millis(10 << (failed - 2).min(7)),
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
