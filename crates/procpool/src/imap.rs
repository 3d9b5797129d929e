//! `imap`: items read as results are consumed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::mpsc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::map::Chunk;
use crate::options::Options;

/// What both iterators read from.
struct Source<'p, A, R, I> {
    options: Options<'p>,
    function: fn(A) -> R,
    /// `None` once there are no more items, or the pool takes none.
    items: Option<I>,
    /// Why the pool takes none; given after the results that are still to come.
    refused: Option<Error>,
}

impl<A, R, I> Source<'_, A, R, I>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
    I: Iterator<Item = A>,
{
    fn next_chunk(&mut self) -> Option<Chunk> {
        let items = self.items.as_mut()?;
        match Chunk::submit(&self.options, self.function, items, self.options.imap_chunk()) {
            Ok(Some(chunk)) => return Some(chunk),
            Ok(None) => {}
            Err(error) => self.refused = Some(error),
        }
        self.items = None;
        None
    }

    fn is_full(&self, chunks: usize) -> bool {
        chunks >= self.options.imap_chunks_ahead()
    }
}

/// Results in the items' order, as an iterator. Made by [`Pool::imap`](crate::Pool::imap).
///
/// An item that failed is an `Err` in its place; the others come all the same. Where the pool refuses items, closed
/// for instance, the iterator ends with that error.
///
/// ```
/// let pool = procpool::Pool::new(2)?;
/// let lengths = pool.imap(|line: String| line.len(), ["one".to_owned(), "three".to_owned()]);
/// for length in lengths {
///     println!("{}", length?);
/// }
/// # Ok::<(), procpool::Error>(())
/// ```
#[must_use = "iterators are lazy: beyond what is read ahead, nothing runs until results are asked for"]
pub struct Imap<'p, A, R, I> {
    source: Source<'p, A, R, I>,
    under_way: VecDeque<Chunk>,
    ready: VecDeque<Result<R>>,
}

impl<A, R, I> fmt::Debug for Imap<'_, A, R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

impl<'p, A, R, I> Imap<'p, A, R, I>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
    I: Iterator<Item = A>,
{
    pub(crate) fn new(options: Options<'p>, function: fn(A) -> R, items: I) -> Self {
        let source = Source { options, function, items: Some(items), refused: None };
        let mut imap = Self { source, under_way: VecDeque::new(), ready: VecDeque::new() };
        imap.read_ahead();
        imap
    }

    fn read_ahead(&mut self) {
        while !self.source.is_full(self.under_way.len()) {
            let Some(chunk) = self.source.next_chunk() else { return };
            self.under_way.push_back(chunk);
        }
    }
}

impl<A, R, I> Iterator for Imap<'_, A, R, I>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
    I: Iterator<Item = A>,
{
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let Some(chunk) = self.under_way.pop_front() else {
                return self.source.refused.take().map(Err);
            };
            chunk.take(|result| self.ready.push_back(result));
            self.read_ahead();
        }
        self.ready.pop_front()
    }
}

/// Results as they come, as an iterator. Made by [`Pool::imap_unordered`](crate::Pool::imap_unordered); otherwise as
/// [`Imap`].
///
/// ```
/// let pool = procpool::Pool::new(2)?;
/// let mut squares: Vec<u32> = pool.imap_unordered(|x: u32| x * x, 0..5).collect::<Result<_, _>>()?;
/// squares.sort();
/// assert_eq!(squares, [0, 1, 4, 9, 16]);
/// # Ok::<(), procpool::Error>(())
/// ```
#[must_use = "iterators are lazy: beyond what is read ahead, nothing runs until results are asked for"]
pub struct ImapUnordered<'p, A, R, I> {
    source: Source<'p, A, R, I>,
    under_way: HashMap<u64, Chunk>,
    ready: VecDeque<Result<R>>,
    told: mpsc::Receiver<u64>,
    tell: mpsc::Sender<u64>,
}

impl<A, R, I> fmt::Debug for ImapUnordered<'_, A, R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapUnordered").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

impl<'p, A, R, I> ImapUnordered<'p, A, R, I>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
    I: Iterator<Item = A>,
{
    pub(crate) fn new(options: Options<'p>, function: fn(A) -> R, items: I) -> Self {
        let source = Source { options, function, items: Some(items), refused: None };
        let (tell, told) = mpsc::channel();
        let mut imap = Self { source, under_way: HashMap::new(), ready: VecDeque::new(), told, tell };
        imap.read_ahead();
        imap
    }

    fn read_ahead(&mut self) {
        while !self.source.is_full(self.under_way.len()) {
            let Some(chunk) = self.source.next_chunk() else { return };
            let (tell, ticket) = (self.tell.clone(), chunk.task.ticket());
            // Nobody hears it when the iterator is gone by then.
            let unheard = chunk.task.listen(move || {
                let _ = tell.send(ticket);
            });
            if let Some(listener) = unheard {
                listener();
            }
            self.under_way.insert(ticket, chunk);
        }
    }

    fn wait_for_one(&self) -> Option<u64> {
        if self.under_way.values().next().is_some_and(|chunk| chunk.task.is_unheard_here()) {
            // In a callback nobody tells of ends meanwhile.
            let (&ticket, first) = self.under_way.iter().min_by_key(|(ticket, _)| **ticket)?;
            first.task.wait(None);
            return Some(ticket);
        }
        // Every task under way is told of once, and this iterator holds a sender: no error, and no waiting for ever.
        self.told.recv().ok()
    }
}

impl<A, R, I> Iterator for ImapUnordered<'_, A, R, I>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
    I: Iterator<Item = A>,
{
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            if self.under_way.is_empty() {
                return self.source.refused.take().map(Err);
            }
            let ticket = self.wait_for_one()?;
            if let Some(chunk) = self.under_way.remove(&ticket) {
                chunk.take(|result| self.ready.push_back(result));
            }
            self.read_ahead();
        }
        self.ready.pop_front()
    }
}
