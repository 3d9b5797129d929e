//! A pool of the engine, as the package drives it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procpool_engine::launch::{ExitStatus, LaunchEvent};
use procpool_engine::{self as engine, Config, Parts, Pool, PoolError, Refusal};
use pyo3::exceptions::{PyException, PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyTuple};

use crate::calls;
use crate::encode::{Encoded, Encoder};
use crate::frame::Frame;
use crate::function::{Call, Function};
use crate::launcher::{self, Exchange, First, PythonLauncher};
use crate::limits::Limits;
use crate::sandbox::{self, Sandbox};
use crate::task::{Host, Task, broken, span};

/// How long a wait for workers lasts at most before it looks after signals.
const LOOK: Duration = Duration::from_millis(100);

/// How many bytes are encoded at most before other threads may have the interpreter.
const AT_ONCE: usize = 64 << 10;

/// A pool of the engine: tasks in, processes wanted, notices out.
#[pyclass(frozen, module = "procpool._procpool")]
pub(crate) struct Engine {
    pool: Pool,
    exchange: Arc<Exchange>,
    /// For workers: the shared memory, the parent, the supervisor's eventfd; the sandbox's ruleset.
    descriptors: Option<Vec<OwnedFd>>,
    encoder: Encoder,
    host: Arc<Host>,
}

/// Says to the reader of notices that there will be no more, when the pool and all handles are gone.
impl Drop for Engine {
    fn drop(&mut self) {
        self.host.notices.end();
    }
}

fn refused(py: Python<'_>, host: &Host, refusal: &Refusal) -> PyErr {
    match refusal {
        Refusal::Closed | Refusal::Terminated => PyValueError::new_err("Pool not running"),
        Refusal::Forked => PyRuntimeError::new_err(
            "this pool belongs to the parent process: a forked child cannot use it, and needs a pool of its own",
        ),
        Refusal::Broken(why) => {
            let details = broken(py, why).and_then(|details| details.bind(py).extract::<(bool, String)>());
            let error = details.and_then(|(setup, text)| {
                calls::call(host.failed.bind(py), ("broken", py.None(), setup, text))
            });
            error.map_or_else(|error| error, PyErr::from_value)
        }
        Refusal::TooLarge { bytes, arena } => PyMemoryError::new_err(format!(
            "an argument of {bytes} bytes is larger than all of the pool's shared memory, which has {arena} bytes"
        )),
        other => PyRuntimeError::new_err(format!("the pool took no task: {other:?}")),
    }
}

fn failed(error: PoolError) -> PyErr {
    match error {
        PoolError::System { what, error } => {
            let text = format!("could not {what}: {error}");
            error.raw_os_error().map_or_else(
                || PyOSError::new_err(text.clone()),
                |code| PyOSError::new_err((code, text.clone())),
            )
        }
        PoolError::Workers(count) => PyValueError::new_err(format!(
            "a pool has from 1 to {} workers, not {count}",
            procpool_engine::MAX_WORKERS
        )),
        PoolError::Sandbox(error) => Python::attach(|py| sandbox::failed(py, &error)),
        PoolError::Forked => PyRuntimeError::new_err("this pool belongs to the parent process"),
        other => PyRuntimeError::new_err(format!("{other:?}")),
    }
}

impl Engine {
    fn accept<'py>(
        &self,
        py: Python<'py>,
        function: &Py<Function>,
        encoded: &Encoded,
        limits: Option<&Limits>,
    ) -> PyResult<Option<Bound<'py, Task>>> {
        let limits = limits.map_or_else(engine::Limits::default, Limits::of_task);
        match encoded.send(py, |parts| self.pool.try_submit(parts, limits)) {
            Ok(task) => {
                let function = function.clone_ref(py);
                Task::new(py, task, function, self.host.clone()).map(Some)
            }
            Err(Refusal::Full { .. }) => Ok(None),
            Err(refusal) => Err(refused(py, &self.host, &refusal)),
        }
    }
}

