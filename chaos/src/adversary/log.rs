//! What the adversary did, and what was done to pools in the open: whatever fails must be explained by it.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use procpool::Error;

use super::Refusal;

/// All deeds of a run, in order.
pub(crate) struct Log {
    began: Instant,
    deeds: Mutex<Vec<(Instant, Deed)>>,
}

/// Something that was done.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Signal {
        pid: u32,
        signal: i32,
        whom: Whom,
    },
    /// A resource of this process was lowered.
    Limit {
        resource: &'static str,
        to: u64,
    },
    /// A resource of a zygote was lowered.
    LimitOfZygote {
        pool: u32,
        resource: &'static str,
        to: u64,
    },
    /// The cgroup's memory was lowered.
    Memory {
        bytes: u64,
    },
    /// Some resource is back to what it was.
    Restored,
    /// From here on the kernel refuses this.
    Refuse(Refusal),
    /// A pool is about to be made.
    Make {
        pool: u32,
    },
    NotMade {
        pool: u32,
        error: Error,
    },
    End {
        pool: u32,
        how: PoolEnd,
    },
    /// A pool said that it had given up.
    GaveUp {
        pool: u32,
        error: Error,
    },
}

/// Whose process it was, by the pool's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Worker(u32),
    Zygote(u32),
}

/// How a pool was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolEnd {
    Closed,
    Terminated,
    Dropped,
}

impl Log {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), deeds: Mutex::default() }
    }

    /// Notes what is about to be done.
    pub(crate) fn note(&self, deed: Deed) {
        let mut deeds = self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        deeds.push((Instant::now(), deed));
    }

    pub(crate) fn deeds(&self) -> Vec<(Instant, Deed)> {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last deeds, a line each: those that concern some pool, or all.
    pub(crate) fn tail(&self, lines: usize, about: Option<u32>) -> String {
        let concerns = |deed: &Deed| about.is_none() || deed.pool().is_none() || deed.pool() == about;
        let deeds: Vec<_> = self.deeds().into_iter().filter(|(_, deed)| concerns(deed)).collect();
        let tail = deeds.iter().skip(deeds.len().saturating_sub(lines));
        tail.map(|(at, deed)| format!("  {} {deed}\n", self.stamp(*at))).collect()
    }

    /// Milliseconds since the beginning.
    pub(crate) fn stamp(&self, at: Instant) -> String {
        format!("{:9.3}", at.duration_since(self.began).as_secs_f64() * 1e3)
    }
}

impl Deed {
    /// Which pool it concerns; `None` for all.
    fn pool(&self) -> Option<u32> {
        match *self {
            Self::Signal { whom: Whom::Worker(pool) | Whom::Zygote(pool), .. } => Some(pool),
            Self::LimitOfZygote { pool, .. } | Self::Make { pool } | Self::NotMade { pool, .. } => Some(pool),
            Self::End { pool, .. } | Self::GaveUp { pool, .. } => Some(pool),
            Self::Limit { .. } | Self::Memory { .. } | Self::Restored | Self::Refuse(_) => None,
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal { pid, signal, whom } => write!(f, "signal {signal} to {pid}, {whom:?}"),
            Self::Limit { resource, to } => write!(f, "{resource} of this process lowered to {to}"),
            Self::LimitOfZygote { pool, resource, to } => {
                write!(f, "{resource} of the zygote of pool {pool} lowered to {to}")
            }
            Self::Memory { bytes } => write!(f, "memory of the cgroup lowered to {bytes}"),
            Self::Restored => f.write_str("restored"),
            Self::Refuse(refusal) => write!(f, "{refusal} is refused from here on"),
            Self::Make { pool } => write!(f, "pool {pool} is made"),
            Self::NotMade { pool, error } => write!(f, "pool {pool} was not made: {error}"),
            Self::End { pool, how } => write!(f, "pool {pool}: {how:?}"),
            Self::GaveUp { pool, error } => write!(f, "pool {pool} says: {error}"),
        }
    }
}
