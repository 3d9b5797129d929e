//! What the ledger, the record of runs and the adversary's log say together: whether the promises were kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Instant;

use procpool::{Error, WorkerDeath};

use crate::adversary::{ADDRESS_SPACE, Deed, Log, PoolEnd, Whom};
use crate::ledger::{End, Entry, Ledger};
use crate::load::{Conduct, last_words};

/// What came of a run.
pub(crate) struct Verdict {
    /// Numbers by name.
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<String>,
}

/// Numbers by name; printed, read back and added up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<String, u64>);

/// All that is known of a run.
struct Evidence {
    entries: Vec<Entry>,
    runs: HashMap<u64, Vec<u32>>,
    deeds: Vec<(Instant, Deed)>,
    /// By process.
    signals: HashMap<u32, Vec<i32>>,
    /// How many signals the workers of each pool got.
    hits: HashMap<u32, usize>,
    /// The items of each chunk.
    chunks: HashMap<u64, Vec<u64>>,
    /// Pools whose zygote was hit or starved.
    troubled: HashSet<u32>,
    /// Pools of which some workers may have too little address space for their tasks.
    cramped: HashSet<u32>,
    ended: HashSet<u32>,
    /// This process was, at some time, out of something.
    starved: bool,
}

/// Looks at everything. Called when all callers have come back.
pub(crate) fn judge(ledger: &Ledger, log: &Log) -> Verdict {
    let evidence = Evidence::gather(ledger, log);
    let mut violations = Vec::new();
    let mut tally = Tally::default();
    for (id, entry) in (0..).zip(&evidence.entries) {
        tally.count(entry);
        if let Err(fault) = evidence.check(id, entry) {
            violations.push(evidence.describe(id, entry, &fault, log));
        }
    }
    for (_, deed) in &evidence.deeds {
        tally.count_deed(deed);
        if let Err(fault) = evidence.check_deed(deed) {
            violations.push(format!("{deed}: {fault}"));
        }
    }
    Verdict { tally, violations }
}

impl Evidence {
    fn gather(ledger: &Ledger, log: &Log) -> Self {
        let mut found = Self {
            entries: ledger.entries(),
            runs: ledger.runs(),
            deeds: log.deeds(),
            signals: HashMap::new(),
            hits: HashMap::new(),
            chunks: HashMap::new(),
            troubled: HashSet::new(),
            cramped: HashSet::new(),
            ended: HashSet::new(),
            starved: false,
        };
        for (id, entry) in (0..).zip(&found.entries) {
            found.chunks.entry(entry.chunk).or_default().push(id);
        }
        for (_, deed) in &found.deeds {
            match *deed {
                Deed::Signal { pid, signal, whom } => {
                    found.signals.entry(pid).or_default().push(signal);
                    match whom {
                        Whom::Worker(pool) => *found.hits.entry(pool).or_default() += 1,
                        Whom::Zygote(pool) => _ = found.troubled.insert(pool),
                    }
                }
                Deed::LimitOfZygote { pool, resource, .. } => {
                    found.troubled.insert(pool);
                    if resource == ADDRESS_SPACE {
                        found.cramped.insert(pool);
                    }
                }
                Deed::Limit { .. } | Deed::Refuse(_) => found.starved = true,
                Deed::End { pool, how: PoolEnd::Terminated | PoolEnd::Dropped } => {
                    found.ended.insert(pool);
                }
                _ => {}
            }
        }
        found
    }

    /// For the person who looks for the cause.
    fn describe(&self, id: u64, entry: &Entry, fault: &str, log: &Log) -> String {
        let (entered, runs) = (log.stamp(entry.entered), self.runs.get(&id));
        let ends: Vec<String> = entry.ends.iter().map(|(at, _)| log.stamp(*at)).collect();
        let deeds = log.tail(60, Some(entry.pool));
        format!(
            "task {id}, {entered} to {ends:?}: {fault}\n  {entry:?}\n  run by {runs:?}; its pool:\n{deeds}"
        )
    }

