//! The parent's side of the zygote: asks it for workers, hears of their births and deaths, and replaces it when it
//! dies.
//!
//! What must hold:
//!
//! - Nobody waits for the zygote. Requests lie in its socket before it has begun to run.
//! - Every launch is answered once: by the zygote, or after its end by the next one, or with an error when it turns
//!   out that there will be none.
//! - A seat is asked for again only when it is certain that no process is on its way to it: the old socket is closed
//!   and read to its end, and a process that has not told of itself by then cannot any more, and ends.
//! - A program that does not become a zygote when it is told to is not run over and over.
//! - A copy of this launcher in a forked child of the user's process does nothing, above all not in its `drop`.

#[cfg(feature = "fuzzing")]
pub(crate) mod hostile;
#[cfg(any(test, feature = "fuzzing"))]
mod pretended;

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::message::{LONGEST, Obstacle, Reply, Request};
use super::rerun::{Recipe, Rerun};
use super::serve::VARIABLE;
use super::{ExitStatus, LaunchEvent, Launcher};
use crate::os::process;
use crate::os::socket;
use crate::sandbox::Confinement;

/// How long the zygote may leave a request unanswered.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same, when the pool ends and only the answer keeps it.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// How long the zygote has to end by itself after its socket was closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long after its socket closed a process may take to be dead, if it is dying.
const LAST_BREATH: Duration = Duration::from_millis(50);

/// So many zygotes in a row may die without a worker started before the launches that they left are given up.
const BARREN_ZYGOTES: u32 = 3;

/// At most so many messages are read at once: a zygote that never stops talking must not keep the supervisor.
const MESSAGES_AT_ONCE: usize = 1024;

/// What every worker inherits.
#[derive(Debug, Clone, Copy)]
pub struct Descriptors<'a> {
    /// The memory that parent and workers share.
    pub region: BorrowedFd<'a>,
    /// Something that becomes readable when the parent dies: its pidfd, or the read end of a pipe that only it holds.
    pub parent: BorrowedFd<'a>,
    /// The eventfd by which workers wake the supervisor.
    pub poke: BorrowedFd<'a>,
    /// What they enter before anything else.
    pub sandbox: Option<&'a Confinement>,
}

/// Starts workers by forking them from a zygote.
#[derive(Debug)]
pub struct ZygoteLauncher {
    recipe: Recipe,
    zygote: Option<Zygote>,
    /// Seats that the zygote has not been asked for yet, oldest first.
    unsent: VecDeque<u32>,
    /// Seats that it has been asked for and has not answered.
    asked: Vec<u32>,
    /// Workers of this zygote that are not known to be dead: pid and seat.
    workers: Vec<(u32, u32)>,
    /// How many zygotes in a row have died without a worker started.
    barren: u32,
    /// Workers are not wanted any more.
    called_off: bool,
    /// How it is known that this program does not become a zygote, once it is.
    hopeless: Option<String>,
    /// In which process this launcher was made.
    generation: u64,
}

impl ZygoteLauncher {
    /// Starts the zygote, with these variables besides this process's own environment; does not wait for it.
    ///
    /// # Errors
    /// If this process was itself started to be a zygote; if the program cannot be started again.
    pub fn new(environment: Vec<(OsString, OsString)>, descriptors: &Descriptors<'_>) -> io::Result<Self> {
        if env::var_os(VARIABLE).is_some() {
            return Err(not_a_zygote("it went on to `main`, and this process is the one"));
        }
        let recipe = Recipe::new(environment, descriptors)?;
        let zygote = Some(Zygote::start(&recipe)?);
        Ok(Self {
            recipe,
            zygote,
            unsent: VecDeque::new(),
            asked: Vec::new(),
            workers: Vec::new(),
            barren: 0,
            called_off: false,
            hopeless: None,
            generation: process::fork_generation(),
        })
    }

    /// Whether this is a forked copy: the zygote and its answers belong to the process that made it.
    fn is_copy(&self) -> bool {
        self.generation != process::fork_generation()
    }

    fn awaits_answers(&self) -> bool {
        !(self.asked.is_empty() && self.unsent.is_empty())
    }

    /// Sends as many requests as the socket takes. What does not go now goes after the next answer; if the zygote is
    /// dead, the reading side will find out.
    fn send_requests(&mut self) {
        let Some(zygote) = &self.zygote else { return };
        while let Some(&seat) = self.unsent.front() {
            let request = Request::Launch { seat }.encode();
            if socket::send(zygote.process.socket(), &request, &[]).is_err() {
                return;
            }
            self.unsent.pop_front();
            self.asked.push(seat);
        }
    }

