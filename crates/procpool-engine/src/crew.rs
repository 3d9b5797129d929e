//! Who sits where: the supervisor's own record of worker processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::launch::ExitStatus;
use crate::os::poll;
use crate::os::process::{self, Signal};
use crate::sync::Instant;

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
    /// It is known to be dead, and since when; the launcher has not told how it ended.
    dead_since: Option<Instant>,
    /// Its launcher's helper is gone: nobody will tell of its death.
    orphaned: bool,
}

/// How long a launcher may take to tell how a worker ended which is known to be dead.
const REPORT: Duration = Duration::from_millis(500);

/// How long the kernel may take to tell how an orphan ended: until whoever adopted it has reaped it.
const INQUEST: Duration = Duration::from_millis(100);

/// How often to look at an orphan that is dead or has no pidfd.
const GLANCE: Duration = Duration::from_millis(10);

impl Member {
    pub(crate) fn new(pid: u32, pidfd: Option<OwnedFd>) -> Self {
        Self { pid, pidfd, kill_at: None, expected: false, dead_since: None, orphaned: false }
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

    /// Nobody will tell of its death from now on.
    pub(crate) fn orphan(&mut self) {
        self.orphaned = true;
    }

    /// How it ended, once it is dead and no launcher will tell any more.
    pub(crate) fn ended_unreported(&mut self, now: Instant) -> Option<ExitStatus> {
        if self.orphaned && self.pidfd.is_none() && self.dead_since.is_none() {
            self.watch_by_pid(now);
        }
        if self.watched().is_some_and(poll::is_readable) {
            self.dead_since = Some(now);
        }
        let due = self.report_due()?;
        let status = self.pidfd.as_ref().and_then(|pidfd| process::exit_status_from_pidfd(pidfd.as_fd()));
        let status = status.or_else(|| process::exit_status_of_zombie(self.pid));
        let told = self.orphaned && status.is_some();
        (told || due <= now).then_some(status.unwrap_or(ExitStatus::Unknown))
    }

    /// Where there was no descriptor left for its pidfd, there may be one now; where there are no pidfds at all, its
    /// pid must do.
    fn watch_by_pid(&mut self, now: Instant) {
        match process::open_pidfd(self.pid) {
            Ok(pidfd) => self.pidfd = Some(pidfd),
            Err(_) if process::is_gone(self.pid) => self.dead_since = Some(now),
            Err(_) => {}
        }
    }

    fn report_due(&self) -> Option<Instant> {
        let patience = if self.orphaned { INQUEST } else { REPORT };
        self.dead_since.map(|since| since + patience)
    }

    /// When to look at it again, if nothing says so by itself.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        let glance = self.orphaned && (self.pidfd.is_none() || self.dead_since.is_some());
        let look = if glance { Some(now + GLANCE) } else { self.report_due() };
        [look, self.kill_at].into_iter().flatten().min()
    }
}
