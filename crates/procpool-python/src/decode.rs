//! Payloads become objects again.

use std::sync::Arc;

use procpool_engine::Lease;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMemoryView};

use crate::buffer::Buffer;
use crate::frame::{ALIGNMENT, Frame};
use crate::{calls, plain};

/// Pickles that are longer than this are read where they lie.
const COPIED: usize = 4 << 10;

const _: () = assert!(ALIGNMENT as u64 == procpool_engine::ALIGNMENT);

/// A message, taken apart, and the memory of its buffers.
pub(crate) struct Message<'a> {
    pub(crate) frame: Frame<'a>,
    head: &'a [u8],
    lease: Option<&'a Arc<Lease>>,
}

fn corrupt() -> PyErr {
    PyValueError::new_err("the shared memory holds no message of procpool: was it written over?")
}

impl<'a> Message<'a> {
    pub(crate) fn new(head: &'a [u8], lease: Option<&'a Arc<Lease>>) -> PyResult<Self> {
        let frame = Frame::read(head).ok_or_else(corrupt)?;
        Ok(Self { frame, head, lease })
    }

    /// The bytes after all that: an object's pickle, or what else the sender put there.
    fn rest(&self) -> &'a [u8] {
        &self.head[self.frame.start..]
    }

    /// The object. `loads` is pickle's.
    pub(crate) fn object<'py>(&self, loads: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = loads.py();
        if self.frame.has_no_buffers()
            && let Some(object) = plain::read(py, self.rest())
        {
            return Ok(object);
        }
        let data = match self.lease {
            Some(lease) if self.rest().len() > COPIED => {
                let whole = PyMemoryView::from(Bound::new(py, Buffer::of_head(lease))?.as_any())?;
                whole.get_item(pyo3::types::PySlice::new(
                    py,
                    self.frame.start.cast_signed(),
                    isize::MAX,
                    1,
                ))?
            }
            _ => PyBytes::new(py, self.rest()).into_any(),
        };
        if self.frame.has_no_buffers() {
            return calls::call(loads, (data,));
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "buffers"), self.buffers(py)?)?;
        calls::call_with(loads, (data,), Some(&keywords))
    }

    fn buffers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let lease = self.lease.ok_or_else(corrupt)?;
        let buffers = PyList::empty(py);
        for place in self.frame.buffers(lease.buffers().len()) {
            let buffer = place.and_then(|place| Buffer::of_part(lease, place)).ok_or_else(corrupt)?;
            buffers.append(PyMemoryView::from(Bound::new(py, buffer)?.as_any())?)?;
        }
        Ok(buffers)
    }
}
