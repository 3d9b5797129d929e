//! Values to bytes and back.
//!
//! A value becomes a *head* and *buffers*. The head is postcard's format, byte for byte; it lies in the slot
//! or in an arena block. Buffers are the contents of [`Buffer`](crate::Buffer)s, which are too big to be
//! copied more often than needed: the head holds a reference (length, offset) to each, and the receiver reads
//! them where they lie.
//!
//! ```text
//! head:           ... | length 4000 | offset 64 | ...        several values, one after another
//! buffers' area:  [ buffer 0 ..... | buffer 1 .............. ]
//!                 0                64                        4096     each begins at a multiple of 64 bytes
//! ```
//!
//! What must always hold:
//! - Decoding trusts nothing: head and area come from another process, which may have gone mad. Whatever they
//!   contain, the end is a value or an error: no panic, no access out of bounds, no memory or time out of
//!   proportion to their size.
//! - Values nested too deep (see `nesting`) end in an error on either side, instead of in a stack overflow.
//! - A small value is encoded without allocating, once the [`Encoded`] is warm.
//!
//! There is no trait over formats: there is one format, and the parent and its workers are the same program.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod area;
mod decoder;
mod encoder;
mod error;
mod faithful;
pub(crate) mod handover;
mod nesting;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::decoder::{Decoder, Input};
use self::encoder::{Encoder, Output};
pub use self::error::CodecError;
use self::error::{Fault, Reason};

/// Each buffer begins at a multiple of this, from the start of the buffers' area: enough for every plain type
/// that is not aligned by hand, and a cache line.
pub(crate) const BUFFER_ALIGNMENT: usize = 64;

/// Buffers up to this many bytes are copied into the head: cheaper than a place of their own.
pub(crate) const INLINE_BYTES: usize = 1024;

/// Memory that somebody keeps in place and unchanged for as long as this exists. It is given back when the
/// last clone of the `Arc` around it is dropped.
pub(crate) trait Lease: Send + Sync {
    /// All of it, and the same at each call. Of a buffers' area: aligned to [`BUFFER_ALIGNMENT`].
    fn bytes(&self) -> &[u8];
}

/// A part of a [`Lease`].
#[derive(Clone)]
pub(crate) struct Lent {
    lease: Arc<dyn Lease>,
    start: usize,
    length: usize,
}

impl Lent {
    /// The whole of a lease.
    pub(crate) fn whole(lease: Arc<dyn Lease>) -> Lent {
        let length = lease.bytes().len();
        Lent { lease, start: 0, length }
    }

    /// The part that begins at `start`, if all of it is there.
    fn part(lease: &Arc<dyn Lease>, start: usize, length: usize) -> Option<Lent> {
        lease.bytes().get(start..start.checked_add(length)?)?;
        Some(Lent { lease: Arc::clone(lease), start, length })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.lease.bytes()[self.start..self.start + self.length]
    }
}

/// A buffer on its way out. Its bytes stay alive until they have been copied to shared memory.
pub(crate) struct Outgoing {
    /// Where it belongs, from the start of the buffers' area.
    offset: usize,
    content: Lent,
}

impl Outgoing {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.content.bytes()
    }

    fn end(&self) -> usize {
        self.offset + self.bytes().len().next_multiple_of(BUFFER_ALIGNMENT)
    }
}

/// One or more encoded values, one after another.
#[derive(Default)]
pub(crate) struct Encoded {
    pub(crate) head: Vec<u8>,
    pub(crate) buffers: Vec<Outgoing>,
}

/// A thread keeps the memory of its spare [`Encoded`] up to this many bytes.
const SPARE_BYTES: usize = 256 * 1024;

thread_local! {
    static SPARE: Cell<Option<Box<Encoded>>> = const { Cell::new(None) };
}

impl Encoded {
    /// Lends an empty `Encoded` that keeps its memory from one use to the next. A value whose `Serialize`
    /// submits a task of its own gets another one: the spare is taken out for as long as it is used.
    pub(crate) fn with_spare<R>(action: impl FnOnce(&mut Encoded) -> R) -> R {
        // `try_with`: a thread that is ending has no storage any more, and can submit all the same.
        let mut encoded = SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default();
        let result = action(&mut encoded);
        encoded.clear();
        if encoded.capacity() <= SPARE_BYTES {
            let _ = SPARE.try_with(|spare| spare.set(Some(encoded)));
        }
        result
    }