    fn check(&self, id: u64, entry: &Entry) -> Result<(), String> {
        let runs = self.runs.get(&id).map_or(0, Vec::len);
        if runs > entry.retries as usize + 1 {
            return Err(format!("it ran {runs} times, and was to be tried {} times", entry.retries + 1));
        }
        let [(_, end)] = entry.ends.as_slice() else {
            return Err(format!("it ended {} times", entry.ends.len()));
        };
        let success = matches!(end, End::Returned | End::Wrong(_));
        if entry.has_callbacks && entry.heard != [success] {
            return Err("its callbacks were told something else".to_owned());
        }
        match end {
            End::Returned => self.check_return(entry, runs),
            End::Wrong(fault) => Err(fault.clone()),
            End::Failed(error) => self.explain(id, entry, error),
            End::OneOf(errors) => {
                // Where the pool was closed before the last chunk, that is the last of the errors.
                let is_its_own =
                    |error: &Error| matches!(error, Error::Closed) || self.explain(id, entry, error).is_ok();
                let explained = errors.iter().any(is_its_own);
                if explained { Ok(()) } else { Err("none of these errors can be its own".to_owned()) }
            }
            End::Refused(error) => self.check_refusal(entry, runs, error),
            End::Abandoned => Ok(()),
        }
    }

    fn check_return(&self, entry: &Entry, runs: usize) -> Result<(), String> {
        if entry.cancelled {
            return Err("it was cancelled, and returned".to_owned());
        }
        if runs == 0 {
            return Err("it returned, and nobody ran it".to_owned());
        }
        match entry.conduct {
            Conduct::Work(_) => Ok(()),
            _ => Err("it cannot return".to_owned()),
        }
    }

    fn check_refusal(&self, entry: &Entry, runs: usize, error: &Error) -> Result<(), String> {
        // Of the many items of one call, some may have been taken before the pool ended.
        if runs > 0 && entry.call == "apply_async" {
            return Err("it was refused, and ran".to_owned());
        }
        match error {
            Error::Closed => Ok(()),
            error => self.explain_end_of_pool(entry.pool, error),
        }
    }

    /// Whether what the adversary did, or the task itself, explains how it failed.
    fn explain(&self, id: u64, entry: &Entry, error: &Error) -> Result<(), String> {
        match error {
            Error::Panicked { message, .. } => {
                let told = entry.conduct == Conduct::Panic && *message == last_words(id);
                told.then_some(()).ok_or_else(|| "nobody told it to panic so".to_owned())
            }
            Error::WorkerDied(death) => self.explain_death(entry, death),
            Error::TimedOut { ran, .. } => {
                let limit = entry.timeout.ok_or("it had no time limit")?;
                let waited = entry.ends.first().map(|(at, _)| at.duration_since(entry.entered));
                let over = ran.is_some_and(|ran| ran >= limit) && waited.is_none_or(|waited| waited >= limit);
                over.then_some(()).ok_or_else(|| "its time was not over".to_owned())
            }
            Error::Cancelled => entry.cancelled.then_some(()).ok_or_else(|| "nobody cancelled it".to_owned()),
            error => self.explain_end_of_pool(entry.pool, error),
        }
    }

    fn explain_death(&self, entry: &Entry, death: &WorkerDeath) -> Result<(), String> {
        if death.task.is_none() {
            return Err("the death names no task".to_owned());
        }
        let lethal = |signal: &i32| !matches!(*signal, libc::SIGSTOP | libc::SIGCONT | libc::SIGINT);
        let hits = self.signals.get(&death.pid).into_iter().flatten().filter(|signal| lethal(signal));
        let hits: Vec<i32> = hits.copied().collect();
        let unknown = death.signal.is_none() && death.code.is_none();
        let by_adversary = hits.iter().any(|&signal| unknown || death.signal == Some(signal));
        let mates = self.chunks.get(&entry.chunk).into_iter().flatten();
        let by_task = mates.into_iter().any(|mate| {
            let ran_there = self.runs.get(mate).is_some_and(|pids| pids.contains(&death.pid));
            let conduct = self.entries[*mate as usize].conduct;
            ran_there && (unknown && dies(conduct) || dies_so(conduct, death))
        });
        // So ends a Rust program that gets no memory.
        let cramped = self.cramped.contains(&entry.pool) && death.signal == Some(libc::SIGABRT);
        if by_adversary || by_task || cramped {
            Ok(())
        } else {
            Err("nobody killed its worker so".to_owned())
        }
    }

