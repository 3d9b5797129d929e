//! The crate's one error, and how the engine's outcomes become it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use procpool_engine::launch::ExitStatus;
use procpool_engine::{Breakdown, Death, Failure, PoolError, Refusal, SandboxError, TimeLimit};

use crate::codec::CodecError;
use crate::task::{Panic, Raised};

/// What all calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed: what happened, to which task and worker, and what can be done about it.
///
/// ```
/// use procpool::{Error, Pool};
///
/// let pool = Pool::new(1)?;
/// match pool.apply(|_: ()| -> u8 { panic!("no luck") }, ()) {
///     Err(Error::Panicked { message, location, .. }) => {
///         assert_eq!(message, "no luck");
///         assert!(location.is_some());
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The task panicked. Its worker goes on.
    #[error("the task panicked{}: {message}{}", at(.location), backtrace.as_deref().map(|trace| format!("\n{trace}")).unwrap_or_default())]
    Panicked {
        /// What it said.
        message: String,
        /// File, line and column; `None` where the task had replaced the panic hook.
        location: Option<String>,
        /// Where `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` asks for one, in the worker's environment.
        backtrace: Option<String>,
    },

    /// The worker died while it ran the task. Another takes its place, and no other task is lost.
    /// With [`Options::retries`](crate::Options::retries) it was the last of several: see [`WorkerDeath::earlier`].
    #[error("{0}; {advice}", advice = advice(.0))]
    WorkerDied(WorkerDeath),

    /// The time of the task was over: its `timeout` or its `deadline`. If it ran, its worker was killed for that.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = procpool::Pool::new(1)?;
    /// let late = pool.options().deadline(Duration::ZERO).apply_async(|x: u8| x, 1)?;
    /// match late.get() {
    ///     Err(procpool::Error::TimedOut { ran: None, .. }) => println!("it never began, and may be sent again"),
    ///     Err(procpool::Error::TimedOut { ran: Some(ran), .. }) => println!("it was ended after {ran:?}"),
    ///     other => println!("a fast machine: {other:?}"),
    /// }
    /// # Ok::<(), procpool::Error>(())
    /// ```
    #[error("the task was ended: {}", over(.ran, .limit))]
    TimedOut {
        /// How long it had run, at its last attempt; `None` if no worker ever began it.
        ran: Option<Duration>,
        /// Which time was over.
        limit: TimeLimit,
    },

    /// A wait ended before the task did. The task goes on, and its handle is as good as before.
    #[error("the task has not ended yet; it goes on, and may be waited for again")]
    NotReady,

    /// The task was cancelled.
    #[error("the task was cancelled")]
    Cancelled,

    /// The pool was terminated or dropped before the task had ended, or before it was submitted.
    #[error("the pool was terminated")]
    Terminated,

    /// The task's worker used more memory than the pool allows, and was killed for that.
    #[error(
        "the task's worker used {seen} bytes of memory of its own, and the pool allows {limit}: `memory_limit_hard`; at \
         its peak it had {peak}, shared memory included"
    )]
    MemoryLimit {
        /// The memory of its own that it was seen with, in bytes.
        seen: u64,
        /// The most memory that the process ever had, in bytes, as the kernel counts it: shared memory and the program's
        /// own pages included. At least `seen`.
        peak: u64,
        /// What was allowed of its own, in bytes.
        limit: u64,
    },

    /// An argument could not be encoded, or a result not decoded, in this process.
    #[error(transparent)]
    Codec(Arc<CodecError>),

    /// The worker could not read the task: its argument could not be decoded, or its function is not there.
    #[error("the worker could not read the task: {message}")]
    Argument {
        /// What the worker said; it names the type.
        message: String,
    },

    /// The worker could not encode the task's result.
    #[error("the worker could not send the task's result: {message}")]
    ResultNotSent {
        /// What the worker said; it names the type.
        message: String,
    },

    /// The function is not part of this program's own code, as one from a shared library is not.
    #[error(
        "`{function}` is not in the program's own code, where workers could find it; wrap it in a function or closure \
         of the program, or register one with #[procpool::task]"
    )]
    NotInExecutable {
        /// The function's type.
        function: &'static str,
    },

    /// A payload that the shared memory has no room for, now or ever.
    #[error("{bytes} bytes find no room in the pool's memory{}; {}", of(.arena), room(.arena))]
    NoRoom {
        /// What was needed, in bytes; 0 where it was a place for one more task.
        bytes: u64,
        /// What there is, in bytes, where that is less than was needed.
        arena: Option<u64>,
    },

    /// A worker wrote over the shared memory, and this task's result with it.
    #[error(
        "the task's result was overwritten: some task wrote where it must not, look for unsound `unsafe` code"
    )]
    Corrupt,

    /// The pool was closed, and takes no more tasks.
    #[error("the pool is closed; submit before `close`")]
    Closed,

    /// `join` was called on a pool that still takes tasks.
    #[error("the pool still takes tasks; call `close` or `terminate` before `join`")]
    StillOpen,

    /// The initializer failed in a worker: it panicked, or its argument could not be decoded. The pool gave up.
    #[error("the initializer failed in a worker, and the pool gave up: {message}")]
    InitializerFailed {
        /// What it said.
        message: String,
    },

    /// Workers died one after the other without finishing a task between them. The pool gave up.
    #[error(
        "the pool gave up: {deaths} workers died within {within:?} and finished no task between them; the last one: \
         {last}; look at what the initializer does, or raise `restart_intensity`"
    )]
    TooManyDeaths {
        /// How many died.
        deaths: usize,
        /// Within how long.
        within: Duration,
        /// The last of them.
        last: Box<WorkerDeath>,
    },

    /// No worker could be started. The pool gave up.
    #[error("no worker could be started, and the pool gave up: {0}")]
    NotStarted(Arc<std::io::Error>),

    /// Workers cannot be shut in as they should. Nothing ran outside of the sandbox.
    #[error(transparent)]
    Sandbox(Arc<SandboxError>),

    /// A number of workers that cannot be.
    #[error("a pool has 1 to {most} workers, not {0}", most = procpool_engine::MAX_WORKERS)]
    Workers(usize),

    /// The system refused what a pool needs.
    #[error("cannot {what}: {error}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        #[source]
        error: Arc<std::io::Error>,
    },

    /// This process is a fork of the one that made the pool, and has no workers.
    #[error("this process is a fork of the one that made the pool; make a pool of its own after the fork")]
    Forked,
}

