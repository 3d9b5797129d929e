//! The books of the callers, kept outside of the pools: what was sent, and what became of it.
//!
//! A task is entered before it is submitted, and every end that its caller sees is written down, so that a task which
//! never ended, or ended twice, is known. Workers write down what they run in a file without a name, which survives
//! them.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procpool::Error;

use crate::load::Conduct;

/// The books of one run.
pub(crate) struct Ledger {
    entries: Mutex<Vec<Entry>>,
    record: File,
}

/// One task, or one item of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) pool: u32,
    /// By which call it was sent.
    pub(crate) call: &'static str,
    pub(crate) conduct: Conduct,
    pub(crate) load: usize,
    pub(crate) reply: usize,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: u32,
    /// Items with the same number and pool were sent together, and share their worker's fate.
    pub(crate) chunk: u64,
    pub(crate) entered: Instant,
    /// The pool said that it was cancelled.
    pub(crate) cancelled: bool,
    /// What callbacks were told: whether it was a success.
    pub(crate) heard: Vec<bool>,
    pub(crate) has_callbacks: bool,
    /// Every end that somebody saw, and when. There must be one.
    pub(crate) ends: Vec<(Instant, End)>,
}

impl Entry {
    /// A task that is about to be sent, by itself.
    pub(crate) fn new(
        pool: u32,
        call: &'static str,
        conduct: Conduct,
        (load, reply): (usize, usize),
        timeout: Option<Duration>,
        retries: u32,
    ) -> Self {
        Self {
            pool,
            call,
            conduct,
            load,
            reply,
            timeout,
            retries,
            chunk: u64::MAX,
            entered: Instant::now(),
            cancelled: false,
            heard: Vec::new(),
            has_callbacks: false,
            ends: Vec::new(),
        }
    }
}

/// What became of a task.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// With the right value.
    Returned,
    /// With a value that is not the task's.
    Wrong(String),
    Failed(Error),
    /// The pool did not take it; of a chunk that came before in the same call, nobody asked.
    Refused(Error),
    /// With one of these errors, and nobody knows with which.
    OneOf(Arc<Vec<Error>>),
    /// The caller let go of its handle.
    Abandoned,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    pub(crate) fn open() -> Self {
        // SAFETY: the name is a C string; the descriptor that comes back is nobody else's.
        let record = unsafe {
            let descriptor = libc::memfd_create(c"chaos-record".as_ptr(), libc::MFD_CLOEXEC);
            assert!(descriptor >= 0, "no memory for the record");
            File::from_raw_fd(descriptor)
        };
        Self { entries: Mutex::default(), record }
    }

    /// Where workers write down what they run.
    pub(crate) fn record_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.record.as_raw_fd())
    }

    /// Enters a task; gives its number.
    pub(crate) fn enter(&self, entry: Entry) -> u64 {
        let mut entries = lock(&self.entries);
        let id = entries.len() as u64;
        entries.push(Entry { chunk: id, ..entry });
        id
    }

    pub(crate) fn change<T>(&self, id: u64, change: impl FnOnce(&mut Entry) -> T) -> T {
        change(&mut lock(&self.entries)[id as usize])
    }

    /// Writes down how a task ended.
    pub(crate) fn end(&self, id: u64, end: End) {
        self.change(id, |entry| entry.ends.push((Instant::now(), end)));
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        lock(&self.entries).clone()
    }

    /// Which processes ran each task.
    pub(crate) fn runs(&self) -> HashMap<u64, Vec<u32>> {
        let mut runs: HashMap<u64, Vec<u32>> = HashMap::new();
        let length = self.record.metadata().map_or(0, |record| record.len());
        let mut bytes = vec![0; length as usize];
        self.record.read_exact_at(&mut bytes, 0).expect("the record is as long as it says");
        for line in bytes.as_chunks::<16>().0 {
            let id = u64::from_le_bytes(line[..8].try_into().expect("eight bytes"));
            runs.entry(id).or_default().push(u32::from_le_bytes(line[8..12].try_into().expect("four bytes")));
        }
        runs
    }
}
