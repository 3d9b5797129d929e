//! The compiled part of the Python package `procpool`: the engine's handles, buffers and waits.
//!
//! What is Python's own (states, exceptions, chunks, iterators, processes) is Python, in the package. Here is what a
//! task costs each time: objects become payloads (`encode`) and payloads objects (`decode`), a task is handed to the
//! engine (`engine`), waited for (`task`), and run (`worker`). The interpreter's lock is released around every wait.

mod buffer;
mod calls;
mod decode;
mod encode;
mod engine;
mod frame;
mod function;
mod launcher;
mod limits;
mod notices;
mod plain;
mod sandbox;
mod task;
mod worker;

use pyo3::prelude::*;

/// Runs the handlers of signals that have come, if this is the main thread; gives what one of them raised.
fn handle_signals() -> PyResult<()> {
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is not general enough")]
    Python::attach(|py| py.check_signals())
}

/// The engine of procpool, for the Python package `procpool` alone.
#[pymodule(gil_used = true)]
mod _procpool {
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::function::Function;
    #[pymodule_export]
    use crate::limits::Limits;
    #[pymodule_export]
    use crate::sandbox::Sandbox;
    #[pymodule_export]
    use crate::task::Task;
    #[pymodule_export]
    use crate::task::take_values;
    #[pymodule_export]
    use crate::worker::work;
}