    fn explain_end_of_pool(&self, pool: u32, error: &Error) -> Result<(), String> {
        let troubled = self.starved || self.troubled.contains(&pool);
        let explained = match error {
            Error::Terminated => self.ended.contains(&pool),
            Error::NotStarted(_) => troubled,
            Error::TooManyDeaths { deaths, .. } => {
                troubled || self.hits.get(&pool).is_some_and(|hits| hits >= deaths)
            }
            Error::NoRoom { .. } => self.starved,
            _ => false,
        };
        explained.then_some(()).ok_or_else(|| format!("nothing explains it: {error}"))
    }

    fn check_deed(&self, deed: &Deed) -> Result<(), String> {
        match deed {
            Deed::NotMade { error: Error::System { .. }, .. } if self.starved => Ok(()),
            Deed::NotMade { .. } => Err("nothing stood in its way".to_owned()),
            Deed::GaveUp { pool, error } => self.explain_end_of_pool(*pool, error),
            _ => Ok(()),
        }
    }
}

fn dies(conduct: Conduct) -> bool {
    matches!(conduct, Conduct::Signal(_) | Conduct::Exit(_) | Conduct::Gorge)
}

fn dies_so(conduct: Conduct, death: &WorkerDeath) -> bool {
    match conduct {
        Conduct::Signal(signal) => death.signal == Some(signal),
        Conduct::Exit(code) => death.code == Some(code),
        Conduct::Gorge => death.signal == Some(libc::SIGKILL),
        Conduct::Work(_) | Conduct::Panic | Conduct::Oversleep => false,
    }
}

impl Tally {
    pub(crate) fn add(&mut self, name: impl Into<String>, count: u64) {
        *self.0.entry(name.into()).or_default() += count;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(name, count)| self.add(name, count));
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Reads back what was printed.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split_ascii_whitespace().filter_map(|pair| pair.split_once('='));
        Self(pairs.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect())
    }

    fn count(&mut self, entry: &Entry) {
        self.add("tasks", 1);
        let end = match entry.ends.first() {
            None => "unfinished",
            Some((_, End::Returned)) => "returned",
            Some((_, End::Wrong(_))) => "wrong",
            Some((_, End::Failed(error))) => kind(error),
            Some((_, End::OneOf(_))) => "one-of-several",
            Some((_, End::Refused(_))) => "refused",
            Some((_, End::Abandoned)) => "abandoned",
        };
        self.add(format!("end.{end}"), 1);
    }

    fn count_deed(&mut self, deed: &Deed) {
        match deed {
            Deed::Signal { signal, whom: Whom::Worker(_), .. } => {
                self.add(format!("worker.{}", name(*signal)), 1)
            }
            Deed::Signal { signal, whom: Whom::Zygote(_), .. } => {
                self.add(format!("zygote.{}", name(*signal)), 1)
            }
            Deed::Limit { .. } | Deed::LimitOfZygote { .. } => self.add("limits", 1),
            Deed::Memory { .. } => self.add("squeezes", 1),
            Deed::Make { .. } => self.add("pools", 1),
            Deed::NotMade { .. } => self.add("pools.not-made", 1),
            Deed::GaveUp { .. } => self.add("pools.gave-up", 1),
            Deed::Refuse(_) | Deed::Restored | Deed::End { .. } => {}
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(name, count)| format!("{name}={count}")).collect();
        f.write_str(&pairs.join(" "))
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Panicked { .. } => "panicked",
        Error::WorkerDied(death) if death.signal.is_none() && death.code.is_none() => "died-of-unknown",
        Error::WorkerDied(_) => "died",
        Error::TimedOut { .. } => "timed-out",
        Error::Cancelled => "cancelled",
        Error::Terminated => "terminated",
        Error::NotStarted(_) => "not-started",
        Error::TooManyDeaths { .. } => "too-many-deaths",
        Error::NoRoom { .. } => "no-room",
        _ => "other",
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSTOP => "SIGSTOP",
        libc::SIGCONT => "SIGCONT",
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        _ => "other",
    }
}
