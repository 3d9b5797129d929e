//! `map`: items cut into chunks, results put together again.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use procpool_engine::{Outcome, Task};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::error::{Error, Result};
use crate::function::Shape;
use crate::options::Options;
use crate::task;

/// A chunk under way: its task, and how many items it has.
pub(crate) struct Chunk {
    pub(crate) task: Task,
    pub(crate) items: usize,
}

impl Chunk {
    /// Reads up to `size` items and submits them; `None` where there are none left.
    pub(crate) fn submit<A, R>(
        options: &Options<'_>,
        function: fn(A) -> R,
        items: &mut impl Iterator<Item = A>,
        size: usize,
    ) -> Result<Option<Self>>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let Some(first) = items.next() else { return Ok(None) };
        let mut count: u32 = 0;
        let task = options.submit(function, Shape::Chunk, |out| {
            let start = out.head.len();
            out.head.extend_from_slice(&[0; 4]);
            for item in std::iter::once(first).chain(items.take(size - 1)) {
                let start = out.head.len();
                codec::encode(&item, out)?;
                codec::check_faithful::<A>(out, start)?;
                count += 1;
            }
            out.head[start..start + 4].copy_from_slice(&count.to_le_bytes());
            Ok(())
        })?;
        Ok(Some(Self { task, items: count as usize }))
    }

    /// Waits for the chunk and gives each item's result, in order, to `give`.
    pub(crate) fn take<R: DeserializeOwned>(self, mut give: impl FnMut(Result<R>)) {
        let error: Error = match self.task.take() {
            Outcome::Returned(payload) => {
                let buffers = task::buffers_of(&payload);
                return task::with_head(&payload, |head| {
                    task::read_items(self.items, head, &buffers, &mut give);
                });
            }
            Outcome::Raised(payload) => {
                let buffers = task::buffers_of(&payload);
                task::with_head(&payload, |head| task::read_raised(head, &buffers))
            }
            Outcome::Failed(failure) => failure.into(),
        };
        (0..self.items).for_each(|_| give(Err(error.clone())));
    }
}

/// The results of a map, once all are there. Made by [`Pool::map_async`](crate::Pool::map_async).
///
/// ```
/// let pool = procpool::Pool::new(2)?;
/// let doubled = pool.map_async(|x: u16| x * 2, [1, 2, 3])?;
/// assert_eq!(doubled.get()?, [2, 4, 6]);
/// # Ok::<(), procpool::Error>(())
/// ```
#[must_use = "dropping the handle gives the results away; the items are run all the same"]
pub struct MapResult<R> {
    chunks: Vec<Chunk>,
    result: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for MapResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapResult").field("chunks", &self.chunks.len()).finish_non_exhaustive()
    }
}

impl<R: Serialize + DeserializeOwned + 'static> MapResult<R> {
    pub(crate) fn submit<A>(
        options: &Options<'_>,
        function: fn(A) -> R,
        mut items: impl Iterator<Item = A>,
        sizes: impl Iterator<Item = usize>,
    ) -> Result<Self>
    where
        A: Serialize + DeserializeOwned + 'static,
    {
        let mut chunks = Vec::new();
        for size in sizes {
            match Chunk::submit(options, function, &mut items, size)? {
                Some(chunk) => chunks.push(chunk),
                None => break,
            }
        }
        Ok(Self { chunks, result: PhantomData })
    }

    /// Waits for all results, and gives them in the items' order.
    ///
    /// # Errors
    /// The error of the first item, in order, which has one; the other items are run all the same.
    pub fn get(self) -> Result<Vec<R>> {
        let mut results = Vec::with_capacity(self.chunks.iter().map(|chunk| chunk.items).sum());
        let mut failed = None;
        for chunk in self.chunks {
            chunk.take(|result| match result {
                Ok(value) => results.push(value),
                Err(error) => failed = failed.take().or(Some(error)),
            });
        }
        failed.map_or(Ok(results), Err)
    }

    /// Waits for all results, and gives each item's own: what became of one item does not hide the others.
    pub fn get_each(self) -> Vec<Result<R>> {
        let mut results = Vec::with_capacity(self.chunks.iter().map(|chunk| chunk.items).sum());
        for chunk in self.chunks {
            chunk.take(|result| results.push(result));
        }
        results
    }

    /// Waits until all items have ended.
    pub fn wait(&self) {
        for chunk in &self.chunks {
            chunk.task.wait(None);
        }
    }

    /// As [`MapResult::wait`], for at most `timeout`. True when all items have ended.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.chunks.iter().all(|chunk| chunk.task.wait(left()))
    }

    /// Whether all items have ended.
    pub fn is_ready(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.task.is_ended())
    }

    /// Cancels the chunks that no worker has yet. Gives how many items those were.
    pub fn cancel(&self) -> usize {
        self.chunks.iter().filter(|chunk| chunk.task.cancel()).map(|chunk| chunk.items).sum()
    }
}
