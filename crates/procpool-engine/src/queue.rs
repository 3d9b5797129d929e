//! The queue of ready slots: first in, first out; the parent pushes, workers claim.
//!
//! An entry is a slot's number and the low half of its ticket. *I2*: a worker first claims **the slot**, and only
//! then helps the queue's head past the entry. If it dies between the two, the next worker finds a slot that is
//! not ready and helps the head itself; so no death leaves the queue half-changed, and `head` is but a hint. An
//! entry whose ticket is not the slot's is stale and is passed over, so that a cancelled task's entry can never
//! stand in the way of, nor claim, the slot's next task out of turn.
//!
//! # Growth
//!
//! The queue is made of *levels*, rings of 4096, 8192, … entries, of which it uses the first until that is full.
//! Then the parent begins the next level at the present position, and the old one merely runs empty. A pool that
//! never has more than 4096 tasks waiting keeps its queue in 32 KiB; one with millions waiting touches no more
//! than 16 bytes for each.

use crate::faults::{Point, point};
use crate::slot::{Snapshot, Ticket, Word};
use crate::sync::{AtomicU64, Ordering};

/// Entries of the first level, a power of two.
#[cfg(not(any(loom, shuttle)))]
pub(crate) const FIRST_LEVEL: u64 = 4096;
#[cfg(any(loom, shuttle))]
pub(crate) const FIRST_LEVEL: u64 = 1;

/// The most levels that a queue may have: enough for 2^24 entries.
pub(crate) const LEVELS: usize = 13;

/// How many cells `levels` levels take together.
pub(crate) const fn cells(levels: usize) -> u64 {
    FIRST_LEVEL * ((1 << levels) - 1)
}

const fn level_capacity(level: usize) -> u64 {
    FIRST_LEVEL << level
}

/// Where workers take: on a cache line of its own, since they fight for it.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Head(AtomicU64);

/// Where each level begins; `0` for one that has not begun.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Levels([AtomicU64; LEVELS]);

#[cfg(test)]
impl Head {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

#[cfg(test)]
impl Levels {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// The shared parts of the queue, as one process sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue<'r> {
    pub(crate) head: &'r Head,
    pub(crate) tail: &'r AtomicU64,
    pub(crate) levels: &'r Levels,
    pub(crate) cells: &'r [AtomicU64],
}

/// What is in a cell: which slot, for which task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: u32,
    pub(crate) tag: u32,
}

impl Entry {
    pub(crate) fn new(slot: u32, ticket: Ticket) -> Self {
        Self { slot, tag: ticket as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.tag)
    }

    fn unpack(cell: u64) -> Self {
        Self { slot: (cell >> 32) as u32, tag: cell as u32 }
    }
}

/// The pushing end. The parent's own and private: what a worker scribbles over the shared copy does not matter.
#[derive(Debug)]
pub(crate) struct Tail {
    position: u64,
    level: usize,
    /// Where each level began; 0 for one that has not.
    starts: [u64; LEVELS],
    head_seen: u64,
}

/// A worker's memory of what it saw, so that a busy worker reads the producer's line only when it has caught up.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    level: usize,
    tail_seen: u64,
}

/// The queue has no room until a worker takes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Tail {
    /// Positions begin at 1, so that 0 can mean "this level has not begun".
    pub(crate) fn begin(queue: &Queue<'_>) -> Self {
        let mut tail = Self { position: 1, level: 0, starts: [0; LEVELS], head_seen: 1 };
        tail.starts[0] = 1;
        queue.levels.0[0].store(1, Ordering::Relaxed);
        queue.head.0.store(1, Ordering::Relaxed);
        queue.tail.store(1, Ordering::Release);
        tail
    }

    fn level_start(&self) -> u64 {
        self.starts[self.level]
    }
}

