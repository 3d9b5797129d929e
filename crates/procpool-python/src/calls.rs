//! Calls into Python, from which a thread may not come back.
//!
//! An interpreter before 3.14 that ends also ends its daemon threads, each as soon as it wants the interpreter's lock again:
//! by `pthread_exit`, which unwinds the thread's stack. In the middle of a call that is beneath frames of Rust, and the
//! process would be aborted. So such a thread stays where it is for ever instead, as it does from 3.14 on; PyO3 sees to
//! that where it takes the lock itself.

use std::ptr;

use pyo3::BoundObject;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple};

// PyO3 declares them as functions that never unwind.
// SAFETY: the signatures are those of CPython's headers, in every version.
unsafe extern "C-unwind" {
    fn PyObject_Call(
        callable: *mut PyObject,
        arguments: *mut PyObject,
        keywords: *mut PyObject,
    ) -> *mut PyObject;
    fn PyIter_Next(iterator: *mut PyObject) -> *mut PyObject;
}

/// Never comes to its end: whoever drops it stays for ever.
struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

fn guarded<R>(call: impl FnOnce() -> R) -> R {
    let last = Last;
    let returned = call();
    std::mem::forget(last);
    returned
}

/// `callable(*arguments)`.
pub(crate) fn call<'py, A>(callable: &Bound<'py, PyAny>, arguments: A) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple>,
{
    call_with(callable, arguments, None)
}

/// `callable(*arguments, **keywords)`.
pub(crate) fn call_with<'py, A>(
    callable: &Bound<'py, PyAny>,
    arguments: A,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple>,
{
    let py = callable.py();
    let arguments = arguments.into_pyobject(py).map_err(Into::into)?.into_bound();
    let keywords = keywords.map_or(ptr::null_mut(), Bound::as_ptr);
    // SAFETY: all are objects that outlive the call, the arguments a tuple and the keywords a dict or none; the thread
    // has the interpreter's lock. What comes back is a new reference, or null with an exception set.
    unsafe {
        let returned = guarded(|| PyObject_Call(callable.as_ptr(), arguments.as_ptr(), keywords));
        Bound::from_owned_ptr_or_err(py, returned)
    }
}

/// The iterator's next item; `None` at its end.
pub(crate) fn next<'py>(iterator: &Bound<'py, PyIterator>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = iterator.py();
    // SAFETY: an iterator that outlives the call; the thread has the interpreter's lock. What comes back is a new
    // reference, or null: at the end, or with an exception set.
    let item = unsafe { Bound::from_owned_ptr_or_opt(py, guarded(|| PyIter_Next(iterator.as_ptr()))) };
    match item {
        Some(item) => Ok(Some(item)),
        None => PyErr::take(py).map_or(Ok(None), Err),
    }
}
