//! The zygote's side: a process with one thread and nothing of the user's in it, which forks workers.
//!
//! It is this program, run a second time, that never reaches `main`. What must hold:
//!
//! - It forks only while it has one thread, and by libc's `fork`.
//! - A worker tells of itself: the new process sends `Started` before it returns into the program, and only then
//!   closes its copy of the socket. So once the parent reads the end of the socket, there is no worker that it has not
//!   heard of, however the zygote died, and it may ask another zygote for the same seat.
//! - The zygote outlives its parent by no more than it takes to kill and reap its workers.

use std::env;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use super::message::{Identity, LONGEST, Obstacle, Reply, Request};
use crate::faults::{Point, point, watch};
use crate::os::poll::{self, PollFd, PollFlags};
use crate::os::process::{self, Fork, Signal};
use crate::os::{signal, socket};
use crate::sandbox::Confinement;

/// The environment variable that tells a process to become a zygote. Its value is [`VERSION`].
pub(super) const VARIABLE: &str = "PROCPOOL_ZYGOTE";

/// Who may become the zygote, should two versions of this crate be in one program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long a child's death may go unnoticed where there are no pidfds.
const GLANCE: Duration = Duration::from_millis(20);

/// What a new worker finds itself with.
#[derive(Debug)]
pub struct Attachment {
    /// Its place in the region.
    pub seat: u32,
    /// The memory that it shares with its parent.
    pub region: OwnedFd,
    /// Becomes readable when the parent dies.
    pub parent: OwnedFd,
    /// The eventfd that wakes the supervisor.
    pub poke: OwnedFd,
    /// What it enters before anything else.
    pub sandbox: Option<Confinement>,
}

/// Becomes the zygote if this process was started to be one, and returns in each worker that it forks; the zygote
/// itself never returns. In any other process it looks at one environment variable and returns `None`.
///
/// To be called before `main`, or first thing in it: before there is a second thread.
pub fn become_zygote() -> Option<Attachment> {
    let version = env::var_os(VARIABLE)?;
    match socket::is_socket(io::stdin().as_fd()) {
        Ok(true) if version == OsStr::new(VERSION) => Some(Zygote::begin().serve()),
        // The variable came down from an ancestor of whom this process is no zygote. Only with one thread may the
        // environment be changed; otherwise `ZygoteLauncher::new` will have to say that it is there.
        Ok(false) => {
            let _ = forget_variable();
            None
        }
        // Another version's affair; or nobody can tell, and to guess wrong would start programs without end.
        Ok(true) | Err(_) => None,
    }
}

/// Takes the variable out of the environment, so that workers may have pools and programs of their own.
fn forget_variable() -> Result<(), Obstacle> {
    let threads = process::thread_count().map_err(|error| Obstacle::of(&error))?;
    if threads != 1 {
        return Err(Obstacle::Threads(u32::try_from(threads).unwrap_or(u32::MAX)));
    }
    // SAFETY: there is no other thread that could be reading the environment.
    unsafe { env::remove_var(VARIABLE) };
    Ok(())
}

/// What the parent sends along with [`Request::Setup`].
struct Belongings {
    region: OwnedFd,
    parent: OwnedFd,
    poke: OwnedFd,
    sandbox: Option<Confinement>,
}

/// A worker, as long as it is not reaped.
struct Worker {
    seat: u32,
    pid: u32,
    pidfd: Option<OwnedFd>,
}

struct Zygote {
    socket: OwnedFd,
    belongings: Belongings,
    workers: Vec<Worker>,
}

/// The parent is dead or wants no more.
struct ParentGone;

impl Zygote {
    /// Makes a zygote of this process, or tells the parent why that cannot be, and ends.
    fn begin() -> Self {
        let socket = match process::take_standard_input() {
            Ok(socket) => socket,
            Err(error) => refuse(io::stdin().as_fd(), Obstacle::of(&error)),
        };
        match prepare(socket.as_fd()) {
            Ok(belongings) => {
                watch(belongings.region.as_fd());
                Self { socket, belongings, workers: Vec::new() }
            }
            Err(obstacle) => refuse(socket.as_fd(), obstacle),
        }
    }

    /// Serves until the parent is gone; returns only in a worker.
    fn serve(mut self) -> Attachment {
        if self.tell(Reply::Hello, &[]).is_err() {
            self.end();
        }
        loop {
            match self.step() {
                Ok(None) => self.wait(),
                Ok(Some(seat)) => return self.become_worker(seat),
                Err(ParentGone) => self.end(),
            }
        }
    }