impl Queue<'_> {
    /// Parent: appends an entry for a slot that is `Ready`.
    pub(crate) fn push(&self, tail: &mut Tail, entry: Entry) -> Result<(), Full> {
        self.make_room(tail)?;
        let cell = self.cell(tail.level, tail.position - tail.level_start());
        // ORDER: Relaxed: the tail's Release below publishes the cell.
        self.cells[cell].store(entry.pack(), Ordering::Relaxed);
        point(Point::CellWritten);
        tail.position += 1;
        // ORDER: Release, partner of the Acquire in `next_entry`: a worker that sees the position sees the cell,
        // the level's beginning, and the slot as `Ready`.
        self.tail.store(tail.position, Ordering::Release);
        Ok(())
    }

    fn make_room(&self, tail: &mut Tail) -> Result<(), Full> {
        if self.waiting_in_level(tail) < level_capacity(tail.level) {
            return Ok(());
        }
        // ORDER: Acquire: the cells before `head` have been read by those who moved it.
        tail.head_seen = self.believable_head(tail).unwrap_or_else(|| self.replace_head(tail));
        if self.waiting_in_level(tail) < level_capacity(tail.level) {
            return Ok(());
        }
        let next = tail.level + 1;
        if next == LEVELS || cells(next + 1) > self.cells.len() as u64 {
            return Err(Full);
        }
        self.levels.0[next].store(tail.position, Ordering::Relaxed);
        tail.level = next;
        tail.starts[next] = tail.position;
        Ok(())
    }

    fn waiting_in_level(&self, tail: &Tail) -> u64 {
        tail.position - tail.head_seen.max(tail.level_start())
    }

    /// The shared head; `None` where a worker scribbled a head that cannot be (*I4*).
    fn believable_head(&self, tail: &Tail) -> Option<u64> {
        let head = self.head.0.load(Ordering::Acquire);
        (tail.head_seen..=tail.position).contains(&head).then_some(head)
    }

    /// Begins at the tail instead of at a head that cannot be: entries are lost, and the audit pushes their tasks again.
    fn replace_head(&self, tail: &Tail) -> u64 {
        self.head.0.store(tail.position, Ordering::Release);
        tail.position
    }

    /// Parent, in an audit: whether the shared words are what the private ones allow; mends them if not.
    pub(crate) fn mend(&self, tail: &mut Tail) -> bool {
        let head = self.believable_head(tail);
        tail.head_seen = head.unwrap_or_else(|| self.replace_head(tail));
        let mut sane = head.is_some() && self.tail.load(Ordering::Relaxed) == tail.position;
        for (shared, &private) in self.levels.0.iter().zip(&tail.starts) {
            sane &= shared.swap(private, Ordering::Relaxed) == private;
        }
        self.tail.store(tail.position, Ordering::Release);
        sane
    }

    /// About how many entries wait, stale ones included.
    pub(crate) fn length(&self) -> u64 {
        self.tail.load(Ordering::Relaxed).saturating_sub(self.head.0.load(Ordering::Relaxed))
    }

    /// How far workers have come, as far as this moment can tell.
    pub(crate) fn head(&self) -> u64 {
        self.head.0.load(Ordering::Relaxed)
    }

    /// Whether the queue has entries, as far as this moment can tell.
    pub(crate) fn is_empty(&self) -> bool {
        // ORDER: after the fence of the sleeper's protocol (see PROTOCOL.md); by itself only a hint.
        let head = self.head.0.load(Ordering::Relaxed);
        !self.has_entries(head, self.tail.load(Ordering::Acquire))
    }

    /// Worker: whether it has taken all that it saw. Costs no look at the pusher's cache line.
    pub(crate) fn seems_empty(&self, cursor: &Cursor) -> bool {
        !self.has_entries(self.head.0.load(Ordering::Relaxed), cursor.tail_seen)
    }

    /// Whether entries lie between the two. More than there are cells for is a scribble: then nothing is taken until
    /// the audit has mended it.
    fn has_entries(&self, head: u64, tail: u64) -> bool {
        head < tail && tail - head <= self.cells.len() as u64
    }

    /// Worker: takes the oldest task that is ready. Gives its slot and what the slot's word said.
    pub(crate) fn claim<'s>(
        &self,
        cursor: &mut Cursor,
        seat: u32,
        word: impl Fn(u32) -> Option<&'s Word>,
        mut announce: impl FnMut(Entry),
    ) -> Option<(u32, Snapshot)> {
        loop {
            let (head, entry) = self.next_entry(cursor)?;
            // A slot number out of bounds is rubbish that another worker scribbled: passed over like a stale one.
            let claimed = word(entry.slot).and_then(|word| {
                let seen = word.read();
                if seen.tag() != entry.tag {
                    return None;
                }
                announce(entry);
                word.claim(seen, seat).then_some(seen)
            });
            // *I2*: the slot first, then the head. Whoever fails here was helped by somebody else.
            if claimed.is_some() {
                point(Point::Claimed);
            }
            let _ = self.head.0.compare_exchange(head, head + 1, Ordering::AcqRel, Ordering::Relaxed);
            if let Some(seen) = claimed {
                return Some((entry.slot, seen));
            }
        }
    }

    fn next_entry(&self, cursor: &mut Cursor) -> Option<(u64, Entry)> {
        let head = self.head.0.load(Ordering::Acquire);
        if !self.has_entries(head, cursor.tail_seen) {
            // ORDER: Acquire, partner of the Release in `push`.
            cursor.tail_seen = self.tail.load(Ordering::Acquire);
            if !self.has_entries(head, cursor.tail_seen) {
                return None;
            }
        }
        let start = self.level_of(head, cursor);
        let cell = self.cell(cursor.level, head.wrapping_sub(start));
        Some((head, Entry::unpack(self.cells[cell].load(Ordering::Acquire))))
    }

    /// Moves the cursor to the level that holds `position`, and gives where that level begins.
    fn level_of(&self, position: u64, cursor: &mut Cursor) -> u64 {
        let start = self.levels.0[cursor.level].load(Ordering::Relaxed);
        if start == 0 || start > position {
            // It followed a scribble too far: positions never go back.
            cursor.level = 0;
        }
        while cursor.level + 1 < LEVELS && cells(cursor.level + 2) <= self.cells.len() as u64 {
            let next = self.levels.0[cursor.level + 1].load(Ordering::Relaxed);
            if next == 0 || next > position {
                break;
            }
            cursor.level += 1;
        }
        self.levels.0[cursor.level].load(Ordering::Relaxed)
    }

    /// The cell of the `offset`th entry of a level; always within bounds, whatever the offset.
    fn cell(&self, level: usize, offset: u64) -> usize {
        (cells(level) + (offset & (level_capacity(level) - 1))) as usize
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
