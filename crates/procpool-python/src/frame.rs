//! How a message lies in a payload. Here is no Python: what a worker may have written over is taken apart first, and only
//! then does the interpreter see any of it.
//!
//! ```text
//! head:     call | kept? | 0 0 | count of buffers | length of function | lengths of buffers | function | pickle
//!           1      1       2     4                  4                    8 each
//! buffers:  each at a multiple of 64 bytes
//! ```

use std::ops::Range;

/// Bytes before the lengths of the buffers.
const HEADER: usize = 12;

/// Each buffer begins at a multiple of this: the engine's `ALIGNMENT`.
pub(crate) const ALIGNMENT: usize = 64;

/// A head up to where the pickle begins, with room for a short one.
pub(crate) fn begin(
    call: u8,
    cacheable: bool,
    buffers: impl ExactSizeIterator<Item = usize>,
    function: &[u8],
) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    head.extend([call, cacheable.into(), 0, 0]);
    head.extend((buffers.len() as u32).to_le_bytes());
    head.extend((function.len() as u32).to_le_bytes());
    buffers.for_each(|length| head.extend((length as u64).to_le_bytes()));
    head.extend(function);
    head
}

/// A head, taken apart. Nothing in it is believed before it was checked: a worker may write rubbish.
pub(crate) struct Frame<'a> {
    pub(crate) call: u8,
    pub(crate) cacheable: bool,
    pub(crate) function: &'a [u8],
    /// Where the object's pickle begins.
    pub(crate) start: usize,
    lengths: &'a [[u8; 8]],
}

impl<'a> Frame<'a> {
    /// `None` where the parts that it names are not there.
    pub(crate) fn read(head: &'a [u8]) -> Option<Self> {
        let (header, rest) = head.split_at_checked(HEADER)?;
        let (count, length) = (number(&header[4..8]), number(&header[8..12]));
        let (lengths, rest) = rest.split_at_checked(count.checked_mul(8)?)?;
        let (function, pickle) = rest.split_at_checked(length)?;
        Some(Self {
            call: header[0],
            cacheable: header[1] != 0,
            function,
            start: head.len() - pickle.len(),
            lengths: lengths.as_chunks().0,
        })
    }

    /// The function in a head of which this is the beginning; it may end early.
    pub(crate) fn function_in(head: &'a [u8]) -> Option<&'a [u8]> {
        let (header, rest) = head.split_at_checked(HEADER)?;
        let (count, length) = (number(&header[4..8]), number(&header[8..12]));
        let function = rest.get(count.checked_mul(8)?..)?;
        Some(&function[..length.min(function.len())])
    }

    pub(crate) fn has_no_buffers(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Where the buffers lie in an area of so many bytes; `None` for each that would not lie in it.
    pub(crate) fn buffers(&self, area: usize) -> impl Iterator<Item = Option<Range<usize>>> {
        let mut start = 0_usize;
        self.lengths.iter().map(move |length| {
            let end = start.checked_add(number(length)).filter(|&end| end <= area)?;
            let place = start..end;
            // Within the area, so that it is no overflow.
            start = end.next_multiple_of(ALIGNMENT);
            Some(place)
        })
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
}
