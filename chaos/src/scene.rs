//! One run in a process of its own: load, adversary, and at the end the verdict.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::adversary::memory::Cage;
use crate::adversary::{Adversary, Log, Refusal};
use crate::inventory::Inventory;
use crate::ledger::Ledger;
use crate::load::{self, Pools};
use crate::verdict::{self, Verdict};
use crate::watchdog::Watchdog;

/// What begins the line of numbers at the end.
pub(crate) const TALLY: &str = "tally: ";

/// How long after its end a run may take until all has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many violations are printed.
const PRINTED: usize = 20;

/// What happens in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    /// What the kernel refuses, and whether from the beginning on or from a random instant.
    pub(crate) refusal: Option<(Refusal, When)>,
}

/// From when on the kernel refuses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Later,
}

impl Scene {
    /// Plays it in this process; prints what came of it.
    pub(crate) fn play(self) -> ExitCode {
        die_with_parent();
        let cage = Cage::inherited();
        let (ledger, log) = (Ledger::open(), Log::begin());
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let before = Inventory::take();
        let memory = private_memory();
        if let Some((refusal, When::Always)) = self.refusal {
            log.note(crate::adversary::Deed::Refuse(refusal));
            refusal.here();
        }
        let faults = self.act(&ledger, &log, cage, &mut rng);
        let Verdict { mut tally, mut violations } = verdict::judge(&ledger, &log);
        violations.extend(faults);
        violations.extend(left_behind(&before));
        violations.extend(memory_kept(memory, tally.get("tasks")));
        tally.add("violations", violations.len() as u64);
        self.report(&violations, &log);
        println!("{TALLY}{tally}");
        if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Everything that happens while there are pools.
    fn act(self, ledger: &Ledger, log: &Log, cage: Option<Cage>, rng: &mut fastrand::Rng) -> Vec<String> {
        let span = Duration::from_secs_f64(self.seconds);
        let pools = Pools::new(ledger, log);
        let (calm, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let gorge = cage.is_some();
        let refusal = self.refusal.filter(|&(_, when)| when == When::Later);
        let refusal = refusal.map(|(what, _)| (Instant::now() + span.mul_f64(rng.f64() / 2.0), what));
        if matches!(self.refusal, Some((Refusal::Thread, When::Always))) {
            return without_threads(&pools, rng);
        }
        std::thread::scope(|scope| {
            let _watchdog = Watchdog::start(scope, span + PATIENCE, &pools);
            pools.fill(rng);
            let callers = rng.fork();
            std::thread::scope(|scope| {
                let adversary = Adversary::new(&pools, rng.fork(), cage, refusal);
                let adversary = scope.spawn(|| adversary.rage(&calm));
                load::start(scope, &pools, callers, gorge, &over);
                std::thread::sleep(span);
                calm.store(true, Ordering::Relaxed);
                let _ = adversary.join();
                over.store(true, Ordering::Relaxed);
            });
            pools.finish(rng);
        });
        pools.take_faults()
    }

    fn report(self, violations: &[String], log: &Log) {
        for violation in violations.iter().take(PRINTED) {
            println!("violation: {violation}");
        }
        if violations.len() > PRINTED {
            println!("and {} more violations", violations.len() - PRINTED);
        }
        if !violations.is_empty() {
            println!("what the adversary did last:\n{}", log.tail(60, None));
        }
    }
}

/// Where no thread can be had there is no caller either: this one must be told so by every pool.
fn without_threads(pools: &Pools<'_>, rng: &mut fastrand::Rng) -> Vec<String> {
    (0..10).for_each(|_| pools.fill(rng));
    pools.take_faults()
}

/// Ends this process with the one that started it, which then cannot clean up.
fn die_with_parent() {
    // SAFETY: these options take numbers; the parent has one thread, which started this process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// What there is now and was not before. Files of other programs come and go meanwhile.
fn left_behind(before: &Inventory) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE / 2;
    loop {
        let new = before.new_since().into_iter().filter(|line| !line.starts_with('/'));
        let new: Vec<String> = new.map(|line| format!("left behind: {line}")).collect();
        if new.is_empty() || Instant::now() > deadline {
            return new;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// This process's own memory, in bytes.
fn private_memory() -> u64 {
    // SAFETY: it gives memory that is free back to the system.
    unsafe { libc::malloc_trim(0) };
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}

/// The books themselves need memory, and an allocator keeps some for later.
fn memory_kept(before: u64, tasks: u64) -> Option<String> {
    let after = private_memory();
    let allowed = before + (96 << 20) + tasks * 1024;
    (after > allowed)
        .then(|| format!("memory grew from {before} to {after} bytes, and {allowed} would be right"))
}
