//! What everybody in a pool is doing, for people: a pool that is stuck explains itself.
//!
//! It only looks. Whoever hangs may hold a lock, so none is waited for longer than a moment, and what it guards is then
//! missing. Nothing here is relied upon: workers may write rubbish over what is read (*I4*).

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::os::{clock, process};
use crate::payload;
use crate::pool::Pool;
use crate::region::Phase;
use crate::seat::Status;
use crate::shared::Shared;
use crate::slot::{State, Ticket};
use crate::submit::{Books, Door};
use crate::sync::{Instant, Ordering, lock_within};
use crate::view::View;
use crate::wake::SEATS;

/// So many tasks are named, the oldest; the others are counted.
const NAMED: usize = 100;

/// How much of a task's head is copied, for hosts that know where in it the function's name is.
const HEAD: usize = 512;

/// How long a lock is waited for.
const MOMENT: Duration = Duration::from_millis(200);

/// What everybody in a pool was doing at one moment, or shortly after it. To be printed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dump {
    /// The oldest tasks that have not ended, at most a hundred.
    pub tasks: Vec<TaskDump>,
    /// How many tasks have not ended.
    pub unfinished: usize,
    name: String,
    phase: String,
    /// Entries that workers have not passed; `None` where the books are locked.
    queue: Option<u64>,
    accepted: u64,
    supervisor: Option<View>,
    workers: Vec<WorkerDump>,
}

/// A task that has not ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskDump {
    /// Its number.
    pub ticket: Ticket,
    /// What it calls, where the host has filled this in.
    pub function: Option<String>,
    /// The beginning of its payload's head: rubbish, if its worker was about to reply.
    pub head: Vec<u8>,
    does: Doing,
    /// Attempts that failed.
    failed: u32,
    /// Until its deadline.
    left: Option<Duration>,
}

/// What a task is doing.
#[derive(Clone, Debug)]
enum Doing {
    /// In the queue, for at least so long.
    Queued(Option<Duration>),
    /// Off the queue, for so long to come.
    Waits(Duration),
    Runs {
        seat: u32,
        age: Option<Duration>,
    },
    /// Its worker is being killed for it.
    Ends {
        seat: u32,
    },
    /// Its slot was written over.
    Unknown,
}

/// A worker's process.
#[derive(Clone, Debug)]
struct WorkerDump {
    seat: u32,
    pid: u32,
    status: Status,
    /// The letter of `/proc`; `None` where there is no such process.
    state: Option<char>,
    /// What it runs, as the low half of a ticket, and for how long.
    runs: Option<(u32, Option<Duration>)>,
    tasks: u64,
    memory: Option<u64>,
}

impl Pool {
    /// What everybody in the pool is doing. Waits for no lock for longer than a moment, so it may be called when all else
    /// hangs.
    pub fn dump(&self) -> Dump {
        let shared = self.shared();
        let mut dump = Dump {
            tasks: Vec::new(),
            unfinished: 0,
            name: shared.config.name.clone(),
            phase: "what it is at is locked, by whoever hangs".to_owned(),
            queue: None,
            accepted: 0,
            supervisor: lock_within(&shared.view, MOMENT).map(|view| view.clone()),
            workers: shared.worker_dumps(),
        };
        if shared.is_forked() {
            dump.phase = "belongs to the process that this one is a fork of".to_owned();
        } else if let Some(books) = lock_within(&shared.books, MOMENT) {
            dump.read_books(shared, &books);
        }
        dump
    }
}

impl Dump {
    fn read_books(&mut self, shared: &Shared, books: &Books) {
        self.phase = match &books.door {
            Door::Broken(why) => format!("has given up: {why}"),
            door => match door.phase() {
                Phase::Running => "takes tasks".to_owned(),
                Phase::Closed => "was closed".to_owned(),
                Phase::Stopped => "was terminated".to_owned(),
            },
        };
        self.queue = Some(shared.region.queue().length());
        self.accepted = books.accepted();
        let mut live = books.live();
        live.retain(|&(slot, ticket)| !shared.is_ended(slot, ticket));
        live.sort_unstable_by_key(|&(_, ticket)| ticket);
        self.unfinished = live.len();
        live.truncate(NAMED);
        // While both are locked no argument is freed, so that nobody of this process writes where heads are read.
        let Some(extras) = lock_within(&shared.extras, MOMENT) else { return };
        let queued_for = |ticket| Some(self.supervisor.as_ref()?.known_since(ticket)?.elapsed());
        let now = Instant::now();
        self.tasks = live
            .into_iter()
            .map(|(slot, ticket)| {
                let extra = extras.get(slot, ticket);
                let resumes = extra.and_then(|extra| extra.attempts.resumes);
                TaskDump {
                    ticket,
                    function: None,
                    head: shared
                        .region
                        .slot(slot)
                        .map_or_else(Vec::new, |words| payload::peek(&shared.region, words, HEAD)),
                    does: match resumes {
                        Some(at) if shared.is_ready(slot, ticket) => {
                            Doing::Waits(at.saturating_duration_since(now))
                        }
                        _ => shared.doing(slot, ticket, || queued_for(ticket)),
                    },
                    failed: extra.map_or(0, |extra| extra.attempts.failed),
                    left: extra.and_then(|extra| Some(extra.deadline()?.saturating_duration_since(now))),
                }
            })
            .collect();
    }
}

