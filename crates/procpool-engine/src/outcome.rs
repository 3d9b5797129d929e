//! How a task ended, and why one could not be accepted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::launch::ExitStatus;
use crate::payload::Payload;
use crate::slot::Ticket;

/// How a task ended. Every accepted task has exactly one.
#[derive(Debug)]
pub enum Outcome {
    /// The host's function came back with a value.
    Returned(Payload),
    /// The host's function went wrong, and this is the host's account of it.
    Raised(Payload),
    /// The task has no reply.
    Failed(Failure),
}

/// Why a task has no reply.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// Its worker died.
    Died {
        /// How.
        last: Death,
        /// How the workers of earlier attempts died, the oldest first. Of more than a thousand, the last thousand.
        earlier: Vec<Death>,
    },
    /// Its time was over. If it ran, its worker was killed for that.
    TimedOut {
        /// How long it had run, at its last attempt; `None` if no worker ever began it.
        ran: Option<Duration>,
        /// Which time it was.
        limit: TimeLimit,
    },
    /// It was cancelled.
    Cancelled,
    /// The pool was terminated, or dropped.
    Terminated,
    /// This process is a fork of the one that made the pool, whose task it is.
    Forked,
    /// Its worker used more memory than the pool allows, and was killed for that.
    MemoryLimit {
        /// The memory of its own that it was seen with, in bytes.
        seen: u64,
        /// The most memory that the process ever had, in bytes, as the kernel counts it: shared memory and the program's
        /// own pages included. At least `seen`.
        peak: u64,
        /// What was allowed of its own, in bytes.
        limit: u64,
    },
    /// Its reply found no room in the arena.
    NoRoom {
        /// What the reply needed, in bytes.
        bytes: u64,
    },
    /// A worker wrote rubbish over the shared memory, and the reply with it.
    Corrupt,
    /// The pool gave up.
    Broken(Arc<Breakdown>),
}

/// A limit on a task's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    /// So long each attempt at it may run.
    Timeout(Duration),
    /// So long after its submission it must have ended.
    Deadline(Duration),
}

/// The death of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The process.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// The task that it was running, if any.
    pub ticket: Option<Ticket>,
    /// Its last words.
    pub note: Option<String>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} {}", self.pid, self.status)?;
        if let Some(ticket) = self.ticket {
            write!(f, " while it ran task {ticket}")?;
        }
        self.note.iter().try_for_each(|note| write!(f, "; its last words: {note}"))
    }
}

/// Why a pool gave up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Breakdown {
    /// The host's set-up of a worker failed.
    Setup {
        /// What it said.
        message: String,
    },
    /// A worker could not enter its sandbox.
    Sandbox {
        /// What it said.
        message: String,
    },
    /// Workers died, one after the other, and no task was finished meanwhile.
    Restarts {
        /// How many died.
        deaths: usize,
        /// Within how long.
        within: Duration,
        /// The last of them.
        last: Death,
    },
    /// No worker could be started.
    Launch {
        /// What the system said.
        error: Arc<std::io::Error>,
    },
}

impl fmt::Display for Breakdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup { message } => write!(f, "the initializer of a worker failed: {message}"),
            Self::Sandbox { message } => write!(f, "a worker could not enter its sandbox: {message}"),
            Self::Restarts { deaths, within, last } => write!(
                f,
                "{deaths} workers died within {within:?} without finishing a task between them; the last one: {last}"
            ),
            Self::Launch { error } => write!(f, "no worker could be started: {error}"),
        }
    }
}

/// Why a task was not accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The pool was closed.
    Closed,
    /// The pool was terminated.
    Terminated,
    /// The pool gave up.
    Broken(Arc<Breakdown>),
    /// No slot or no room in the arena is free, and none will be until outcomes are taken.
    Full {
        /// What the payload needed in the arena, in bytes; 0 where it was a slot that was missing.
        bytes: u64,
    },
    /// The payload is larger than the whole arena.
    TooLarge {
        /// What the payload needed, in bytes.
        bytes: u64,
        /// What the arena has, in bytes.
        arena: u64,
    },
    /// This process is a fork of the one that made the pool.
    Forked,
}
