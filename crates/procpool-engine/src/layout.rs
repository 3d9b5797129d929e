//! What lies where in the region: plain data, the same in the parent and in every worker.
//!
//! Everything is found by offsets from the region's start, never by pointers, since each process maps it at an
//! address of its own. A region is big and sparse: pages exist where they were touched.

use std::cell::UnsafeCell;

use crate::queue::{self, Head, Levels};
use crate::slot::{Event, Word};
use crate::sync::{AtomicU8, AtomicU32, AtomicU64};
use crate::wake::{Bed, Idlers, SEATS};
use crate::wakeup::{Cost, Rung};

/// Bytes of payload that a slot holds itself. With up to 24 of them a task touches one cache line of its slot.
pub(crate) const INLINE: usize = 216;

/// Bytes of an extent of the small zone.
pub(crate) const SMALL_EXTENT: u64 = 1 << 10;

/// Bytes of an extent of the large zone.
pub(crate) const LARGE_EXTENT: u64 = 256 << 10;

/// Bytes of last words that a worker can leave behind.
pub(crate) const NOTE: usize = 1536;

/// The bytes that open a region: a wrong descriptor is told at once.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"procpool");

/// Changes whenever this file does: parent and worker may come from different builds.
pub(crate) const VERSION: u64 = 2;

const PAGE: u64 = 4096;

/// A task's place in shared memory.
#[repr(C, align(256))]
pub(crate) struct Slot {
    /// Where the task is in its life.
    pub(crate) word: Word,
    /// Who is to be told of its end.
    pub(crate) event: Event,
    /// What the payload is: [`crate::payload`] names the bits.
    pub(crate) kind: AtomicU32,
    /// Bytes of the payload's head.
    pub(crate) head: AtomicU64,
    /// Offset in the region of the payload's block; 0 for a payload in the slot itself.
    pub(crate) block: AtomicU64,
    /// Bytes of the payload's buffers.
    pub(crate) buffers: AtomicU64,
    /// The payload, if it fits.
    pub(crate) inline: UnsafeCell<[u8; INLINE]>,
}

// SAFETY: the bytes of `inline` are written by the parent while the slot is its own (before `publish`), and by the
// worker that claimed it (before `finish`); the word's transitions order the two (*I1*, *I3*).
unsafe impl Sync for Slot {}

/// What the parent and one worker tell each other, beside tasks.
#[repr(C, align(2048))]
pub(crate) struct Seat {
    /// What the worker sleeps on; its waker writes here.
    pub(crate) bed: Bed,
    /// From the parent: leave after the present task.
    pub(crate) dismissed: AtomicU32,
    /// Who last appointed this worker: when, and from which CPU.
    pub(crate) rung: Rung,
    _line: [u8; 104],
    /// From the worker, see [`crate::seat`].
    pub(crate) status: AtomicU32,
    /// Length of the note.
    pub(crate) note_length: AtomicU32,
    /// The queue entry that it runs, or is about to claim; all ones for none. Written *before* the claim.
    pub(crate) current: AtomicU64,
    /// When it claimed it, in nanoseconds of the monotonic clock.
    pub(crate) since: AtomicU64,
    /// How many tasks this process has ended.
    pub(crate) finished: AtomicU64,
    /// How many of those ended with the host's account of an error.
    pub(crate) raised: AtomicU64,
    /// Last words: a panic's message, why the set-up failed.
    pub(crate) note: [AtomicU8; NOTE],
}

/// The region's first pages.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU64,
    pub(crate) geometry: GeometryWords,
    pub(crate) rules: RulesWords,
    /// RUN, CLOSED, STOPPED: see [`crate::region::Phase`].
    pub(crate) phase: AtomicU32,
    /// For tests: the point at which the next worker dies.
    pub(crate) fault: AtomicU32,
    /// The collector sleeps here.
    pub(crate) collector: AtomicU32,
    pub(crate) small_high: AtomicU64,
    pub(crate) large_high: AtomicU64,
    /// From workers: what it costs to wake one. Not beside `phase`, which is read for every task.
    pub(crate) wakeup: Cost,
    pub(crate) push: PushLine,
    pub(crate) head: Head,
    pub(crate) levels: Levels,
}

/// What a pusher writes and what it reads after that, on one cache line.
#[repr(C, align(128))]
pub(crate) struct PushLine {
    pub(crate) tail: AtomicU64,
    pub(crate) idlers: Idlers,
}

