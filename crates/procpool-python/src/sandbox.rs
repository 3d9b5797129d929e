//! What workers may do, as a value of Python.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use procpool_engine as engine;
use procpool_engine::{Confinement, SandboxError};
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// What a pool's workers may do: nothing but to read files and to compute, unless it says so.
///
/// Whatever it says, they may use shared memory, start threads, fork, and write into what was open already; and they may
/// not gain privileges. What is refused raises `PermissionError` in the task. docs/security.md has the rest.
///
/// Args:
///     write: files and folders that may be changed, with all that is below them. They have to exist.
///     network: whether sockets may be made and connected; those of the Unix family count.
///     programs: whether programs may be started. They are in the same sandbox.
///     memory: how much memory of its own a worker may have, in bytes; beyond, there is `MemoryError`.
///     open_files: how many descriptors a worker may have open.
///     file_size: how long a file that a worker writes may become, in bytes.
#[pyclass(frozen, eq, module = "procpool._procpool")]
#[derive(Clone, PartialEq)]
pub(crate) struct Sandbox(engine::Sandbox);

#[pymethods]
impl Sandbox {
    #[new]
    #[pyo3(signature = (*, write=Vec::new(), network=false, programs=false, memory=None, open_files=None,
                        file_size=None))]
    fn new(
        write: Vec<PathBuf>,
        network: bool,
        programs: bool,
        memory: Option<u64>,
        open_files: Option<u64>,
        file_size: Option<u64>,
    ) -> Self {
        let mut sandbox = engine::Sandbox::new().network(network).programs(programs);
        (sandbox.write, sandbox.memory) = (write, memory);
        (sandbox.open_files, sandbox.file_size) = (open_files, file_size);
        Self(sandbox)
    }

    /// Files and folders that may be changed, with all that is below them.
    #[getter]
    fn write<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let paths = self.0.write.iter().map(|path| path.as_os_str().into_pyobject(py));
        PyTuple::new(py, paths.collect::<Result<Vec<_>, _>>()?)
    }

    /// Whether sockets may be made and connected.
    #[getter]
    fn network(&self) -> bool {
        self.0.network
    }

    /// Whether programs may be started.
    #[getter]
    fn programs(&self) -> bool {
        self.0.programs
    }

    /// How much memory of its own a worker may have, in bytes.
    #[getter]
    fn memory(&self) -> Option<u64> {
        self.0.memory
    }

    /// How many descriptors a worker may have open.
    #[getter]
    fn open_files(&self) -> Option<u64> {
        self.0.open_files
    }

    /// How long a file that a worker writes may become, in bytes.
    #[getter]
    fn file_size(&self) -> Option<u64> {
        self.0.file_size
    }

    /// Raises what making a pool with it would raise here: `SandboxError` where this system cannot enforce it, an
    /// `OSError` where something in `write` cannot be opened.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.confine().map(drop).map_err(|error| failed(py, &error))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let named = PyDict::new(py);
        named.set_item("write", self.write(py)?)?;
        named.set_item("network", self.0.network)?;
        named.set_item("programs", self.0.programs)?;
        named.set_item("memory", self.0.memory)?;
        named.set_item("open_files", self.0.open_files)?;
        named.set_item("file_size", self.0.file_size)?;
        Ok((PyTuple::empty(py), named))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (_, named) = self.__getnewargs_ex__(py)?;
        let argument = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            Ok(format!("{}={}", name.str()?, value.repr()?))
        };
        let arguments = named.iter().map(argument).collect::<PyResult<Vec<_>>>()?;
        Ok(format!("Sandbox({})", arguments.join(", ")))
    }
}

impl Sandbox {
    pub(crate) fn engine(&self) -> engine::Sandbox {
        self.0.clone()
    }

    /// For a worker that was handed the ruleset.
    pub(crate) fn confinement(&self, ruleset: OwnedFd) -> Confinement {
        self.0.confinement(ruleset)
    }
}

/// Why workers cannot be shut in, as an exception.
pub(crate) fn failed(py: Python<'_>, error: &SandboxError) -> PyErr {
    let text = error.to_string();
    match error {
        SandboxError::Path { path, error } => PyOSError::new_err((
            error.raw_os_error(),
            format!("the sandbox lets workers write what cannot be opened: {error}"),
            path.clone().into_os_string(),
        )),
        SandboxError::Missing { mechanism, .. } => made(py, (text, Some(mechanism.name()))),
        _ => made(py, (text, None)),
    }
}

fn made(py: Python<'_>, arguments: (String, Option<&str>)) -> PyErr {
    let class = py.import("procpool.errors").and_then(|errors| errors.getattr(intern!(py, "SandboxError")));
    class.and_then(|class| class.call1(arguments)).map_or_else(|error| error, PyErr::from_value)
}
