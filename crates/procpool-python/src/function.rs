//! What a task calls: a function as bytes, and how it takes its arguments.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A function that was encoded once, for any number of tasks.
///
/// `data` is its pickle. Workers keep the functions of `cacheable` ones by these bytes, and need not decode them again.
#[pyclass(frozen, module = "procpool._procpool")]
pub(crate) struct Function {
    pub(crate) data: Py<PyBytes>,
    /// For messages.
    #[pyo3(get)]
    name: String,
    pub(crate) cacheable: bool,
}

#[pymethods]
impl Function {
    #[new]
    fn new(data: Py<PyBytes>, name: String, cacheable: bool) -> Self {
        Self { data, name, cacheable }
    }

    fn __repr__(&self) -> String {
        format!("<Function {}>", self.name)
    }
}

/// How a function is called with what came along. The numbers are those of `procpool.submission` in Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Call {
    /// `function(*args, **kwds)` of a pair.
    Apply = 0,
    /// `function(*args)`.
    Spread = 1,
    /// `function(argument)`.
    One = 2,
    /// `[function(item) for item in items]`.
    Map = 3,
    /// `[function(*item) for item in items]`.
    StarMap = 4,
}

impl Call {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Apply, Self::Spread, Self::One, Self::Map, Self::StarMap]
            .into_iter()
            .find(|&call| call as u8 == number)
    }
}
