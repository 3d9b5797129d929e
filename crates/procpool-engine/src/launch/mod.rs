//! How a worker process comes into being.
//!
//! The supervisor asks a [`Launcher`] for a worker in a *seat* (a worker's place in the region, which outlives the
//! process that sits there) and hears later what became of it. There is one launcher for Rust programs, the
//! [`ZygoteLauncher`]; a host that starts its workers by its own means, as an interpreter does, brings its own.

mod message;
mod rerun;
mod serve;
pub(crate) mod zygote;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

pub use crate::os::process::ExitStatus;
pub use serve::{Attachment, become_zygote};
pub use zygote::{Descriptors, ZygoteLauncher};

/// Starts workers and tells of their births and deaths.
///
/// What an implementation promises: every [`launch`](Self::launch) that returned `Ok` is answered by exactly one
/// [`Started`](LaunchEvent::Started) or [`Failed`](LaunchEvent::Failed), in bounded time, if
/// [`events`](Self::events) is called whenever the descriptor is readable and about once a second while an answer is
/// awaited. A worker runs only if its `Started` will be told.
pub trait Launcher: Send {
    /// Asks for a worker in `seat`; does not wait for it. What became of it arrives by [`events`](Self::events).
    ///
    /// # Errors
    /// If it is certain already that there will be no worker.
    fn launch(&mut self, seat: u32) -> io::Result<()>;

    /// Becomes readable when [`events`](Self::events) has something to say. It may be another one after each call of
    /// a method that takes `&mut self`.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// All that has happened since the last call; never waits for anything to happen.
    fn events(&mut self) -> Vec<LaunchEvent>;

    /// The pool ends: no worker is wanted any more, and the supervisor waits only for answers. So each launch is
    /// answered soon: with an error where it has not begun, and where a helper process hangs nobody has patience with
    /// it. May be called again.
    fn call_off(&mut self);

    /// No more launches. Called after the last worker is dead; ends and reaps helper processes, in bounded time.
    fn shut_down(&mut self);
}

/// What a [`Launcher`] has to tell.
#[derive(Debug)]
pub enum LaunchEvent {
    /// A worker sits in `seat`.
    Started {
        /// Where it sits.
        seat: u32,
        /// Its process.
        pid: u32,
        /// Its process as a descriptor that becomes readable when it ends; `None` where there are no pidfds.
        pidfd: Option<OwnedFd>,
    },
    /// There is no worker in `seat`.
    Failed {
        /// Where it would have been.
        seat: u32,
        /// Why not, and what can be done about it.
        error: io::Error,
    },
    /// A worker that was told as `Started` is dead and reaped.
    Exited {
        /// Where it was.
        seat: u32,
        /// What its process was; the number may belong to another process now.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// The helper process (zygote) is gone: deaths of the workers it started are no longer reported here.
    Gone,
}
