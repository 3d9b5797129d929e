//! What the handles, the supervisor and the collector of one pool have in common, in the parent.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::block::{Allocator, Block};
use crate::collect::Collector;
use crate::extras::Extras;
use crate::os::poll;
use crate::outcome::{Breakdown, Failure, Refusal};
use crate::pool::Config;
use crate::region::{Phase, Region};
use crate::slot::Ticket;
use crate::spin::Spin;
use crate::submit::Books;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering, lock};
use crate::view::View;

/// One pool's state in the parent. The private books (*I4*) are here; what workers can write is in `region`.
///
/// Locks are taken in the order `books`, `extras`, `endings`, `rescued`, and none is held while a callback runs.
pub(crate) struct Shared {
    pub(crate) region: Arc<Region>,
    pub(crate) config: Config,
    /// How long a worker has between SIGTERM and SIGKILL.
    pub(crate) grace: Mutex<Duration>,
    /// The supervisor sleeps on it; workers poke it too.
    pub(crate) poke: OwnedFd,
    pub(crate) books: Mutex<Books>,
    /// Told when a slot becomes free while somebody waits for one.
    pub(crate) room: Condvar,
    pub(crate) allocator: Mutex<Allocator>,
    /// How many callers fill a block for a task that is not in the books yet.
    pub(crate) preparing: AtomicUsize,
    pub(crate) extras: Mutex<Extras>,
    /// Why tasks without a reply have none; written before the slot's word says so.
    pub(crate) endings: Mutex<HashMap<Ticket, Failure>>,
    /// Tasks whose reply was adopted when their worker died.
    pub(crate) rescued: Mutex<HashSet<Ticket>>,
    pub(crate) collector: Collector,
    pub(crate) requests: Mutex<Requests>,
    pub(crate) life: Mutex<Life>,
    pub(crate) life_changed: Condvar,
    /// How many seats were ever in use.
    pub(crate) seats: AtomicU32,
    pub(crate) counters: Counters,
    /// The processes in the seats.
    pub(crate) pids: Mutex<HashMap<u32, u32>>,
    /// What the supervisor does.
    pub(crate) view: Mutex<View>,
    /// Whether the supervisor looks at the tasks every second; it does while any is not finished.
    pub(crate) watched: AtomicBool,
    /// What every new worker reads in the region.
    pub(crate) setup: Setup,
    /// How long callers look at a slot before they sleep.
    pub(crate) spin: Spin,
}

/// Where the host's set-up data lies: a block that is never given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) block: Block,
    pub(crate) head: u64,
}

/// What others want of the supervisor.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// `resize` to so many.
    pub(crate) target: Option<usize>,
    /// Kill the workers of these tasks (slot, ticket), which were doomed.
    pub(crate) kills: Vec<(u32, Ticket)>,
    /// Kill the workers in these seats, which run tasks whose slots were written over.
    pub(crate) suspects: Vec<u32>,
}

/// Whether the supervisor still runs.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// All workers are dead, and every task has ended.
    pub(crate) settled: bool,
    /// And all listeners have been called.
    pub(crate) ended: bool,
    pub(crate) broken: Option<Arc<Breakdown>>,
}

/// What is counted for `stats`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Tasks ended by workers that are dead now.
    pub(crate) finished_by_dead: AtomicU64,
    /// Of these, with an error of the host's.
    pub(crate) raised_by_dead: AtomicU64,
    /// Tasks that ended without a reply.
    pub(crate) failed: AtomicU64,
    /// Workers started in the place of others.
    pub(crate) restarts: AtomicU64,
    /// Attempts after the first.
    pub(crate) retries: AtomicU64,
    /// Things in shared memory that could not be and were set right.
    pub(crate) repairs: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

impl Shared {
    /// A fork of the process that made the pool has no supervisor and no workers of its own.
    pub(crate) fn check_process(&self) -> Result<(), Refusal> {
        if self.is_forked() { Err(Refusal::Forked) } else { Ok(()) }
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.region.is_inherited()
    }

    /// How far the pool is in its life. Not what the region says: that is for workers, who might write it (*I4*).
    pub(crate) fn phase(&self) -> Phase {
        lock(&self.books).door.phase()
    }

    /// Writes all that workers keep to into the region: before the first worker, and whenever somebody may have
    /// written over it.
    pub(crate) fn restate(&self) {
        self.region.label();
        let (rules, config) = (&self.region.header().rules, &self.config);
        rules.tasks.store(config.tasks_per_worker.unwrap_or(0), Ordering::Relaxed);
        rules.memory.store(config.memory_soft.unwrap_or(0), Ordering::Relaxed);
        rules.spin.store((!self.spin.is_off()).into(), Ordering::Relaxed);
        rules.setup.store(self.setup.block.offset, Ordering::Relaxed);
        rules.setup_head.store(self.setup.head, Ordering::Relaxed);
        rules.setup_length.store(self.setup.block.length, Ordering::Relaxed);
        // Under the lock, as where it changes.
        let books = lock(&self.books);
        self.region.set_phase(books.door.phase());
    }

    /// The supervisor is to look at the tasks every second, as long as any is not finished.
    pub(crate) fn watch_again(&self) {
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::SeqCst) {
            self.poke();
        }
    }

    /// Makes the supervisor look.
    pub(crate) fn poke(&self) {
        poll::signal(self.poke.as_fd());
    }

    pub(crate) fn request(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut lock(&self.requests));
        self.poke();
    }
}