#[pymethods]
impl Engine {
    /// Starts a pool. `start(seat, descriptors)` is called for the first workers, here and now, and gives their pids.
    #[new]
    #[pyo3(signature = (*, name, workers, tasks_per_worker, memory_soft, memory_hard, grace, spin, sandbox,
                        start, make_pickler, reducers, loads, raised, failed))]
    #[allow(clippy::too_many_arguments, reason = "all by name, and given once, by the package")]
    fn new(
        py: Python<'_>,
        name: String,
        workers: usize,
        tasks_per_worker: Option<u64>,
        memory_soft: Option<u64>,
        memory_hard: Option<u64>,
        grace: f64,
        spin: bool,
        sandbox: Option<&Sandbox>,
        start: Py<PyAny>,
        make_pickler: Py<PyAny>,
        reducers: Vec<Py<PyDict>>,
        loads: Py<PyAny>,
        raised: Py<PyAny>,
        failed: Py<PyAny>,
    ) -> PyResult<Self> {
        let mut config =
            Config { name, tasks_per_worker, memory_soft, memory_hard, spin, ..Config::new(workers) };
        config.grace = span(Some(grace)).unwrap_or(config.grace);
        config.sandbox = sandbox.map(Sandbox::engine);
        let exchange = Exchange::new()?;
        let error = Arc::new(Mutex::new(None));
        let mut kept = None;
        let pool = Pool::start(config, &Parts::default(), |descriptors| {
            let descriptors = kept.insert(launcher::duplicates(descriptors)?);
            let numbers = launcher::numbers(py, descriptors).map_err(std::io::Error::other)?;
            let first = First::new(start, numbers.unbind(), error.clone());
            Ok(Box::new(PythonLauncher::new(exchange.clone(), first)))
        });
        let pool = pool.map_err(self::failed)?;
        if let Some(error) = error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let never = |seat| LaunchEvent::Failed { seat, error: std::io::Error::other(error.to_string()) };
            (0..workers as u32).map(never).for_each(|event| exchange.tell(event));
            py.detach(|| drop(pool));
            return Err(error);
        }
        let encoder = Encoder::new(py, make_pickler, reducers);
        let host = Arc::new(Host { loads, raised, failed, notices: Arc::default() });
        Ok(Self { pool, exchange, descriptors: kept, encoder, host })
    }

    /// Accepts a task: `function` called as `call` says with `argument`. `None` when there is no room for it now.
    #[pyo3(signature = (call, function, argument, limits=None))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        call: u8,
        function: Py<Function>,
        argument: &Bound<'py, PyAny>,
        limits: Option<&Limits>,
    ) -> PyResult<Option<Bound<'py, Task>>> {
        debug_assert!(Call::from_number(call).is_some());
        let encoded = self.encoder.encode(call, Some(function.get()), argument)?;
        self.accept(py, &function, &encoded, limits)
    }

    /// As `submit`, for each of `arguments`: the tasks go to `keep`, each as soon as it is accepted. Gives why there are
    /// no more: `None` if the arguments are at their end, `()` after `most` or where others should have the interpreter,
    /// and else the argument in a tuple that found no room or could not be encoded.
    #[allow(clippy::too_many_arguments, reason = "what a call is, once for many tasks")]
    fn submit_each<'py>(
        &self,
        py: Python<'py>,
        call: u8,
        function: Py<Function>,
        arguments: &Bound<'py, PyIterator>,
        limits: Option<&Limits>,
        keep: &Bound<'py, PyAny>,
        most: usize,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let mut bytes = 0;
        for _ in 0..most {
            let Some(argument) = calls::next(arguments)? else { return Ok(None) };
            let encoded = self.encoder.encode(call, Some(function.get()), &argument);
            bytes += encoded.as_ref().map_or(0, |encoded| encoded.length(py));
            match encoded.and_then(|encoded| self.accept(py, &function, &encoded, limits)) {
                Ok(Some(task)) => calls::call(keep, (task,))?,
                Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
                Ok(None) | Err(_) => return PyTuple::new(py, [argument]).map(Some),
            };
            if bytes > AT_ONCE {
                break;
            }
        }
        Ok(Some(PyTuple::empty(py)))
    }

    // ---- processes ----

    /// Becomes readable when processes are wanted, or no more.
    fn fileno(&self) -> i32 {
        self.exchange.descriptor()
    }

    /// The descriptors that a worker needs.
    #[getter]
    fn descriptors<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.descriptors.as_ref().map(|owned| launcher::numbers(py, owned)).transpose()
    }

    /// The seats that processes are wanted for; `None` when the last is gone and none will be wanted.
    fn wanted(&self) -> Option<Vec<u32>> {
        self.exchange.wanted()
    }

    /// A process was started in `seat`.
    fn started(&self, seat: u32, pid: u32) {
        self.exchange.tell(launcher::started(seat, pid));
    }

    /// No process could be started in `seat`.
    fn not_started(&self, seat: u32, why: String) {
        self.exchange.tell(LaunchEvent::Failed { seat, error: std::io::Error::other(why) });
    }

    /// The process in `seat` is dead. `exitcode` is as in `multiprocessing`: negative for a signal.
    #[pyo3(signature = (seat, pid, exitcode))]
    fn exited(&self, seat: u32, pid: u32, exitcode: Option<i32>) {
        let status = match exitcode {
            Some(code) if code < 0 => ExitStatus::Signaled(-code),
            Some(code) => ExitStatus::Exited(code),
            None => ExitStatus::Unknown,
        };
        self.exchange.tell(LaunchEvent::Exited { seat, pid, status });
    }

    // ---- a pool's life ----

    /// Takes no more tasks.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.pool.close());
    }

    /// Ends all tasks and all workers, those by SIGKILL after `grace` seconds.
    #[pyo3(signature = (grace=None))]
    fn terminate(&self, py: Python<'_>, grace: Option<f64>) {
        py.detach(|| match span(grace) {
            Some(grace) => self.pool.terminate_within(grace),
            None => self.pool.terminate(),
        });
    }

    /// How many tasks have not ended.
    fn unfinished(&self, py: Python<'_>) -> usize {
        py.detach(|| self.pool.unfinished())
    }

    /// Why the pool gave up, if it has.
    fn breakdown(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| self.pool.breakdown()).map(|why| why.to_string())
    }

    /// Waits until all workers are gone; false when the time was over first.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = span(timeout).and_then(|span| std::time::Instant::now().checked_add(span));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()));
            let joined = py.detach(|| self.pool.join(Some(left.unwrap_or(LOOK).min(LOOK))));
            match joined {
                Ok(true) | Err(PoolError::Broken(_)) => return Ok(true),
                Ok(false) if left == Some(Duration::ZERO) => return Ok(false),
                Ok(false) => py.check_signals()?,
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Changes the number of workers.
    fn resize(&self, workers: usize) -> PyResult<()> {
        self.pool.resize(workers).map_err(failed)
    }

    /// All notices, as soon as there is one; `None` when there will be no more.
    fn notices(&self, py: Python<'_>) -> Option<Vec<Py<PyAny>>> {
        py.detach(|| self.host.notices.take())
    }

    /// Leaves `notice` for the thread that reads the pool's notices.
    fn notify(&self, notice: Py<PyAny>) {
        self.host.notices.leave(notice);
    }

    /// There will be no more notices than there are.
    fn end_notices(&self) {
        self.host.notices.end();
    }

    /// What everybody in the pool is doing, as text. `name` is given the pickles of functions, perhaps cut off.
    fn dump(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<String> {
        let mut dump = py.detach(|| self.pool.dump());
        for task in &mut dump.tasks {
            if let Some(function) = Frame::function_in(&task.head) {
                task.function = calls::call(name, (PyBytes::new(py, function),))?.extract()?;
            }
        }
        Ok(dump.to_string())
    }

    /// What the pool does now.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.pool.stats());
        let numbers = PyDict::new(py);
        numbers.set_item("accepted", stats.accepted)?;
        numbers.set_item("queued", stats.queued)?;
        numbers.set_item("running", stats.running)?;
        numbers.set_item("done", stats.done)?;
        numbers.set_item("failed", stats.failed)?;
        numbers.set_item("restarts", stats.restarts)?;
        numbers.set_item("retries", stats.retries)?;
        let worker = |worker: &procpool_engine::WorkerStats| {
            (worker.pid, worker.tasks, worker.age.map(|age| age.as_secs_f64()), worker.memory)
        };
        numbers.set_item("workers", stats.workers.iter().map(worker).collect::<Vec<_>>())?;
        Ok(numbers)
    }
}
