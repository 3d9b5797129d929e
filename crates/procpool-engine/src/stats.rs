//! What a pool does at this moment.

use std::time::Duration;

use crate::os::{clock, process};
use crate::pool::Pool;
use crate::seat::Status;
use crate::slot::State;
use crate::sync::{Ordering, lock};
use crate::wake::SEATS;

/// A pool's numbers: each true at some instant of the call, not all at the same one. A worker counts a task just after it
/// has told of its end: for that moment it still is the worker's present task, and not among those done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks accepted since the pool began.
    pub accepted: u64,
    /// Tasks that wait for a worker.
    pub queued: usize,
    /// Tasks that workers run.
    pub running: usize,
    /// Tasks that ended with a value.
    pub done: u64,
    /// Tasks that ended otherwise: with the host's account of an error, or without a reply.
    pub failed: u64,
    /// Workers started in the place of others.
    pub restarts: u64,
    /// Attempts at tasks after the first.
    pub retries: u64,
    /// Things in shared memory that could not be and were set right: 0 unless a worker writes where it must not.
    pub repairs: u64,
    /// Extents of the arena that hold payloads.
    pub extents: usize,
    /// The workers that have attached, by seat.
    pub workers: Vec<WorkerStats>,
}

/// One worker's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its place in the pool: from 0, kept by its successors.
    pub seat: u32,
    /// Its process.
    pub pid: u32,
    /// How many tasks this process has ended.
    pub tasks: u64,
    /// How long its present task has run; `None` where it has none. As fine as the kernel's tick.
    pub age: Option<Duration>,
    /// Its own memory in bytes, shared memory not counted; `None` where `/proc` does not say.
    pub memory: Option<u64>,
}

impl Pool {
    /// What the pool does now. Looks at every task that has not been taken: not for a busy loop. In a fork of the process
    /// that made the pool all of it is zero.
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        if shared.is_forked() {
            return Stats::default();
        }
        let counters = &shared.counters;
        let live = {
            let books = lock(&shared.books);
            (books.live(), books.accepted())
        };
        let states = live.0.iter().filter_map(|&(slot, _)| shared.region.slot(slot)?.word.read().state());
        let (mut queued, mut running) = (0, 0);
        states.for_each(|state| match state {
            State::Ready => queued += 1,
            State::Claimed | State::Doomed => running += 1,
            _ => {}
        });
        let seats = || (0..SEATS as u32).filter_map(|seat| shared.region.seat(seat));
        let raised = seats().map(|seat| seat.raised.load(Ordering::Relaxed));
        let raised = raised.fold(counters.raised_by_dead.load(Ordering::Relaxed), u64::wrapping_add);
        let finished = shared.finished(0..SEATS as u32);
        Stats {
            accepted: live.1,
            queued,
            running,
            done: finished.saturating_sub(raised),
            failed: counters.failed.load(Ordering::Relaxed).saturating_add(raised),
            restarts: counters.restarts.load(Ordering::Relaxed),
            retries: counters.retries.load(Ordering::Relaxed),
            repairs: counters.repairs.load(Ordering::Relaxed),
            extents: shared.region.small().in_use() + shared.region.large().in_use(),
            workers: (0..SEATS as u32).filter_map(|seat| self.worker_stats(seat)).collect(),
        }
    }

    fn worker_stats(&self, seat: u32) -> Option<WorkerStats> {
        let words = self.shared().region.seat(seat)?;
        let pid = *lock(&self.shared().pids).get(&seat)?;
        if words.status() == Status::Absent {
            return None;
        }
        Some(WorkerStats {
            seat,
            pid,
            tasks: words.finished.load(Ordering::Relaxed),
            age: words.current().and(words.began()).map(clock::since),
            memory: process::resident_bytes(pid),
        })
    }
}