    /// Reads what the zygote says; returns how it ended if it did.
    fn read_replies(&mut self, events: &mut Vec<LaunchEvent>) -> Option<End> {
        for _ in 0..MESSAGES_AT_ONCE {
            match self.zygote.as_ref()?.receive() {
                Ok(Some((reply, descriptors))) => {
                    if let Err(end) = self.hear(reply, descriptors, events) {
                        return Some(end);
                    }
                }
                Ok(None) => return self.judge_silence(),
                Err(end) => return Some(end),
            }
        }
        None
    }

    /// Takes one reply to heart; an error if a zygote of sound mind would not say it.
    fn hear(
        &mut self,
        reply: Reply,
        descriptors: Vec<OwnedFd>,
        events: &mut Vec<LaunchEvent>,
    ) -> Result<(), End> {
        let zygote = self.zygote.as_mut().ok_or(End::Babbled)?;
        zygote.answer_by = Instant::now() + PATIENCE;
        match reply {
            Reply::Hello if !zygote.said_hello => zygote.said_hello = true,
            Reply::Refused(obstacle) if !zygote.said_hello => return Err(End::Refused(obstacle)),
            _ if !zygote.said_hello => return Err(End::Babbled),
            Reply::Started { seat, pid } if take(&mut self.asked, &seat) => {
                zygote.fruitful = true;
                self.workers.push((pid, seat));
                events.push(LaunchEvent::Started { seat, pid, pidfd: descriptors.into_iter().next() });
            }
            Reply::Failed { seat, obstacle } if take(&mut self.asked, &seat) => {
                events.push(LaunchEvent::Failed { seat, error: obstacle.to_error() });
            }
            Reply::Exited { seat, pid, status } if take(&mut self.workers, &(pid, seat)) => {
                events.push(LaunchEvent::Exited { seat, pid, status });
            }
            // Not known as a worker: it died on the few steps between its birth and its `Started`.
            Reply::Exited { seat, status, .. } if take(&mut self.asked, &seat) => {
                let text = format!("the new worker process died before it was ready: {status}");
                events.push(LaunchEvent::Failed { seat, error: io::Error::other(text) });
            }
            _ => return Err(End::Babbled),
        }
        Ok(())
    }

    /// The zygote says nothing just now: is something wrong?
    fn judge_silence(&mut self) -> Option<End> {
        let awaits_answers = self.awaits_answers();
        let zygote = self.zygote.as_mut()?;
        // If it is no zygote, it may have left copies of the socket to others, and the end of that will not come.
        if !zygote.said_hello && zygote.process.wait(Duration::ZERO).is_some() {
            return Some(End::Closed);
        }
        let hurry = if self.called_off { PATIENCE - IMPATIENCE } else { Duration::ZERO };
        let late = Instant::now() + hurry >= zygote.answer_by;
        (late && (awaits_answers || !zygote.said_hello)).then_some(End::Silent)
    }

    /// Closes the socket and reads what it still holds. From then on no process that the zygote has forked can become
    /// a worker unheard: it could not tell, and ends.
    ///
    /// Returns how the zygote ended if it had said that more clearly than by its death.
    fn read_leftovers(&mut self, events: &mut Vec<LaunchEvent>) -> Option<End> {
        socket::shut_down(self.zygote.as_ref()?.process.socket());
        let mut refused = None;
        loop {
            match self.zygote.as_ref()?.receive() {
                Ok(Some((reply, descriptors))) => {
                    let heard = self.hear(reply, descriptors, events);
                    refused = refused.or(heard.err().filter(|end| matches!(end, End::Refused(_))));
                }
                // Nonsense can do no more harm now.
                Err(End::Babbled) => {}
                _ => return refused,
            }
        }
    }

    /// Reaps the zygote, and hands what it was asked for to a new one or gives it up.
    fn bury(&mut self, end: End, events: &mut Vec<LaunchEvent>) {
        let end = self.read_leftovers(events).unwrap_or(end);
        let Some(zygote) = self.zygote.take() else { return };
        let grace = if end == End::Closed { LAST_BREATH } else { Duration::ZERO };
        let (status, killed) = zygote.process.finish(grace);
        self.workers.clear();
        self.unsent = self.asked.drain(..).chain(self.unsent.drain(..)).collect();
        self.barren = if zygote.fruitful { 0 } else { self.barren + 1 };
        if zygote.said_hello {
            events.push(LaunchEvent::Gone);
        }

        let died_by_signal = !killed && matches!(status, ExitStatus::Signaled(_));
        if let End::Refused(obstacle) = end {
            self.give_up(events, || obstacle.to_error());
        } else if !zygote.said_hello && !died_by_signal {
            let how = end.describe(status, killed);
            self.give_up(events, || not_a_zygote(&how));
            self.hopeless = Some(how);
        } else if self.barren >= BARREN_ZYGOTES {
            let text = format!("procpool's zygote died {} times in a row; last it was {status}", self.barren);
            self.give_up(events, || io::Error::other(text.as_str()));
        } else if self.awaits_answers() && !self.called_off {
            self.replace_zygote(events);
        }
    }

