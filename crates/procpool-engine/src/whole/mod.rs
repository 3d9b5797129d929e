//! Models of the whole engine for shuttle: callers, supervisor, collector and workers as they are, in short stories in
//! which workers vanish, with a scheduler that chooses who takes the next step.
//!
//! `make shuttle`, or `RUSTFLAGS="--cfg shuttle" cargo test --release -p procpool-engine --lib whole`. Each story is told
//! `SHUTTLE_ROUNDS` times (200 unless told otherwise) with steps chosen at random, and as often with priorities that change
//! at a few points. They are the same ones each time, unless `SHUTTLE_RANDOM_SEED` says otherwise; where a random one fails,
//! its seed is printed, and with that seed it is the first.
//!
//! Real are: all of `pool`, `submit`, `task`, `settle`, `supervisor`, `limits`, `attempts`, `crew`, `policy`, `collect`,
//! `worker`, and the structures below them; region and arena in pages of a real `memfd`, which each worker maps for itself;
//! eventfds and the look at them. Levels of the queue begin at one cell here, so that it grows, and the region is small.
//!
//! Stood in for are:
//! - processes, by threads, in [`world`]: killed at any step or in any sleep, with nothing done after it; of a worker's
//!   death its launcher in [`house`] tells, as the zygote does. There are no pidfds, so nobody else tells;
//! - the futex, without time-outs: a wake-up that is lost is a deadlock, which shuttle reports;
//! - time, which passes only where somebody waits for a near deadline. The looks once a second, which mend what was lost,
//!   never come, but in the stories about them. Who looks again and again for nothing runs out of steps;
//! - the order in which stores are seen, as of x86, in [`memory`]. What weaker processors do besides, and bytes that two
//!   touch at once, is for the models of loom, which walk through all orders where these walk through many;
//! - the host's functions, in [`house`].
//!
//! What must hold in every story: each task ends once, with the right value or for a reason that the story has; it runs
//! at most once, or as often as it may be tried; nobody sleeps for ever; in the end no slot and no extent is in use, and
//! no audit has found anything to mend.
//!
//! Broken once, and seen: the supervisor looks on for the time limit of a task that is doomed already (a story runs out of
//! steps); the audit reads the queue's head twice, and takes one that moved for rubbish (a repair); nobody is woken after
//! a death; a kept argument is given back before its task has ended, or not taken back from the dead.
//!
//! Not here: a region that is full, workers that cannot be started, zygotes that die, and the death of the parent.

mod house;
pub(crate) mod memory;
mod stories;
pub(crate) mod world;

use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{FailurePersistence, MaxSteps, Runner};

const SEED: u64 = 7;

/// How many changes of priority there are in a run.
const CHANGES: usize = 4;

/// No story takes a tenth of so many steps, unless somebody looks again and again for what does not come.
const STEPS: usize = 200_000;

/// Tells a story many times.
fn check(story: impl Fn() + Send + Sync + 'static) {
    let rounds = std::env::var("SHUTTLE_ROUNDS").map_or(200, |rounds| rounds.parse().unwrap());
    let story = Arc::new(story);
    run(RandomScheduler::new_from_seed(SEED, rounds), story.clone());
    run(PctScheduler::new_from_seed(SEED, CHANGES, rounds), story);
}

fn run(scheduler: impl Scheduler + 'static, story: Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = shuttle::Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.failure_persistence = FailurePersistence::None;
    Runner::new(scheduler, config).run(move || {
        world::begin();
        story();
    });
}
