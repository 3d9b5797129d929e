//! What tasks are given, what they do, and how both sides know that every byte arrived.

use std::fs::File;
use std::hash::Hasher;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use procpool::Buffer;
use serde::{Deserialize, Serialize};

use crate::adversary::memory;

/// The variable that tells workers where they write down what they run.
pub(crate) const RECORD: &str = "PROCPOOL_CHAOS_RECORD";

/// How long a task sleeps that is meant to be ended by somebody else.
const OVERSLEEP: Duration = Duration::from_secs(120);

/// What a task is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Errand {
    /// Its number in the ledger.
    pub(crate) id: u64,
    pub(crate) conduct: Conduct,
    /// How many bytes it brings back.
    pub(crate) reply: usize,
    pub(crate) load: Load,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Conduct {
    /// Comes back after so many microseconds.
    Work(u32),
    /// Panics.
    Panic,
    /// Sends its own process this signal.
    Signal(i32),
    /// Ends its own process with this status.
    Exit(i32),
    /// Sleeps until its time limit, or whoever cancels it.
    Oversleep,
    /// Takes memory until the kernel's OOM killer comes.
    Gorge,
}

/// Bytes that travel in the task's slot or head, or out of band.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Load {
    Head(Vec<u8>),
    Buffer(Buffer<u8>),
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) id: u64,
    /// The checksum of what arrived.
    sum: u64,
    load: Load,
}

/// Loads longer than this go out of band.
const HEAD: usize = 20_000;

/// So many tasks give away what they were given, for one that keeps it.
const KEPT_OF: u64 = 4;

/// Replies are not what requests were.
const REPLY_SALT: u64 = 0x5eed;

impl Load {
    /// The bytes that belong to a number: everybody who knows it can tell whether they are right.
    pub(crate) fn of(seed: u64, length: usize) -> Self {
        let mut bytes = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        if length > HEAD { Self::Buffer(bytes.into()) } else { Self::Head(bytes) }
    }

    fn sum(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(match self {
            Self::Head(bytes) => bytes,
            Self::Buffer(bytes) => bytes,
        });
        hasher.finish()
    }
}

impl Receipt {
    /// What is wrong with it, as the answer to this errand.
    pub(crate) fn fault(&self, id: u64, load_length: usize, reply: usize) -> Option<String> {
        if self.id != id {
            return Some(format!("it is the result of task {}", self.id));
        }
        if self.sum != Load::of(id, load_length).sum() {
            return Some(format!("the {load_length} bytes that the task was given arrived changed"));
        }
        (self.load != Load::of(id ^ REPLY_SALT, reply))
            .then(|| format!("the {reply} bytes came back changed"))
    }
}

/// What a panic says.
pub(crate) fn last_words(id: u64) -> String {
    format!("task {id} panics as it was told")
}

/// Workers: what they do before their first task. They must be able to write down what they run, whatever limits
/// their zygote was born with.
pub(crate) fn prepare(_: ()) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is whole, and only this process's own soft limit changes.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    record();
}

fn record() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = std::env::var(RECORD).expect("the load names the record");
        File::options().append(true).open(path).expect("the record is open in the parent")
    })
}

/// The task.
pub(crate) fn run(errand: Errand) -> Receipt {
    let Errand { id, conduct, reply, load } = errand;
    let mut line = [0; 16];
    line[..8].copy_from_slice(&id.to_le_bytes());
    line[8..12].copy_from_slice(&std::process::id().to_le_bytes());
    // One write to a file opened for appending: whole, whoever else writes.
    record().write_all(&line).expect("the record takes all lines");
    match conduct {
        Conduct::Work(micros) => std::thread::sleep(Duration::from_micros(micros.into())),
        Conduct::Panic => panic!("{}", last_words(id)),
        Conduct::Signal(signal) => die(signal),
        // SAFETY: `_exit` has no precondition.
        Conduct::Exit(status) => unsafe { libc::_exit(status) },
        Conduct::Oversleep => std::thread::sleep(OVERSLEEP),
        Conduct::Gorge => memory::gorge(),
    }
    let sum = load.sum();
    if id % KEPT_OF == 0 {
        keep(load);
    }
    Receipt { id, sum, load: Load::of(id ^ REPLY_SALT, reply) }
}

/// Holds what a task was given until another task's takes its place: its memory must stay what it is.
fn keep(load: Load) {
    static KEPT: Mutex<Option<(Load, u64)>> = Mutex::new(None);
    let sum = load.sum();
    let before = KEPT.lock().unwrap_or_else(PoisonError::into_inner).replace((load, sum));
    if let Some((load, sum)) = before {
        assert_eq!(load.sum(), sum, "what was kept has changed");
    }
}

fn die(signal: i32) {
    // SAFETY: the default action of these signals ends this process, which is what the task is for.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
    }
    std::thread::sleep(OVERSLEEP);
}
