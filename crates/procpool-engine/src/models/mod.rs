//! Models of the protocol for loom: the real code of `slot`, `queue`, `wake`, `ended` and `arena` in small casts of two
//! or three threads, walked through all orders of events and all values that a weak memory may show.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p procpool-engine --lib`. `LOOM_MAX_PREEMPTIONS` says how often a
//! thread may be interrupted where it need not be; 2 unless told otherwise. A futex has no time-out here, so whoever
//! sleeps through a wake-up is a deadlock, and loom says so.
//!
//! Each model begins with what would go wrong. Where it says "Broken once", the protocol was damaged in that way, and
//! this is what the model said.

mod loom_arena;
mod loom_ended;
mod loom_queue;
mod loom_slot;
mod loom_wake;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::faults::Point;

/// Walks through all orders of events in `model`.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.max_branches = builder.max_branches.max(10_000);
    builder.check(model);
}

loom::thread_local! {
    static VANISHES_AT: Cell<Option<Point>> = Cell::new(None);
}

struct Vanished;

/// Runs `worker` until it comes to `point`, where it vanishes as if by `SIGKILL`; `None` if it did. Who joins the thread
/// after that stands for the supervisor that hears of the death.
fn until<T>(point: Point, worker: impl FnOnce() -> T) -> Option<T> {
    VANISHES_AT.with(|at| at.set(Some(point)));
    let ended = catch_unwind(AssertUnwindSafe(worker));
    VANISHES_AT.with(|at| at.set(None));
    let rethrow =
        |other: Box<dyn Any + Send>| if other.is::<Vanished>() { None } else { resume_unwind(other) };
    ended.map_or_else(rethrow, Some)
}

/// What `faults::point` is in the models.
pub(crate) fn pass(point: Point) {
    if VANISHES_AT.with(Cell::get) == Some(point) {
        resume_unwind(Box::new(Vanished));
    }
}
