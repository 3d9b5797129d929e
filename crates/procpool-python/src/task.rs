//! The caller's end of one task in Python.

use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard};
use std::time::Duration;

use procpool_engine::os::process::ExitStatus;
use procpool_engine::{self as engine, Breakdown, Death, Failure, Outcome, Payload, TimeLimit};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::calls;
use crate::decode::Message;
use crate::function::Function;
use crate::notices::Notices;

/// What the package does where an outcome is no plain value, and pickle's `loads`.
pub(crate) struct Host {
    pub(crate) loads: Py<PyAny>,
    /// What a worker said of an exception becomes that exception: `raised(account)`.
    pub(crate) raised: Py<PyAny>,
    /// Why there is no reply becomes an exception: `failed(kind, function, *details)`.
    pub(crate) failed: Py<PyAny>,
    pub(crate) notices: Arc<Notices>,
}

/// An outcome as Python sees it: whether it is a value, and the value or the exception.
type Ended = (bool, Py<PyAny>);

/// One accepted task. Dropping it does not cancel the task.
#[pyclass(frozen, module = "procpool._procpool")]
pub(crate) struct Task {
    /// `None` once somebody has taken it, who then fills `ended`.
    task: RwLock<Option<engine::Task>>,
    ended: OnceLock<Ended>,
    function: Py<Function>,
    host: Arc<Host>,
}

impl Task {
    /// The object is kept from the garbage collector, which would look at many thousands in vain: before it has an
    /// outcome, it refers to nothing that could lead back to it.
    pub(crate) fn new<'py>(
        py: Python<'py>,
        task: engine::Task,
        function: Py<Function>,
        host: Arc<Host>,
    ) -> PyResult<Bound<'py, Self>> {
        let task = Self { task: RwLock::new(Some(task)), ended: OnceLock::new(), function, host };
        let task = Bound::new(py, task)?;
        // SAFETY: a new object, of a class that is tracked since it has `__traverse__`. To untrack is allowed at any time.
        unsafe { ffi::PyObject_GC_UnTrack(task.as_ptr().cast()) };
        Ok(task)
    }

    fn task(&self) -> RwLockReadGuard<'_, Option<engine::Task>> {
        self.task.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes the task, which has ended. Only where another thread looks at it is the interpreter's lock given up: that
    /// thread may want it.
    fn take(&self, py: Python<'_>) -> Option<engine::Task> {
        let free = self.task.try_write().ok().map(|mut task| task.take());
        free.unwrap_or_else(|| {
            py.detach(|| self.task.write().unwrap_or_else(std::sync::PoisonError::into_inner).take())
        })
    }

    /// Makes the outcome, which is there, Python's; only the first caller does, the others wait for that. Also says whether
    /// this was quickly done.
    fn settle<'a>(slf: &'a Bound<'_, Self>) -> (&'a Ended, bool) {
        let (task, py) = (slf.get(), slf.py());
        if let Some(outcome) = task.take(py).map(engine::Task::take) {
            let is_small = matches!(&outcome, Outcome::Returned(payload) if payload.lease().is_none());
            let ended = task.read(py, outcome);
            // SAFETY: not tracked since `new`, and here comes only who has taken the task, which is one caller.
            unsafe { ffi::PyObject_GC_Track(slf.as_ptr().cast()) };
            return (task.ended.get_or_init(|| ended), is_small);
        }
        loop {
            if let Some(ended) = task.ended.get() {
                return (ended, false);
            }
            // Another thread decodes it at this moment.
            py.detach(|| std::thread::sleep(Duration::from_micros(50)));
        }
    }

    fn read(&self, py: Python<'_>, outcome: Outcome) -> Ended {
        let read = match outcome {
            Outcome::Returned(payload) => self.decode(py, &payload).map(|value| (true, value)),
            Outcome::Raised(payload) => self
                .decode(py, &payload)
                .and_then(|account| calls::call(self.host.raised.bind(py), (account,)))
                .map(|error| (false, error.unbind())),
            Outcome::Failed(failure) => self.explain(py, &failure).map(|error| (false, error)),
        };
        read.unwrap_or_else(|error| (false, error.into_value(py).into_any()))
    }

    fn decode(&self, py: Python<'_>, payload: &Payload) -> PyResult<Py<PyAny>> {
        let message = Message::new(payload.head(), payload.lease())?;
        message.object(self.host.loads.bind(py)).map(Bound::unbind)
    }

    fn explain(&self, py: Python<'_>, failure: &Failure) -> PyResult<Py<PyAny>> {
        let (kind, details) = describe(py, failure)?;
        let name = &self.function;
        let mut arguments = vec![kind.into_pyobject(py)?.into_any(), name.bind(py).clone().into_any()];
        arguments.extend(details.bind(py).iter());
        calls::call(self.host.failed.bind(py), PyTuple::new(py, arguments)?).map(Bound::unbind)
    }
}

/// A failure as its kind and what is known of it.
fn describe(py: Python<'_>, failure: &Failure) -> PyResult<(&'static str, Py<PyTuple>)> {
    let described = match failure {
        Failure::Died { last, earlier } => ("died", died(py, last, earlier)?),
        Failure::TimedOut { ran, limit } => ("timed out", timed_out(py, *ran, *limit)?),
        Failure::Cancelled => ("cancelled", PyTuple::empty(py).unbind()),
        Failure::Terminated => ("terminated", PyTuple::empty(py).unbind()),
        Failure::MemoryLimit { seen, peak, limit } => {
            ("memory", (*seen, *limit, *peak).into_pyobject(py)?.unbind())
        }
        Failure::NoRoom { bytes } => ("no room", (*bytes,).into_pyobject(py)?.unbind()),
        Failure::Broken(why) => ("broken", broken(py, why)?),
        _ => ("corrupt", PyTuple::empty(py).unbind()),
    };
    Ok(described)
}

