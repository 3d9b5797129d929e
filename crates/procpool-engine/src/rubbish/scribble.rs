//! A worker that writes where it must not: a second mapping of the region, and what is written through it.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SEATS;
use crate::layout::{Header, Layout, SMALL_EXTENT, Seat, Slot};
use crate::os::memory::Mapping;

/// A worker's own mapping of the region.
pub(super) struct Scribbler {
    mapping: Mapping,
    layout: Layout,
}

/// What is written over. Only the first few of each kind: those are the ones in use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Header,
    Seats,
    Ended,
    Summary,
    Cells,
    SmallOwners,
    LargeOwners,
    Slots,
    Payloads,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scribble {
    pub(super) part: Part,
    /// Any number: counted round and round the words of the part.
    pub(super) place: usize,
    pub(super) value: Value,
}

/// What is written: rubbish, or what might be believed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Any(u64),
    /// State, seat, ticket.
    Word(u64, u64, u64),
    /// Slot, ticket.
    Entry(u64, u64),
    /// The offset of a small extent, or of what might be one.
    Offset(u64, u64),
    /// The same again: what lies somewhere else.
    Copy(usize),
}

impl Scribbler {
    pub(super) fn new(memory: BorrowedFd<'_>, layout: Layout) -> Self {
        Self { mapping: Mapping::new(memory, layout.length as usize).unwrap(), layout }
    }

    fn word(&self, part: Part, place: usize) -> &AtomicU64 {
        let layout = &self.layout;
        // Where they are, how many there are, how far apart, and how many bytes of each are worth it.
        let (start, count, stride, length) = match part {
            Part::Header => (0, 1, 0, size_of::<Header>()),
            Part::Seats => (layout.seats, SEATS as usize, size_of::<Seat>(), 192),
            Part::Ended => (layout.ended, 1, 0, 16),
            Part::Summary => (layout.ended_summary, 1, 0, 8),
            Part::Cells => (layout.cells, 1, 0, 256),
            Part::SmallOwners => (layout.small_owners, 1, 0, 512),
            Part::LargeOwners => (layout.large_owners, 1, 0, 64),
            Part::Slots => (layout.slots, 12, size_of::<Slot>(), 48),
            Part::Payloads => (layout.small, 16, SMALL_EXTENT as usize, 64),
        };
        let word = place % (count * length / 8);
        let offset = start as usize + word % count * stride + word / count * 8;
        // SAFETY: inside of the mapping, aligned to 8 bytes, and atomic like all that others do there.
        unsafe { AtomicU64::from_ptr(self.mapping.start().as_ptr().add(offset).cast()) }
    }

    pub(super) fn scribble(&self, scribble: &Scribble) {
        let word = self.word(scribble.part, scribble.place);
        let value = match scribble.value {
            Value::Any(value) => value,
            Value::Word(state, seat, ticket) => state << 60 | seat << 48 | ticket,
            Value::Entry(slot, ticket) => slot << 32 | ticket,
            Value::Offset(extent, into) => self.layout.small + extent * SMALL_EXTENT + into,
            Value::Copy(from) => self.word(scribble.part, from).load(Ordering::Relaxed),
        };
        word.store(value, Ordering::Release);
    }
}