    /// Sleeps until the parent wants something or is dead, or a worker is.
    fn wait(&self) {
        let watched = |descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN);
        let mut descriptors = vec![watched(self.socket.as_fd()), watched(self.belongings.parent.as_fd())];
        let pidfds = self.workers.iter().filter_map(|worker| worker.pidfd.as_ref());
        descriptors.extend(pidfds.map(|pidfd| watched(pidfd.as_fd())));
        let all_watched = descriptors.len() == self.workers.len() + 2;
        let timeout = (!all_watched).then_some(GLANCE);
        if poll::poll(&mut descriptors, timeout).is_err() {
            thread::sleep(GLANCE);
        }
    }

    /// Does all that there is to do. In a new worker, returns its seat.
    fn step(&mut self) -> Result<Option<u32>, ParentGone> {
        if poll::is_readable(self.belongings.parent.as_fd()) {
            return Err(ParentGone);
        }
        self.bury_dead()?;
        while let Some(seat) = self.next_request()? {
            if self.launch(seat)? {
                return Ok(Some(seat));
            }
        }
        Ok(None)
    }

    fn next_request(&self) -> Result<Option<u32>, ParentGone> {
        let mut buffer = [0; LONGEST];
        match socket::receive(self.socket.as_fd(), &mut buffer) {
            Ok(message) => match Request::decode(&buffer[..message.length]) {
                Some(Request::Launch { seat }) => {
                    point(Point::Asked);
                    Ok(Some(seat))
                }
                // The end, or a parent that has lost its mind.
                _ => Err(ParentGone),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(_) => Err(ParentGone),
        }
    }

    /// Forks a worker; returns whether this is the worker.
    fn launch(&mut self, seat: u32) -> Result<bool, ParentGone> {
        // SAFETY: there was one thread in `forget_variable`, and this one has started none since.
        match unsafe { process::fork() } {
            Ok(Fork::Child) => {
                point(Point::Born);
                Ok(true)
            }
            Ok(Fork::Parent(pid)) => {
                point(Point::Forked);
                // It cannot have been reaped yet, so the pid is its own, also if it is dead already.
                self.workers.push(Worker { seat, pid, pidfd: process::open_pidfd(pid).ok() });
                // On this CPU it would else wait until there is nothing more to fork.
                thread::yield_now();
                Ok(false)
            }
            Err(error) => {
                let obstacle = Obstacle::of(&error);
                self.tell(Reply::Failed { seat, obstacle }, &[]).map(|()| false)
            }
        }
    }

    /// The new process's first steps: it tells of itself and lets go of what is the zygote's.
    fn become_worker(self, seat: u32) -> Attachment {
        let pid = std::process::id();
        let pidfd = process::open_pidfd(pid).ok();
        let descriptors: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
        if self.tell(Reply::Started { seat, pid }, &descriptors).is_err() {
            process::exit_now(0);
        }
        point(Point::Introduced);
        let Belongings { region, parent, poke, sandbox } = self.belongings;
        Attachment { seat, region, parent, poke, sandbox }
    }

    fn bury_dead(&mut self) -> Result<(), ParentGone> {
        while let Some((pid, status)) = process::reap_any() {
            if let Some(index) = self.workers.iter().position(|worker| worker.pid == pid) {
                let Worker { seat, .. } = self.workers.swap_remove(index);
                point(Point::Reaped);
                self.tell(Reply::Exited { seat, pid, status }, &[])?;
            }
        }
        Ok(())
    }

    /// Sends a reply, waiting for the parent to read what came before if it must.
    fn tell(&self, reply: Reply, descriptors: &[BorrowedFd<'_>]) -> Result<(), ParentGone> {
        let (message, mut descriptors) = (reply.encode(), descriptors);
        loop {
            match socket::send(self.socket.as_fd(), &message, descriptors) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_room()?,
                // Too many descriptors are under way. The parent can do without.
                Err(_) if !descriptors.is_empty() => descriptors = &[],
                Err(_) => return Err(ParentGone),
            }
        }
    }

    fn wait_for_room(&self) -> Result<(), ParentGone> {
        let parent = &self.belongings.parent;
        let mut watched = [PollFd::new(&self.socket, PollFlags::OUT), PollFd::new(parent, PollFlags::IN)];
        if poll::poll(&mut watched, None).is_err() {
            thread::sleep(GLANCE);
        }
        if watched[1].revents().is_empty() { Ok(()) } else { Err(ParentGone) }
    }

    /// The parent is gone: so are its workers.
    fn end(&self) -> ! {
        for worker in &self.workers {
            // An error means that it is dead already.
            let _ = match &worker.pidfd {
                Some(pidfd) => process::pidfd_signal(pidfd.as_fd(), Signal::KILL),
                None => process::kill_pid(worker.pid, Signal::KILL),
            };
        }
        process::reap_all();
        process::exit_now(0)
    }
}

/// Everything up to the first fork that may go wrong.
fn prepare(socket: BorrowedFd<'_>) -> Result<Belongings, Obstacle> {
    forget_variable()?;
    let belongings = receive_setup(socket)?;
    process::set_name("procpool-zygote");
    let settle = || {
        signal::ignore_interrupts()?;
        signal::ignore_broken_pipes()?;
        signal::keep_dead_children()
    };
    settle().map_err(|error| Obstacle::of(&error))?;
    // A zygote that replaces another is started by the supervisor, which blocks them all.
    signal::unblock_signals();
    // Whatever was printed before `procpool::init()` would come out again from every worker. It does not matter if
    // nobody reads it.
    let _ = io::stdout().flush();
    Ok(belongings)
}

/// The parent sent this before it started this process, so there is no waiting for it.
fn receive_setup(socket: BorrowedFd<'_>) -> Result<Belongings, Obstacle> {
    let mut buffer = [0; LONGEST];
    let message = socket::receive(socket, &mut buffer).map_err(|error| Obstacle::of(&error))?;
    let own = Identity::of_this_program().map_err(|error| Obstacle::of(&error))?;
    let rules = match Request::decode(&buffer[..message.length]) {
        Some(Request::Setup(program, rules)) if program == own => rules,
        _ => return Err(Obstacle::OtherProgram),
    };
    let mut descriptors = message.descriptors.into_iter();
    let mut next = || descriptors.next().ok_or(Obstacle::NoDescriptors);
    let (region, parent, poke) = (next()?, next()?, next()?);
    let sandbox = rules.map(|rules| Ok(Confinement::new(next()?, rules))).transpose()?;
    Ok(Belongings { region, parent, poke, sandbox })
}

fn refuse(socket: BorrowedFd<'_>, obstacle: Obstacle) -> ! {
    // If that does not arrive, the parent will still see that this was no zygote.
    let _ = socket::send(socket, &Reply::Refused(obstacle).encode(), &[]);
    process::exit_now(1)
}
