//! A pool's calls with choices: what they may cost, how they are cut and read ahead.

use std::iter;
use std::sync::atomic::Ordering;
use std::time::Duration;

use procpool_engine::{Deadline, Limits, Parts, Task};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::chunks::Guided;
use crate::codec::{self, Encoded, Outgoing};
use crate::error::Result;
use crate::function::{self, Shape};
use crate::handle::AsyncResult;
use crate::imap::{Imap, ImapUnordered};
use crate::map::MapResult;
use crate::pool::Pool;

/// A pool's calls, with choices that hold for them alone. Made by [`Pool::options`].
///
/// ```
/// use std::time::Duration;
///
/// let pool = procpool::Pool::new(2)?;
/// let patient = pool.options().timeout(Duration::from_secs(60)).retries(2);
/// assert_eq!(patient.apply(|x: u32| x / 2, 8)?, 4);
///
/// let endless = pool.options().buffer_size(100).imap(|x: u64| x * x, 0..);
/// let first: Vec<u64> = endless.take(4).collect::<Result<_, _>>()?;
/// assert_eq!(first, [0, 1, 4, 9]);
/// # Ok::<(), procpool::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "options do nothing until a call is made with them"]
pub struct Options<'p> {
    pub(crate) pool: &'p Pool,
    timeout: Option<Duration>,
    deadline: Option<Duration>,
    retries: u32,
    chunk_size: Option<usize>,
    buffer_size: Option<usize>,
}

/// Chunks that `imap` reads ahead for each worker.
const AHEAD: usize = 16;

impl<'p> Options<'p> {
    pub(crate) fn new(pool: &'p Pool) -> Self {
        Self { pool, timeout: None, deadline: None, retries: 0, chunk_size: None, buffer_size: None }
    }

    /// How long a task (a chunk, in `map` and `imap`) may run. One that runs longer is ended with
    /// [`Error::TimedOut`](crate::Error::TimedOut), and its worker replaced. The time in the queue does not count: see
    /// [`Options::deadline`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Until when a task (a chunk, in `map` and `imap`) must have ended, counted from its submission, the time in the
    /// queue included. One that no worker has begun by then is taken off the queue and never runs; one that runs is
    /// ended, and its worker replaced. Both end with [`Error::TimedOut`](crate::Error::TimedOut), which tells them
    /// apart, and there is no further attempt. May be combined with [`Options::timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = procpool::Pool::new(1)?;
    /// let answers = pool.options().timeout(Duration::from_secs(10)).deadline(Duration::from_secs(60));
    /// assert_eq!(answers.apply(|x: u32| x / 2, 8)?, 4);
    /// # Ok::<(), procpool::Error>(())
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How often a task is tried again whose worker died, or which timed out. What a function itself reports, a panic
    /// included, is final.
    ///
    /// The second attempt is made at once. Before each further one the task waits, first 10 ms, then twice as long each
    /// time up to 1.28 s, so that one which kills whoever runs it leaves the workers to others; it can be cancelled
    /// meanwhile. After the last attempt [`Error::WorkerDied`](crate::Error::WorkerDied) has all the deaths that the
    /// task has cost.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// How many items travel together in `map` and `imap`: 0 counts as 1.
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.chunk_size = Some(items.clamp(1, u32::MAX as usize));
        self
    }

    /// How many items `imap` reads ahead of the results that were consumed: at least one chunk. By default 16 chunks
    /// for each worker.
    pub fn buffer_size(mut self, items: usize) -> Self {
        self.buffer_size = Some(items);
        self
    }

    /// As [`Pool::apply`].
    ///
    /// # Errors
    /// As for [`Pool::apply`].
    pub fn apply<A, R>(&self, function: fn(A) -> R, argument: A) -> Result<R>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.apply_async(function, argument)?.get()
    }

    /// As [`Pool::apply_async`].
    ///
    /// # Errors
    /// As for [`Pool::apply_async`].
    #[expect(clippy::needless_pass_by_value, reason = "what is sent away is not the caller's any more")]
    pub fn apply_async<A, R>(&self, function: fn(A) -> R, argument: A) -> Result<AsyncResult<R>>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let task = self.submit(function, Shape::One, |out| {
            let start = out.head.len();
            codec::encode(&argument, out)?;
            Ok(codec::check_faithful::<A>(out, start)?)
        })?;
        Ok(AsyncResult::new(task))
    }

    /// As [`Pool::map`].
    ///
    /// # Errors
    /// As for [`Pool::map`].
    pub fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_async(function, items)?.get()
    }

    /// As [`Pool::map_async`].
    ///
    /// # Errors
    /// As for [`Pool::map_async`].
    pub fn map_async<A, R, I>(&self, function: fn(A) -> R, items: I) -> Result<MapResult<R>>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        let items = items.into_iter();
        let guided = |count| Guided::new(count, self.pool.workers.load(Ordering::Relaxed));
        match (self.chunk_size, items.size_hint()) {
            (Some(size), _) => MapResult::submit(self, function, items, iter::repeat(size)),
            (None, (least, most)) if most == Some(least) => {
                MapResult::submit(self, function, items, guided(least))
            }
            // Items whose number is not known have to be gathered before they can be cut.
            (None, _) => {
                let items: Vec<A> = items.collect();
                let sizes = guided(items.len());
                MapResult::submit(self, function, items.into_iter(), sizes)
            }
        }
    }

    /// As [`Pool::imap`].
    pub fn imap<A, R, I>(&self, function: fn(A) -> R, items: I) -> Imap<'p, A, R, I::IntoIter>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        Imap::new(*self, function, items.into_iter())
    }

    /// As [`Pool::imap_unordered`].
    pub fn imap_unordered<A, R, I>(
        &self,
        function: fn(A) -> R,
        items: I,
    ) -> ImapUnordered<'p, A, R, I::IntoIter>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        ImapUnordered::new(*self, function, items.into_iter())
    }

    /// Items of a chunk of `imap`.
    pub(crate) fn imap_chunk(&self) -> usize {
        self.chunk_size.unwrap_or(1)
    }

    /// Chunks that `imap` has under way at most.
    pub(crate) fn imap_chunks_ahead(&self) -> usize {
        self.buffer_size
            .map_or(AHEAD * self.pool.workers.load(Ordering::Relaxed), |items| items / self.imap_chunk())
            .max(1)
    }

    /// Encodes a request and submits it.
    pub(crate) fn submit<A, R>(
        &self,
        function: fn(A) -> R,
        shape: Shape,
        arguments: impl FnOnce(&mut Encoded) -> Result<()>,
    ) -> Result<Task>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let deadline = self.deadline.map(Deadline::after);
        let limits = Limits { timeout: self.timeout, deadline, retries: self.retries };
        Encoded::with_spare(|out| {
            function::write(function, shape, &mut out.head)?;
            arguments(out)?;
            let parts = |buffers| Parts { head: &out.head, tail: &[], buffers };
            let task = if out.buffers.is_empty() {
                self.pool.engine.submit(&parts(&[]), limits)
            } else {
                let buffers: Vec<&[u8]> = out.buffers.iter().map(Outgoing::bytes).collect();
                self.pool.engine.submit(&parts(&buffers), limits)
            };
            Ok(task?)
        })
    }
}
