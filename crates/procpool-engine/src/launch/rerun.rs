//! This program, run a second time: how that process is started and how it is ended.
//!
//! What must hold: the user's process is not forked for it, however big it is; the new process finds all that it needs
//! in its standard input before it has begun to run; and whoever drops it has reaped it.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::message::{Identity, Request};
use super::serve::{VARIABLE, VERSION};
use super::{Descriptors, ExitStatus};
use crate::os::poll::{self, PollFd, PollFlags};
use crate::os::process::{self, Signal};
use crate::os::socket;
use crate::sandbox::{self, Confinement};

/// How long a process may take to be gone after `SIGKILL`. Only one stuck in the kernel takes longer.
const AGONY: Duration = Duration::from_secs(1);

/// How often to look for the end where there are no pidfds.
const GLANCE: Duration = Duration::from_millis(5);

/// All that it takes to start such a process, any number of times.
#[derive(Debug)]
pub(super) struct Recipe {
    environment: Vec<(OsString, OsString)>,
    region: OwnedFd,
    parent: OwnedFd,
    poke: OwnedFd,
    sandbox: Option<Confinement>,
}

impl Recipe {
    pub(super) fn new(
        environment: Vec<(OsString, OsString)>,
        descriptors: &Descriptors<'_>,
    ) -> io::Result<Self> {
        Ok(Self {
            environment,
            region: descriptors.region.try_clone_to_owned()?,
            parent: descriptors.parent.try_clone_to_owned()?,
            poke: descriptors.poke.try_clone_to_owned()?,
            sandbox: descriptors.sandbox.map(Confinement::try_clone).transpose()?,
        })
    }

    /// Starts one. It sees this process's environment, directory and limits as they are now.
    pub(super) fn start(&self) -> io::Result<Rerun> {
        let (here, there) = socket::pair()?;
        let program = Identity::of_this_program().map_err(|error| not_started(&error))?;
        let setup = Request::Setup(program, self.sandbox.as_ref().map(Confinement::rules));
        let mut belongings = [&self.region, &self.parent, &self.poke].map(AsFd::as_fd).to_vec();
        belongings.extend(self.sandbox.as_ref().map(Confinement::ruleset));
        socket::send(here.as_fd(), &setup.encode(), &belongings)?;
        let child = self.command(there).spawn().map_err(|error| not_started(&error))?;
        let pidfd = process::open_pidfd(child.id()).ok();
        Ok(Rerun { child, pidfd, socket: here })
    }

    /// No arguments but the program's name: should it run `main`, it had better have nothing to work on. And no
    /// `pre_exec`, with which the standard library would fork this process instead of spawning.
    fn command(&self, socket: OwnedFd) -> Command {
        let mut command = Command::new("/proc/self/exe");
        if let Some(name) = env::args_os().next() {
            command.arg0(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(VARIABLE, VERSION).stdin(Stdio::from(socket));
        command
    }
}

fn not_started(error: &io::Error) -> io::Error {
    let advice = if sandbox::forbids_programs() {
        "; this process is a worker in a sandbox that forbids programs, and a pool of its own begins with one: allow \
         programs there (`Sandbox::programs`), or make the pool elsewhere"
    } else {
        ""
    };
    let text = format!("cannot start this program again from /proc/self/exe: {error}{advice}");
    io::Error::new(error.kind(), text)
}

/// A process that should become the zygote, and our end of the socket to it.
#[derive(Debug)]
pub(super) struct Rerun {
    child: Child,
    pidfd: Option<OwnedFd>,
    socket: OwnedFd,
}

impl Rerun {
    /// Another program, which does nothing, in the place of this one.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn pretend(socket: OwnedFd) -> Self {
        let child = Command::new("true").stdin(Stdio::null()).spawn().expect("a program `true`");
        Self { pidfd: process::open_pidfd(child.id()).ok(), child, socket }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Closes its socket, kills it if it has not ended when `grace` is over, and reaps it. Returns how it ended and
    /// whether it had to be killed.
    pub(super) fn finish(mut self, grace: Duration) -> (ExitStatus, bool) {
        socket::shut_down(self.socket());
        if let Some(status) = self.wait(grace) {
            return (status, false);
        }
        // An error means that it is dead by now.
        let _ = match &self.pidfd {
            Some(pidfd) => process::pidfd_signal(pidfd.as_fd(), Signal::KILL),
            None => self.child.kill(),
        };
        (self.wait(AGONY).unwrap_or(ExitStatus::Unknown), true)
    }

    /// Reaps it if it ends within `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status.into()),
                Ok(None) => {}
                // Somebody else reaped it: this program waits for any child, or ignores `SIGCHLD`.
                Err(_) => return Some(ExitStatus::Unknown),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            match &self.pidfd {
                // Ready or not, `try_wait` knows.
                Some(pidfd) => drop(poll::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(left))),
                None => thread::sleep(left.min(GLANCE)),
            }
        }
    }
}
