//! Who sits where: the supervisor's own record of worker processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::launch::ExitStatus;
use crate::os::process::{self, Signal};

/// What is known of a seat.
#[derive(Debug)]
pub(crate) enum Berth {
    /// Nobody sits here.
    Empty,
    /// The launcher was asked for somebody.
    Awaited,
    /// A process sits here.
    Taken(Member),
}

/// A worker process, as the supervisor knows it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) pid: u32,
    pidfd: Option<OwnedFd>,
    /// It was told to end: when it will be killed if it has not.
    pub(crate) kill_at: Option<Instant>,
    /// Ended for a reason that the supervisor knows: its death says nothing about the pool's health.
    pub(crate) expected: bool,
    /// Its pidfd says that it is dead, and since when; the launcher has not told how it ended.
    pub(crate) dead_since: Option<Instant>,
}

/// How long a launcher may take to tell how a worker ended which is known to be dead.
pub(crate) const REPORT: Duration = Duration::from_millis(500);

impl Member {
    pub(crate) fn new(pid: u32, pidfd: Option<OwnedFd>) -> Self {
        Self { pid, pidfd, kill_at: None, expected: false, dead_since: None }
    }

    /// What becomes readable when the process is dead; `None` where there are no pidfds, or when it is dead already.
    pub(crate) fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().filter(|_| self.dead_since.is_none()).map(AsFd::as_fd)
    }

    pub(crate) fn kill(&mut self) {
        self.expected = true;
        self.kill_at = None;
        self.signal(Signal::KILL);
    }

    /// Asks it to end; it is killed if it still lives after `grace`.
    pub(crate) fn ask_to_end(&mut self, grace: Duration) {
        if !self.expected {
            self.expected = true;
            self.kill_at = Instant::now().checked_add(grace);
            self.signal(Signal::TERM);
        }
    }

    /// Lets it leave by itself, since it runs nothing; it is killed if it still lives after `grace`.
    pub(crate) fn let_leave(&mut self, grace: Duration) {
        if !self.expected {
            self.expected = true;
            self.kill_at = Instant::now().checked_add(grace);
        }
    }

    fn signal(&self, signal: Signal) {
        // The only error is that it is dead, and that will be heard of.
        let _ = match &self.pidfd {
            Some(pidfd) => process::pidfd_signal(pidfd.as_fd(), signal),
            // Without pidfds a pid must do: its zygote reports the death at once after it has reaped it.
            None => process::kill_pid(self.pid, signal),
        };
    }

    /// How it ended, where no launcher can tell.
    pub(crate) fn status_unreported(&self) -> ExitStatus {
        let status = self.pidfd.as_ref().and_then(|pidfd| process::exit_status_from_pidfd(pidfd.as_fd()));
        status.unwrap_or(ExitStatus::Unknown)
    }
}
