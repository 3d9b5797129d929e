//! A payload on its way through a slot: how it is written, found and read again.
//!
//! A payload is a *head*, any bytes, and *buffers*, which lie one after the other at multiples of 64 bytes. A
//! small head without buffers travels in the slot; everything else in one block: the head, then the buffers.

use std::sync::Arc;

use crate::block::{ALIGNMENT, Allocator, Block, Lease};
use crate::faults::{Point, point};
use crate::layout::{INLINE, Slot};
use crate::region::Region;
use crate::sync::Ordering;
use crate::task::Occupied;

/// What is to be sent: bytes that the engine copies once, and never looks into.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts<'a> {
    /// Of any length. Up to 216 bytes travel without a block.
    pub head: &'a [u8],
    /// More of the head, for hosts whose encoders produce large pieces: they follow it without a gap.
    pub tail: &'a [&'a [u8]],
    /// Buffers, each of which arrives at a multiple of 64 bytes after the first.
    pub buffers: &'a [&'a [u8]],
}

impl Parts<'_> {
    pub(crate) fn fits_into_slot(&self) -> bool {
        self.head.len() <= INLINE && self.tail.is_empty() && self.buffers.is_empty()
    }

    pub(crate) fn head_length(&self) -> u64 {
        self.head.len() as u64 + self.tail.iter().map(|piece| piece.len() as u64).sum::<u64>()
    }

    /// Bytes that the buffers take, each rounded up to a multiple of 64.
    pub(crate) fn buffers_length(&self) -> u64 {
        self.buffers.iter().map(|buffer| (buffer.len() as u64).next_multiple_of(ALIGNMENT)).sum()
    }
}

/// The task has a time limit: the worker tells the supervisor when it begins.
pub(crate) const TIMED: u32 = 1;
/// The reply is a value.
pub(crate) const RETURNED: u32 = 2;
/// The reply is the host's account of what went wrong.
pub(crate) const RAISED: u32 = 3;
/// The reply would not fit into the arena; its length is in `buffers`.
pub(crate) const NO_ROOM: u32 = 4;
/// Added to the kind of a reply: the argument's block is the worker's now, who gives it back.
pub(crate) const KEPT: u32 = 8;

/// There is no room for so many bytes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom(pub(crate) u64);

/// What a slot says cannot be: a worker wrote rubbish (*I4*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Where a payload lies. Every number was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Inline { head: usize },
    Block { block: Block, head: u64, buffers: u64 },
}

/// Finds room for the payload: in a slot, or in a block that is taken now. Nothing of a slot is touched, so this
/// may be done before there is one.
pub(crate) fn prepare(
    region: &Region,
    allocator: &mut Allocator,
    parts: &Parts<'_>,
) -> Result<Place, NoRoom> {
    if parts.fits_into_slot() {
        return Ok(Place::Inline { head: parts.head.len() });
    }
    let (block, head) = prepare_block(region, allocator, parts)?;
    Ok(Place::Block { block, head, buffers: parts.buffers_length() })
}

/// Takes a block for the payload, however small. Gives it, and the length of the head.
pub(crate) fn prepare_block(
    region: &Region,
    allocator: &mut Allocator,
    parts: &Parts<'_>,
) -> Result<(Block, u64), NoRoom> {
    let head = parts.head_length();
    let length = head.next_multiple_of(ALIGNMENT) + parts.buffers_length();
    let block = allocator.allocate(region, length).ok_or(NoRoom(length))?;
    Ok((block, head))
}

/// Copies the payload to where [`prepare`] found room for it, unless that is in a slot.
pub(crate) fn fill(region: &Region, place: &Place, parts: &Parts<'_>) {
    let Place::Block { block, head, .. } = place else { return };
    let mut offset = block.offset;
    for piece in std::iter::once(&parts.head).chain(parts.tail) {
        region.write(offset, piece);
        offset += piece.len() as u64;
    }
    offset = block.offset + head.next_multiple_of(ALIGNMENT);
    for buffer in parts.buffers {
        region.write(offset, buffer);
        offset += (buffer.len() as u64).next_multiple_of(ALIGNMENT);
    }
    point(Point::Filled);
}