fn at(location: &Option<String>) -> String {
    location.as_ref().map(|place| format!(" at {place}")).unwrap_or_default()
}

fn over(ran: &Option<Duration>, limit: &TimeLimit) -> String {
    match (limit, ran) {
        (TimeLimit::Timeout(span), ran) => {
            format!("it had run for {:?}, and its timeout is {span:?}", ran.unwrap_or_default())
        }
        (TimeLimit::Deadline(span), Some(ran)) => {
            format!("its deadline of {span:?} after its submission has passed; it had run for {ran:?}")
        }
        (TimeLimit::Deadline(span), None) => {
            format!("its deadline of {span:?} after its submission has passed; no worker had begun it")
        }
    }
}

fn advice(death: &WorkerDeath) -> String {
    if death.earlier().is_empty() {
        return "only this task is lost, `retries` would try it again".to_owned();
    }
    let earlier: Vec<String> = death.earlier().iter().map(ToString::to_string).collect();
    format!("it was not the first worker that this task has cost: {}", earlier.join("; "))
}

fn of(arena: &Option<u64>) -> String {
    arena.map(|arena| format!(", which has {arena} in all")).unwrap_or_default()
}

fn room(arena: &Option<u64>) -> &'static str {
    match arena {
        Some(_) => "send less at once, or raise RLIMIT_AS and RLIMIT_FSIZE if they are low",
        None => "take the results of tasks that have ended, or send less at once",
    }
}

/// The death of a worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerDeath {
    /// The process.
    pub pid: u32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The status with which it exited.
    pub code: Option<i32>,
    /// The number of the task that it was running.
    pub task: Option<u64>,
    /// Its last words: the message of a panic that was not caught, as with `panic = "abort"`.
    pub note: Option<String>,
    // Results should be small, and deaths are rare.
    account: Box<Account>,
}

/// What is told of a death beside what programs ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    death: Death,
    earlier: Vec<WorkerDeath>,
}