    /// Empties it and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        self.buffers.clear();
    }

    fn capacity(&self) -> usize {
        self.head.capacity() + self.buffers.capacity() * size_of::<Outgoing>()
    }

    /// How long the buffers' area is so far, the last buffer rounded up.
    fn area_length(&self) -> usize {
        self.buffers.last().map_or(0, Outgoing::end)
    }

    /// Finds a buffer its place in the area. One that was sent a moment ago, such as the same table in each
    /// task of a chunk, is sent once.
    fn place(&mut self, content: Lent) -> usize {
        const LOOK_BACK: usize = 8;
        let mut recent = self.buffers.iter().rev().take(LOOK_BACK);
        if let Some(same) = recent.find(|earlier| std::ptr::eq(earlier.bytes(), content.bytes())) {
            return same.offset;
        }
        let offset = self.area_length();
        self.buffers.push(Outgoing { offset, content });
        offset
    }
}

/// The buffers that came with a head.
pub(crate) struct Buffers {
    area: Option<Arc<dyn Lease>>,
}

impl Buffers {
    /// For a head that came alone.
    pub(crate) const NONE: Buffers = Buffers { area: None };

    pub(crate) fn new(area: Arc<dyn Lease>) -> Buffers {
        Buffers { area: Some(area) }
    }

    /// The buffer to which a head refers, if it lies in the area as a buffer must.
    fn find(&self, offset: usize, length: usize) -> Result<Lent, Fault> {
        let aligned = offset.is_multiple_of(BUFFER_ALIGNMENT);
        let found = self.area.as_ref().filter(|_| aligned).and_then(|area| Lent::part(area, offset, length));
        found.ok_or_else(|| {
            let area = self.area.as_ref().map_or(0, |area| area.bytes().len());
            Reason::BufferOutOfBounds { offset, length, area }.into()
        })
    }
}

/// Appends a value. After an error `out` is as it was before; after a panic in the value's own `Serialize` it
/// may hold a part of it, so clear it.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Encoded) -> Result<(), CodecError> {
    let (head, buffers) = (out.head.len(), out.buffers.len());
    let mut output = Output::new(out);
    value.serialize(Encoder::new(&mut output)).map_err(|fault| {
        out.head.truncate(head);
        out.buffers.truncate(buffers);
        CodecError::encode::<T>(fault)
    })
}

/// Takes a value from the front of `head`, and says how many bytes of it were used.
pub(crate) fn decode<T: DeserializeOwned>(head: &[u8], buffers: &Buffers) -> Result<(T, usize), CodecError> {
    let mut input = Input::new(head, buffers);
    match T::deserialize(Decoder::new(&mut input)) {
        Ok(value) => Ok((value, head.len() - input.left())),
        Err(fault) => Err(CodecError::decode::<T>(fault)),
    }
}

/// Takes a value that must be all that `head` holds.
pub(crate) fn decode_whole<T: DeserializeOwned>(head: &[u8], buffers: &Buffers) -> Result<T, CodecError> {
    let (value, used) = decode::<T>(head, buffers)?;
    match head.len() - used {
        0 => Ok(value),
        left => Err(CodecError::decode::<T>(Reason::TrailingBytes(left).into())),
    }
}

/// Debug builds: makes sure that a value just encoded, the one from `start` on, arrives as it was sent.
///
/// Most types that this format cannot carry fail by themselves, with a reason. A few would arrive changed,
/// and nothing in serde tells them apart (a variant marked `skip` in the midst of an enum, `skip_serializing`
/// alone). So the first values of each type are decoded and encoded again. They count as the same if the same
/// bytes come out in whatever order, since a `HashMap` has another order each time.
pub(crate) fn check_faithful<T>(encoded: &Encoded, start: usize) -> Result<(), CodecError>
where
    T: Serialize + DeserializeOwned + 'static,
{
    /// More than this would take too long; values with buffers count as such.
    const TRIED_BYTES: usize = 64 * 1024;
    let sent = &encoded.head[start..];
    let small = sent.len() <= TRIED_BYTES && encoded.buffers.is_empty();
    if cfg!(debug_assertions) && small && faithful::is_due::<T>() {
        faithful::try_out::<T>(sent).map_err(CodecError::encode::<T>)?;
    }
    Ok(())
}