/// Writes down in the slot, which is the caller's, where its payload is; the payload itself where it is small.
pub(crate) fn write(slot: &Slot, kind: u32, place: &Place, head: &[u8]) {
    let (length, block, buffers) = match place {
        Place::Inline { .. } => {
            slot.write_inline(head);
            (head.len() as u64, 0, 0)
        }
        Place::Block { block, head, buffers } => (*head, block.offset, *buffers),
    };
    // ORDER: Relaxed: the slot's word publishes them.
    slot.kind.store(kind, Ordering::Relaxed);
    point(Point::HalfWritten);
    slot.head.store(length, Ordering::Relaxed);
    slot.block.store(block, Ordering::Relaxed);
    slot.buffers.store(buffers, Ordering::Relaxed);
}

/// What kind of reply lies in a slot, and whether the worker kept the argument's block.
pub(crate) fn reply_kind(slot: &Slot) -> (u32, bool) {
    let kind = slot.kind.load(Ordering::Relaxed);
    (kind & !KEPT, kind & KEPT != 0)
}

/// Finds the payload of a slot.
pub(crate) fn read(region: &Region, slot: &Slot) -> Result<Place, Corrupt> {
    let head = slot.head.load(Ordering::Relaxed);
    let block = slot.block.load(Ordering::Relaxed);
    let buffers = slot.buffers.load(Ordering::Relaxed);
    if block == 0 {
        let fits = head <= INLINE as u64 && buffers == 0;
        return if fits { Ok(Place::Inline { head: head as usize }) } else { Err(Corrupt) };
    }
    let length = head
        .checked_next_multiple_of(ALIGNMENT)
        .and_then(|start| start.checked_add(buffers))
        .ok_or(Corrupt)?;
    let block = Block::checked(region, block, length).ok_or(Corrupt)?;
    Ok(Place::Block { block, head, buffers })
}

/// A copy of the first bytes of a task's head, at most `most`. It may be rubbish, since the task's worker may write there
/// at this moment.
pub(crate) fn peek(region: &Region, slot: &Slot, most: usize) -> Vec<u8> {
    match read(region, slot) {
        Ok(Place::Inline { head }) => slot.peek_inline(head.min(most)),
        Ok(Place::Block { block, head, .. }) => region.peek(block.offset, head.min(most as u64)),
        Err(Corrupt) => Vec::new(),
    }
}

/// What a worker sent: the bytes of a head, and the memory of its buffers. Its slot is in use for as long as the
/// payload lives, so it is to be read at once.
pub struct Payload {
    occupied: Occupied,
    content: Content,
}

enum Content {
    Inline { length: usize },
    Block(Arc<Lease>),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes of head)", self.head().len())
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.occupied.vacate();
    }
}

impl Payload {
    /// The reply that lies in a slot: `lease` is the right to read its block, if it has one.
    pub(crate) fn new(occupied: Occupied, place: Place, lease: Option<Arc<Lease>>) -> Self {
        let content = match (place, lease) {
            (Place::Block { .. }, Some(lease)) => Content::Block(lease),
            (Place::Block { .. }, None) => Content::Inline { length: 0 },
            (Place::Inline { head: length }, _) => Content::Inline { length },
        };
        Self { occupied, content }
    }

    /// The head's bytes.
    pub fn head(&self) -> &[u8] {
        match &self.content {
            // SAFETY: the task has ended, so no worker that keeps to the protocol writes there, and the parent does
            // not use the slot again while it is occupied.
            Content::Inline { length } => unsafe { self.occupied.slot().inline_bytes(*length) },
            Content::Block(lease) => lease.head(),
        }
    }

    /// The memory of the buffers, to be held for as long as they are used; `None` for a payload in a slot.
    pub fn lease(&self) -> Option<&Arc<Lease>> {
        match &self.content {
            Content::Inline { .. } => None,
            Content::Block(lease) => Some(lease),
        }
    }
}