impl WorkerDeath {
    /// The name of the signal that killed it, such as `SIGSEGV`.
    pub fn signal_name(&self) -> Option<&'static str> {
        self.signal.map(procpool_engine::os::signal::name)
    }

    /// How the workers of earlier attempts at the same task died, the oldest first: none, unless there were
    /// [`retries`](crate::Options::retries). Attempts that timed out are not among them. Of more than a thousand, the
    /// last thousand.
    ///
    /// ```
    /// let pool = procpool::Pool::new(1)?;
    /// let poison = |_: ()| -> u8 { std::process::exit(3) };
    /// let error = pool.options().retries(2).apply(poison, ()).unwrap_err();
    /// let procpool::Error::WorkerDied(death) = error else { panic!("{error}") };
    /// let codes: Vec<_> = death.earlier().iter().chain([&death]).map(|death| death.code).collect();
    /// assert_eq!(codes, [Some(3); 3]);
    /// # Ok::<(), procpool::Error>(())
    /// ```
    pub fn earlier(&self) -> &[WorkerDeath] {
        &self.account.earlier
    }

    fn with_earlier(last: Death, earlier: Vec<Death>) -> Self {
        let mut last = Self::from(last);
        last.account.earlier = earlier.into_iter().map(Self::from).collect();
        last
    }
}

impl fmt::Display for WorkerDeath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.account.death.fmt(f)
    }
}

impl From<Death> for WorkerDeath {
    fn from(death: Death) -> Self {
        let (signal, code) = match death.status {
            ExitStatus::Signaled(signal) => (Some(signal), None),
            ExitStatus::Exited(code) => (None, Some(code)),
            ExitStatus::Unknown => (None, None),
        };
        let (pid, task, note) = (death.pid, death.ticket, death.note.clone());
        Self { pid, signal, code, task, note, account: Box::new(Account { death, earlier: Vec::new() }) }
    }
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        Self::Codec(Arc::new(error))
    }
}

impl From<Raised> for Error {
    fn from(raised: Raised) -> Self {
        match raised {
            Raised::Panicked(Panic { message, location, backtrace }) => {
                Self::Panicked { message, location, backtrace }
            }
            Raised::Argument(message) => Self::Argument { message },
            Raised::Result(message) => Self::ResultNotSent { message },
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Died { last, earlier } => Self::WorkerDied(WorkerDeath::with_earlier(last, earlier)),
            Failure::TimedOut { ran, limit } => Self::TimedOut { ran, limit },
            Failure::Cancelled => Self::Cancelled,
            Failure::Terminated => Self::Terminated,
            Failure::Forked => Self::Forked,
            Failure::MemoryLimit { seen, peak, limit } => Self::MemoryLimit { seen, peak, limit },
            Failure::NoRoom { bytes } => Self::NoRoom { bytes, arena: None },
            Failure::Broken(why) => (&*why).into(),
            _ => Self::Corrupt,
        }
    }
}

impl From<&Breakdown> for Error {
    fn from(why: &Breakdown) -> Self {
        match why {
            Breakdown::Setup { message } => Self::InitializerFailed { message: message.clone() },
            Breakdown::Sandbox { message } => {
                Self::Sandbox(Arc::new(SandboxError::NotEntered { message: message.clone() }))
            }
            Breakdown::Restarts { deaths, within, last } => {
                let last = Box::new(last.clone().into());
                Self::TooManyDeaths { deaths: *deaths, within: *within, last }
            }
            Breakdown::Launch { error } => Self::NotStarted(error.clone()),
            _ => Self::Terminated,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Closed => Self::Closed,
            Refusal::Broken(why) => (&*why).into(),
            Refusal::Full { bytes } => Self::NoRoom { bytes, arena: None },
            Refusal::TooLarge { bytes, arena } => Self::NoRoom { bytes, arena: Some(arena) },
            Refusal::Forked => Self::Forked,
            _ => Self::Terminated,
        }
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Workers(count) => Self::Workers(count),
            PoolError::Sandbox(error) => Self::Sandbox(Arc::new(error)),
            PoolError::StillOpen => Self::StillOpen,
            PoolError::Broken(why) => (&*why).into(),
            PoolError::System { what, error } => Self::System { what, error: Arc::new(error) },
            _ => Self::Forked,
        }
    }
}
