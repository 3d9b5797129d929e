//! Shared memory as a Python buffer: writable, aligned to 64 bytes, given back when the last view dies.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;

use procpool_engine::Lease;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// A part of a payload's block. Whoever views it holds it, and it holds the block, also after the pool has gone.
#[pyclass(frozen, module = "procpool._procpool")]
pub(crate) struct Buffer {
    /// Lies in the block of `_lease`.
    start: *mut u8,
    length: usize,
    _lease: Arc<Lease>,
}

// SAFETY: the memory is shared between processes; who may write to it when is the affair of the Python code that views
// it, as with every buffer in Python. The pointer is valid as long as the lease, which goes along.
unsafe impl Send for Buffer {}
// SAFETY: as above; nothing of the object itself changes.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `part` must be a part of the memory of `lease`.
    fn new(lease: Arc<Lease>, part: &[u8]) -> Self {
        Self { start: part.as_ptr().cast_mut(), length: part.len(), _lease: lease }
    }

    /// The payload's head.
    pub(crate) fn of_head(lease: &Arc<Lease>) -> Self {
        Self::new(lease.clone(), lease.head())
    }

    /// A part of the payload's buffers; `None` where there is no such part.
    pub(crate) fn of_part(lease: &Arc<Lease>, place: Range<usize>) -> Option<Self> {
        Some(Self::new(lease.clone(), lease.buffers().get(place)?))
    }
}

#[pymethods]
impl Buffer {
    /// # Safety
    /// The interpreter calls it with a view that is to be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        let (start, length) = (slf.get().start.cast::<c_void>(), slf.get().length);
        let result =
            // SAFETY: the memory is valid while this object lives, to which the view takes a reference.
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length.cast_signed(), 0, flags) };
        if result == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