/// How many of everything there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) slots: u64,
    pub(crate) levels: u64,
    pub(crate) small: u64,
    pub(crate) large: u64,
}

/// [`Geometry`] as it lies in the header.
#[repr(C)]
pub(crate) struct GeometryWords {
    pub(crate) slots: AtomicU64,
    pub(crate) levels: AtomicU64,
    pub(crate) small: AtomicU64,
    pub(crate) large: AtomicU64,
}

/// What workers keep to, as it lies in the header; written before the first worker exists.
#[repr(C)]
pub(crate) struct RulesWords {
    /// Tasks after which a worker leaves; 0 for no limit.
    pub(crate) tasks: AtomicU64,
    /// Bytes of its own memory after which a worker leaves; 0 for no limit.
    pub(crate) memory: AtomicU64,
    /// Whether an idle worker looks for work before it sleeps: 1 or 0.
    pub(crate) spin: AtomicU64,
    /// The host's set-up data: offset of the block, length of its head, length of the whole.
    pub(crate) setup: AtomicU64,
    pub(crate) setup_head: AtomicU64,
    pub(crate) setup_length: AtomicU64,
}

/// Offsets of all parts, and the whole length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) geometry: Geometry,
    pub(crate) seats: u64,
    pub(crate) ended: u64,
    pub(crate) ended_summary: u64,
    pub(crate) cells: u64,
    pub(crate) small_owners: u64,
    pub(crate) large_owners: u64,
    pub(crate) slots: u64,
    pub(crate) small: u64,
    pub(crate) large: u64,
    pub(crate) length: u64,
}

impl Geometry {
    /// The biggest region: 2^24 tasks, 8 GiB of small blocks, and as much for large ones as `memory` bytes.
    pub(crate) fn largest(memory: u64) -> Self {
        if cfg!(shuttle) {
            return Self { slots: 64, levels: 4, small: 32, large: 1 };
        }
        let large = memory.clamp(1 << 30, 1 << 40) / LARGE_EXTENT;
        Self { slots: 1 << 24, levels: queue::LEVELS as u64, small: 8 << 20, large }
    }

    /// The next smaller one, for where address space is short; `None` below what is of use.
    pub(crate) fn smaller(self) -> Option<Self> {
        let levels = self.levels.checked_sub(1).filter(|&levels| levels >= 1)?;
        let at_least = |count: u64, least: u64| (count / 2).max(least);
        let slots = self.slots / 2;
        Some(Self { slots, levels, small: at_least(self.small, 256), large: at_least(self.large, 8) })
    }

    /// Where everything lies; `None` where the counts cannot be (read from a damaged header).
    pub(crate) fn layout(self) -> Option<Layout> {
        let possible = (1..=queue::LEVELS as u64).contains(&self.levels)
            && (64..=1 << 24).contains(&self.slots)
            && (1..=1 << 28).contains(&self.small)
            && (1..=1 << 28).contains(&self.large);
        if !possible {
            return None;
        }
        let mut end = size_of::<Header>() as u64;
        let mut place = |length: u64, align: u64| {
            let start = end.next_multiple_of(align);
            end = start + length;
            start
        };
        Some(Layout {
            geometry: self,
            seats: place((SEATS * size_of::<Seat>()) as u64, PAGE),
            ended: place(self.slots.div_ceil(64) * 8, PAGE),
            ended_summary: place(self.slots.div_ceil(4096) * 8, PAGE),
            cells: place(queue::cells(self.levels as usize) * 8, PAGE),
            small_owners: place(self.small * 4, PAGE),
            large_owners: place(self.large * 4, PAGE),
            slots: place(self.slots * size_of::<Slot>() as u64, PAGE),
            small: place(self.small * SMALL_EXTENT, PAGE),
            large: place(self.large * LARGE_EXTENT, LARGE_EXTENT),
            length: place(0, PAGE),
        })
    }
}

// What other processes rely on: nobody changes it unawares.
const _: () = assert!(size_of::<Slot>() == 256);
const _: () = assert!(std::mem::offset_of!(Slot, inline) == 40);
const _: () = assert!(size_of::<Seat>() == 2048);
const _: () = assert!(std::mem::offset_of!(Seat, status) == 128);
const _: () = assert!(std::mem::offset_of!(PushLine, idlers) == 8);