/// All deaths that the task has caused, the oldest first: pid, signal, exit status of each.
fn died(py: Python<'_>, last: &Death, earlier: &[Death]) -> PyResult<Py<PyTuple>> {
    let told = |death: &Death| match death.status {
        ExitStatus::Exited(code) => (death.pid, None, Some(code)),
        ExitStatus::Signaled(signal) => (death.pid, Some(signal), None),
        _ => (death.pid, None, None),
    };
    let deaths: Vec<_> = earlier.iter().chain([last]).map(told).collect();
    Ok((deaths,).into_pyobject(py)?.unbind())
}

/// How long it ran, if it did; its timeout or its deadline, whichever was reached.
fn timed_out(py: Python<'_>, ran: Option<Duration>, limit: TimeLimit) -> PyResult<Py<PyTuple>> {
    let seconds = |span: Duration| Some(span.as_secs_f64());
    let (timeout, deadline) = match limit {
        TimeLimit::Timeout(span) => (seconds(span), None),
        TimeLimit::Deadline(span) => (None, seconds(span)),
    };
    Ok((ran.and_then(seconds), timeout, deadline).into_pyobject(py)?.unbind())
}

pub(crate) fn broken(py: Python<'_>, why: &Breakdown) -> PyResult<Py<PyTuple>> {
    let is_setup = matches!(why, Breakdown::Setup { .. });
    Ok((is_setup, why.to_string()).into_pyobject(py)?.unbind())
}

/// Seconds as people give them: none are for ever, and less than none are none.
pub(crate) fn span(seconds: Option<f64>) -> Option<Duration> {
    seconds.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// Takes values out of `tasks`, from `start` to `end`, and leaves `None` in their places. Gives where it stopped: at `end`, at
/// what is no task, has not ended, or ended with an error, and after what was so big that others should have the interpreter.
#[pyfunction]
pub(crate) fn take_values(
    tasks: &Bound<'_, PyList>,
    start: usize,
    end: usize,
    values: &Bound<'_, PyList>,
) -> PyResult<usize> {
    for index in start..end {
        let item = tasks.get_item(index)?;
        let Ok(task) = item.cast::<Task>() else { return Ok(index) };
        let known = task.get().ended.get().map(|ended| (ended, true));
        let ended = known.or_else(|| task.get().is_ended().then(|| Task::settle(task)));
        let Some(((true, value), is_quick)) = ended else { return Ok(index) };
        values.append(value)?;
        tasks.set_item(index, tasks.py().None())?;
        if !is_quick {
            return Ok(index + 1);
        }
    }
    Ok(end)
}

#[pymethods]
impl Task {
    /// For the garbage collector: an exception's traceback may well lead back here. The host is not this task's alone.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.ended.get().map_or(Ok(()), |(_, object)| visit.call(object))
    }

    /// Waits for the end; false when the time was over first. Signals are handled meanwhile, as in every wait of
    /// Python.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let mut interrupted = Ok(());
        let ended = py.detach(|| {
            let task = self.task();
            let Some(task) = task.as_ref() else { return true };
            task.wait_while(span(timeout), || {
                interrupted = crate::handle_signals();
                interrupted.is_ok()
            })
        });
        interrupted.map(|()| ended)
    }

    /// Waits, and gives whether it ended with a value, and the value or the exception; `None` when the time was over
    /// first. Always the same objects.
    #[pyo3(signature = (timeout=None))]
    fn outcome(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<Ended>> {
        let (task, py) = (slf.get(), slf.py());
        if task.ended.get().is_none() && !task.is_ended() && !task.wait(py, timeout)? {
            return Ok(None);
        }
        let (is_value, object) = task.ended.get().unwrap_or_else(|| Self::settle(slf).0);
        Ok(Some((*is_value, object.clone_ref(py))))
    }

    /// Whether it has ended.
    fn is_ended(&self) -> bool {
        self.task().as_ref().is_none_or(engine::Task::is_ended)
    }

    /// Whether a worker runs it now.
    fn is_running(&self) -> bool {
        self.task().as_ref().is_some_and(engine::Task::is_running)
    }

    /// Takes the task off the queue, or with `running` ends the worker that runs it; false when it is too late.
    #[pyo3(signature = (running=false))]
    fn cancel(&self, py: Python<'_>, running: bool) -> bool {
        py.detach(|| {
            self.task()
                .as_ref()
                .is_some_and(|task| if running { task.cancel_running() } else { task.cancel() })
        })
    }

    /// Leaves `notice` for the thread that reads the pool's notices, once the task has ended.
    fn notify(&self, notice: Py<PyAny>) {
        let notices = self.host.notices.clone();
        let unheard = match self.task().as_ref() {
            Some(task) => task.listen(move || notices.leave(notice)),
            None => Some(Box::new(move || notices.leave(notice)) as _),
        };
        if let Some(leave) = unheard {
            leave();
        }
    }

    /// The task's number in its pool; `None` once its outcome was taken.
    #[getter]
    fn ticket(&self) -> Option<u64> {
        self.task().as_ref().map(engine::Task::ticket)
    }

    /// What it calls.
    #[getter]
    fn function(&self, py: Python<'_>) -> Py<Function> {
        self.function.clone_ref(py)
    }
}
