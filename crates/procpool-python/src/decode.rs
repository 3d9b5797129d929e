//! Payloads become objects again.

use std::sync::Arc;

use procpool_engine::{ALIGNMENT, Lease};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMemoryView};

use crate::buffer::Buffer;
use crate::encode::HEADER;

/// Pickles that are longer than this are read where they lie.
const COPIED: usize = 4 << 10;

/// A message, taken apart. Nothing in it is believed before it was checked: a worker may write rubbish.
pub(crate) struct Message<'a> {
    pub(crate) call: u8,
    pub(crate) cacheable: bool,
    pub(crate) function: &'a [u8],
    /// Where the object's pickle begins.
    start: usize,
    head: &'a [u8],
    lengths: &'a [u8],
    lease: Option<&'a Arc<Lease>>,
}

fn corrupt() -> PyErr {
    PyValueError::new_err("the shared memory holds no message of procpool: was it written over?")
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
}

impl<'a> Message<'a> {
    pub(crate) fn new(head: &'a [u8], lease: Option<&'a Arc<Lease>>) -> PyResult<Self> {
        let (header, rest) = head.split_at_checked(HEADER).ok_or_else(corrupt)?;
        let (count, length) = (number(&header[4..8]), number(&header[8..12]));
        let (lengths, rest) =
            count.checked_mul(8).and_then(|size| rest.split_at_checked(size)).ok_or_else(corrupt)?;
        let (function, pickle) = rest.split_at_checked(length).ok_or_else(corrupt)?;
        let start = head.len() - pickle.len();
        Ok(Self { call: header[0], cacheable: header[1] != 0, function, start, head, lengths, lease })
    }

    /// The function's pickle in a message of which this is the beginning; it may end early.
    pub(crate) fn function_in(head: &'a [u8]) -> Option<&'a [u8]> {
        let (header, rest) = head.split_at_checked(HEADER)?;
        let (count, length) = (number(&header[4..8]), number(&header[8..12]));
        let function = rest.get(count.checked_mul(8)?..)?;
        Some(&function[..length.min(function.len())])
    }

    /// The bytes after all that: an object's pickle, or what else the sender put there.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.head[self.start..]
    }

    /// The object. `loads` is pickle's.
    pub(crate) fn object<'py>(&self, loads: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = loads.py();
        let data = match self.lease {
            Some(lease) if self.rest().len() > COPIED => {
                let whole = PyMemoryView::from(Bound::new(py, Buffer::of_head(lease))?.as_any())?;
                whole.get_item(pyo3::types::PySlice::new(py, self.start.cast_signed(), isize::MAX, 1))?
            }
            _ => PyBytes::new(py, self.rest()).into_any(),
        };
        if self.lengths.is_empty() {
            return loads.call1((data,));
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "buffers"), self.buffers(py)?)?;
        loads.call((data,), Some(&keywords))
    }

    fn buffers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let lease = self.lease.ok_or_else(corrupt)?;
        let buffers = PyList::empty(py);
        let mut start = 0;
        for length in self.lengths.chunks_exact(8).map(number) {
            let buffer = Buffer::of_part(lease, start, length).ok_or_else(corrupt)?;
            buffers.append(PyMemoryView::from(Bound::new(py, buffer)?.as_any())?)?;
            start += length.next_multiple_of(ALIGNMENT as usize);
        }
        Ok(buffers)
    }
}