    fn replace_zygote(&mut self, events: &mut Vec<LaunchEvent>) {
        match Zygote::start(&self.recipe) {
            Ok(zygote) => self.zygote = Some(zygote),
            Err(error) => self.give_up(events, || io::Error::new(error.kind(), error.to_string())),
        }
    }

    /// Ends all launches that are not answered with an error.
    fn give_up(&mut self, events: &mut Vec<LaunchEvent>, error: impl Fn() -> io::Error) {
        self.barren = 0;
        let seats = self.unsent.drain(..);
        events.extend(seats.map(|seat| LaunchEvent::Failed { seat, error: error() }));
    }
}

impl Launcher for ZygoteLauncher {
    fn launch(&mut self, seat: u32) -> io::Result<()> {
        if self.is_copy() {
            return Err(io::Error::other("this pool belongs to the process that this one was forked from"));
        }
        if let Some(how) = &self.hopeless {
            return Err(not_a_zygote(how));
        }
        let was_idle = !self.awaits_answers();
        match &mut self.zygote {
            None => self.zygote = Some(Zygote::start(&self.recipe)?),
            Some(zygote) if was_idle => zygote.answer_by = Instant::now() + PATIENCE,
            Some(_) => {}
        }
        self.unsent.push_back(seat);
        self.send_requests();
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.zygote.as_ref().map(|zygote| zygote.process.socket())
    }

    fn events(&mut self) -> Vec<LaunchEvent> {
        let mut events = Vec::new();
        if !self.is_copy() {
            if let Some(end) = self.read_replies(&mut events) {
                self.bury(end, &mut events);
            }
            if self.called_off {
                self.give_up(&mut events, || {
                    io::Error::other("the pool ended before the worker was started")
                });
            }
            self.send_requests();
        }
        events
    }

    fn call_off(&mut self) {
        self.called_off = true;
    }

    fn shut_down(&mut self) {
        let Some(zygote) = self.zygote.take() else { return };
        if !self.is_copy() {
            zygote.process.finish(FAREWELL);
        }
    }
}

impl Drop for ZygoteLauncher {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// How far the conversation with one zygote has come.
#[derive(Debug)]
struct Zygote {
    process: Rerun,
    said_hello: bool,
    /// Whether it has started a worker.
    fruitful: bool,
    /// When its silence means that it hangs, if an answer is awaited.
    answer_by: Instant,
}

impl Zygote {
    fn start(recipe: &Recipe) -> io::Result<Self> {
        let process = recipe.start()?;
        Ok(Self { process, said_hello: false, fruitful: false, answer_by: Instant::now() + PATIENCE })
    }

    /// The next thing that it says, if it has said anything.
    fn receive(&self) -> Result<Option<(Reply, Vec<OwnedFd>)>, End> {
        let mut buffer = [0; LONGEST];
        match socket::receive(self.process.socket(), &mut buffer) {
            Ok(message) if message.length == 0 => Err(End::Closed),
            Ok(message) => match Reply::decode(&buffer[..message.length]) {
                Some(reply) => Ok(Some((reply, message.descriptors))),
                None => Err(End::Babbled),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(End::Babbled),
            Err(_) => Err(End::Closed),
        }
    }
}

/// How it came out that there is no zygote any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its socket is closed, or it is dead.
    Closed,
    /// It said something that a zygote does not say.
    Babbled,
    /// It said nothing for too long.
    Silent,
    /// It said why it cannot be one.
    Refused(Obstacle),
}

impl End {
    /// What a process did that was to become a zygote and did not.
    fn describe(self, status: ExitStatus, killed: bool) -> String {
        match self {
            Self::Silent => format!("it did not answer within {} seconds", PATIENCE.as_secs()),
            Self::Closed if killed => "it closed its standard input".into(),
            Self::Closed => format!("it {status}"),
            Self::Babbled | Self::Refused(_) => "it answered what no zygote answers".into(),
        }
    }
}

fn not_a_zygote(how: &str) -> io::Error {
    let text = format!(
        "this program was started a second time to become procpool's zygote, from which workers are forked, but it \
         did not: {how}. Call procpool::init() first thing in `main`, or switch on procpool's feature `hook`"
    );
    io::Error::new(ErrorKind::Unsupported, text)
}

/// Removes one `item` and says whether there was one.
fn take<T: PartialEq>(items: &mut Vec<T>, item: &T) -> bool {
    let found = items.iter().position(|other| other == item);
    if let Some(index) = found {
        items.swap_remove(index);
    }
    found.is_some()
}

#[cfg(all(test, not(loom)))]
mod tests;