impl Shared {
    fn doing(&self, slot: u32, ticket: Ticket, queued: impl FnOnce() -> Option<Duration>) -> Doing {
        let Some(seen) = self.region.slot(slot).map(|slot| slot.word.read()) else { return Doing::Unknown };
        let seat = seen.seat();
        match seen.state().filter(|_| seen.is_for(ticket)) {
            Some(State::Ready) => Doing::Queued(queued()),
            Some(State::Claimed) => Doing::Runs { seat, age: self.ran(slot, ticket) },
            Some(State::Doomed) => Doing::Ends { seat },
            _ => Doing::Unknown,
        }
    }

    fn worker_dumps(&self) -> Vec<WorkerDump> {
        let pids = lock_within(&self.pids, MOMENT).map(|pids| pids.clone()).unwrap_or_default();
        let seats = (0..SEATS as u32).filter_map(|seat| Some((seat, *pids.get(&seat)?)));
        let dumps = seats.filter_map(|(seat, pid)| {
            let words = self.region.seat(seat)?;
            Some(WorkerDump {
                seat,
                pid,
                status: words.status(),
                state: process::state(pid),
                runs: words.current().map(|entry| (entry.tag, words.began().map(clock::since))),
                tasks: words.finished.load(Ordering::Relaxed),
                memory: process::resident_bytes(pid),
            })
        });
        dumps.collect()
    }
}

// ---- as text ----

impl Display for Dump {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, phase, unfinished, accepted, .. } = self;
        write!(f, "pool {name:?} of process {} {phase}: ", std::process::id())?;
        match self.queue {
            None => writeln!(f, "its books are locked, so its tasks cannot be told")?,
            Some(queue) => {
                writeln!(
                    f,
                    "{accepted} tasks accepted, {unfinished} not ended; {queue} entries in the queue"
                )?;
            }
        }
        match &self.supervisor {
            None => writeln!(f, "  supervisor: cannot be asked, since its record is locked")?,
            Some(view) => writeln!(f, "  supervisor: {view}")?,
        }
        self.workers.iter().try_for_each(|worker| writeln!(f, "  {worker}"))?;
        self.tasks.iter().try_for_each(|task| writeln!(f, "  {task}"))?;
        match unfinished - self.tasks.len() {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

/// A span as people read it.
struct Span(Duration);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

impl Display for WorkerDump {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            None => "gone".to_owned(),
            Some(letter) => format!("{letter} ({})", process::state_name(letter)),
        };
        write!(f, "worker {}: pid {}, {state}, ", self.seat, self.pid)?;
        match (self.status, self.runs) {
            (Status::Absent, _) => write!(f, "has not attached")?,
            (Status::Starting, _) => write!(f, "runs the initializer")?,
            (Status::SetupFailed, _) => write!(f, "leaves, since the initializer failed")?,
            (Status::NotConfined, _) => write!(f, "leaves, since its sandbox could not be entered")?,
            (Status::Leaving, _) => write!(f, "leaves")?,
            (Status::Ready, None) => write!(f, "waits for a task")?,
            (Status::Ready, Some((task, None))) => write!(f, "is about to run task {task}")?,
            (Status::Ready, Some((task, Some(age)))) => write!(f, "runs task {task} for {}", Span(age))?,
        }
        write!(f, "; {} tasks done", self.tasks)?;
        self.memory.map_or(Ok(()), |bytes| write!(f, ", {} MiB", bytes >> 20))
    }
}

impl Display for TaskDump {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.ticket)?;
        self.function.iter().try_for_each(|function| write!(f, ", {function}"))?;
        match &self.does {
            Doing::Queued(None) => write!(f, ": queued")?,
            Doing::Queued(Some(age)) => write!(f, ": queued for {} or more", Span(*age))?,
            Doing::Waits(time) => write!(f, ": waits {} for its next attempt", Span(*time))?,
            Doing::Runs { seat, age: None } => write!(f, ": about to run on worker {seat}")?,
            Doing::Runs { seat, age: Some(age) } => write!(f, ": runs on worker {seat} for {}", Span(*age))?,
            Doing::Ends { seat } => {
                write!(f, ": over its limit or cancelled; worker {seat} is being killed for it")?
            }
            Doing::Unknown => write!(f, ": its slot was written over")?,
        }
        if self.failed > 0 {
            write!(f, "; {} attempts failed", self.failed)?;
        }
        self.left.map_or(Ok(()), |left| write!(f, "; {} to its deadline", Span(left)))
    }
}
