//! The adversary: at random instants it kills, stops and interrupts workers and zygotes, and takes away descriptors,
//! address space, memory and system calls.
//!
//! What it does to a process it does only to this program's own, and what it takes away for a while it gives back. All
//! of it is noted in the log *before* it is done, so that whatever comes of it can be explained.

mod limits;
mod log;
pub(crate) mod memory;
pub(crate) mod refusal;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) use log::{Deed, Log, PoolEnd, Whom};
pub(crate) use refusal::Refusal;

use crate::load::{NumberedPool, Pools};
use crate::processes;
pub(crate) use limits::ADDRESS_SPACE;
use limits::Limit;
use memory::Cage;

/// Who disturbs the pools of one run.
pub(crate) struct Adversary<'p, 'l> {
    pools: &'p Pools<'l>,
    log: &'p Log,
    rng: fastrand::Rng,
    /// What has to be made good, and when.
    debts: Vec<(Instant, Debt)>,
    cage: Option<Cage>,
    /// A system call that is refused from a random instant on, and when.
    refusal: Option<(Instant, Refusal)>,
}

/// What was taken away for a while.
enum Debt {
    Continue { pid: u32, whom: Whom },
    Limit(Limit),
    Memory,
}

impl<'p, 'l> Adversary<'p, 'l> {
    pub(crate) fn new(
        pools: &'p Pools<'l>,
        rng: fastrand::Rng,
        cage: Option<Cage>,
        refusal: Option<(Instant, Refusal)>,
    ) -> Self {
        Self { pools, log: pools.log, rng, debts: Vec::new(), cage, refusal }
    }

    /// Acts until `over`, and then makes good what is to be made good.
    pub(crate) fn rage(mut self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_micros(self.rng.u64(200..40_000)));
            self.pay_debts(Some(Instant::now()));
            self.refuse();
            self.act();
        }
        self.pay_debts(None);
    }

    fn act(&mut self) {
        let pools = self.pools.all();
        let Some(pool) = self.rng.choice(&pools) else { return };
        match self.rng.u8(..100) {
            0..66 => self.hit_worker(pool),
            66..78 => self.hit_zygote(pool),
            78..82 => self.massacre(pool),
            82..85 => {
                self.kill_zygotes(pool);
                self.hit_worker(pool);
            }
            85..90 => {
                let limit = Limit::of_this_process(&mut self.rng);
                self.lower(limit);
            }
            90..94 => {
                let zygote = zygotes_of(pool.number).into_iter().next();
                let limit = zygote.and_then(|pid| Limit::of_zygote(&mut self.rng, pid, pool.number));
                self.lower(limit);
            }
            94..97 => self.squeeze(),
            _ => {}
        }
    }

    // ---- signals ----

    fn hit_worker(&mut self, pool: &NumberedPool<'_>) {
        let workers = pool.stats().workers;
        let Some(worker) = self.rng.choice(&workers) else { return };
        self.hit(worker.pid, Whom::Worker(pool.number));
    }

    fn hit_zygote(&mut self, pool: &NumberedPool<'_>) {
        for pid in zygotes_of(pool.number) {
            self.hit(pid, Whom::Zygote(pool.number));
        }
    }

    fn kill_zygotes(&self, pool: &NumberedPool<'_>) {
        for pid in zygotes_of(pool.number) {
            self.signal(pid, libc::SIGKILL, Whom::Zygote(pool.number));
        }
    }

    /// All workers of a pool at once.
    fn massacre(&self, pool: &NumberedPool<'_>) {
        for worker in pool.stats().workers {
            self.signal(worker.pid, libc::SIGKILL, Whom::Worker(pool.number));
        }
    }

    fn hit(&mut self, pid: u32, whom: Whom) {
        match self.rng.u8(..20) {
            0..8 => self.signal(pid, libc::SIGKILL, whom),
            8..11 => self.signal(pid, libc::SIGSEGV, whom),
            11..14 => self.signal(pid, libc::SIGTERM, whom),
            14..16 => self.signal(pid, libc::SIGINT, whom),
            _ => {
                self.signal(pid, libc::SIGSTOP, whom);
                // Mostly short; sometimes long enough for every patience but the longest.
                let longest = self.rng.choice([5, 50, 400, 1500]).unwrap_or(5);
                let until = Instant::now() + Duration::from_millis(self.rng.u64(..longest));
                self.debts.push((until, Debt::Continue { pid, whom }));
            }
        }
    }

    fn signal(&self, pid: u32, signal: i32, whom: Whom) {
        if !is_ours(pid) {
            return;
        }
        self.log.note(Deed::Signal { pid, signal, whom });
        processes::signal(pid, signal);
    }

    // ---- what is taken away ----

    fn lower(&mut self, limit: Option<Limit>) {
        let Some(limit) = limit else { return };
        // What is low already would be restored to that.
        if self.debts.iter().any(|(_, debt)| matches!(debt, Debt::Limit(low) if low.is_same(&limit))) {
            return;
        }
        self.log.note(limit.deed());
        limit.lower();
        let until = Instant::now() + Duration::from_millis(self.rng.u64(5..400));
        self.debts.push((until, Debt::Limit(limit)));
    }

    fn squeeze(&mut self) {
        let Some(cage) = &self.cage else { return };
        let bytes = Cage::narrower(&mut self.rng);
        self.log.note(Deed::Memory { bytes });
        cage.limit(bytes);
        self.debts.push((Instant::now() + Duration::from_millis(self.rng.u64(20..500)), Debt::Memory));
    }

    fn refuse(&mut self) {
        if self.refusal.as_ref().is_some_and(|&(at, _)| at <= Instant::now())
            && let Some((_, refusal)) = self.refusal.take()
        {
            self.log.note(Deed::Refuse(refusal));
            refusal.in_all_threads();
        }
    }

    /// Those that are due, or all.
    fn pay_debts(&mut self, now: Option<Instant>) {
        let due = self.debts.extract_if(.., |(at, _)| now.is_none_or(|now| *at <= now));
        for (_, debt) in due.collect::<Vec<_>>() {
            match debt {
                Debt::Continue { pid, whom } => self.signal(pid, libc::SIGCONT, whom),
                Debt::Limit(limit) => {
                    limit.restore();
                    self.log.note(Deed::Restored);
                }
                Debt::Memory => {
                    self.cage.iter().for_each(Cage::widen);
                    self.log.note(Deed::Restored);
                }
            }
        }
    }
}

/// Whether a process is of this one's group, as all are that it has started; dead ones are not.
fn is_ours(pid: u32) -> bool {
    // SAFETY: `getpgid` has no precondition.
    unsafe { libc::getpgid(pid.cast_signed()) == libc::getpgid(0) }
}

/// The zygotes of a pool: two for a moment, when one replaces another. None where descriptors are short.
fn zygotes_of(pool: u32) -> Vec<u32> {
    let number = format!("{}={pool}", crate::load::NUMBER);
    let is_its = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == number.as_bytes())
    };
    children().into_iter().filter(is_its).collect()
}

fn children() -> Vec<u32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let pids = lists.flat_map(|list| list.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
    pids.filter_map(|pid| pid.parse().ok()).collect()
}
