//! The caller's end of one task in Python.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use procpool_engine::os::process::ExitStatus;
use procpool_engine::{self as engine, Breakdown, Death, Failure, Outcome, Payload, TimeLimit};
use pyo3::exceptions::{PyException, PyRuntimeError};
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

/// How long another thread's decoding is waited for in any case: who has seen that a task ended may have no time left, and is
/// to have the outcome all the same.
const READING: Duration = Duration::from_millis(100);

/// One accepted task. Dropping it does not cancel the task.
#[pyclass(frozen, module = "procpool._procpool")]
pub(crate) struct Task {
    /// `None` once somebody has taken it, who then fills `ended`.
    task: RwLock<Option<engine::Task>>,
    ended: OnceLock<Ended>,
    /// What was taken, and nobody has filled in: who was about to was interrupted.
    taken: Mutex<Option<Outcome>>,
    /// The thread that is about to fill it in.
    reader: AtomicUsize,
    /// Whether somebody was interrupted so.
    was_interrupted: AtomicBool,
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
        let task = Self {
            task: RwLock::new(Some(task)),
            ended: OnceLock::new(),
            taken: Mutex::default(),
            reader: AtomicUsize::default(),
            was_interrupted: AtomicBool::default(),
            function,
            host,
        };
        let task = Bound::new(py, task)?;
        // SAFETY: a new object, of a class that is tracked since it has `__traverse__`. To untrack is allowed at any time.
        unsafe { ffi::PyObject_GC_UnTrack(task.as_ptr().cast()) };
        Ok(task)
    }

    fn task(&self) -> RwLockReadGuard<'_, Option<engine::Task>> {
        self.task.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end; false when the time was over first. The task is not held while handlers of signals run: they
    /// may ask for it.
    fn wait_until(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        loop {
            let mut looks_up = false;
            let ended = py.detach(|| {
                let task = self.task();
                let Some(task) = task.as_ref() else { return true };
                let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                task.wait_while(left, || {
                    looks_up = true;
                    false
                })
            });
            if ended || !looks_up {
                return Ok(ended);
            }
            py.check_signals()?;
        }
    }

    /// Takes the outcome, which is there; `None` if somebody else has. Only where another thread looks at the task is the
    /// interpreter's lock given up: that thread may want it.
    fn take(&self, py: Python<'_>) -> Option<Outcome> {
        let free = self.task.try_write().ok().map(|mut task| task.take());
        let task = free.unwrap_or_else(|| {
            py.detach(|| self.task.write().unwrap_or_else(PoisonError::into_inner).take())
        });
        task.map(engine::Task::take)
            .or_else(|| self.taken.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// The outcome, which is there, as Python's; waits where another thread makes it so, and gives `None` when the time
    /// was over first.
    fn settle<'a>(slf: &'a Bound<'_, Self>, deadline: Option<Instant>) -> PyResult<Option<&'a Ended>> {
        let (reader, py) = (&slf.get().reader, slf.py());
        let mut last = None;
        loop {
            if let Some((ended, _)) = Self::try_settle(slf)? {
                return Ok(Some(ended));
            }
            if reader.load(Ordering::Relaxed) == this_thread() {
                return Err(PyRuntimeError::new_err(
                    "this thread is reading the outcome that it asks for, and what it calls for that, or a signal's \
                     handler, asks again",
                ));
            }
            let now = Instant::now();
            let last = *last.get_or_insert_with(|| deadline.map(|at| at.max(now + READING)));
            if last.is_some_and(|last| last <= now) {
                return Ok(None);
            }
            py.detach(|| std::thread::sleep(Duration::from_micros(50)));
            py.check_signals()?;
        }
    }

    /// The outcome, which is there, as Python's; only the first caller makes it so, and there is none while it does. Also
    /// says whether this was quickly done.
    fn try_settle<'a>(slf: &'a Bound<'_, Self>) -> PyResult<Option<(&'a Ended, bool)>> {
        let (task, py) = (slf.get(), slf.py());
        if let Some(ended) = task.ended.get() {
            return Ok(Some((ended, false)));
        }
        let Some(outcome) = task.take(py) else { return Ok(None) };
        let is_small = matches!(&outcome, Outcome::Returned(payload) if payload.lease().is_none());
        task.reader.store(this_thread(), Ordering::Relaxed);
        let (ended, interrupt) = task.read_once_or_twice(py, &outcome);
        task.reader.store(0, Ordering::Relaxed);
        let Some(ended) = ended else {
            // The next one reads it again.
            *task.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            return interrupt.map_or(Ok(None), Err);
        };
        // SAFETY: not tracked since `new`, and here comes only who has taken the outcome for good, which is one caller.
        unsafe { ffi::PyObject_GC_Track(slf.as_ptr().cast()) };
        let ended = task.ended.get_or_init(|| ended);
        interrupt.map_or(Ok(Some((ended, is_small))), Err)
    }

    /// Reads an outcome. In the main thread an error may be a signal handler's and not the outcome's own, which shows in a
    /// second reading: then it is the caller's. What is not meant to be caught is so without one, but not twice.
    fn read_once_or_twice(&self, py: Python<'_>, outcome: &Outcome) -> (Option<Ended>, Option<PyErr>) {
        let own = |error: PyErr| (false, error.into_value(py).into_any());
        match self.read(py, outcome) {
            Ok(ended) => (Some(ended), None),
            Err(error) if !is_main_thread() => (Some(own(error)), None),
            Err(error) if error.is_instance_of::<PyException>(py) => match self.read(py, outcome) {
                Ok(ended) => (Some(ended), Some(error)),
                Err(error) => (Some(own(error)), None),
            },
            Err(error) if self.was_interrupted.swap(true, Ordering::Relaxed) => (Some(own(error)), None),
            Err(error) => (None, Some(error)),
        }
    }

    fn read(&self, py: Python<'_>, outcome: &Outcome) -> PyResult<Ended> {
        match outcome {
            Outcome::Returned(payload) => Ok((true, self.decode(py, payload)?)),
            Outcome::Raised(payload) => {
                let account = self.decode(py, payload)?;
                Ok((false, calls::call(self.host.raised.bind(py), (account,))?.unbind()))
            }
            Outcome::Failed(failure) => Ok((false, self.explain(py, failure)?)),
        }
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

/// Whether this thread handles signals: the main one, whose number is the process's.
fn is_main_thread() -> bool {
    // SAFETY: `gettid` has no precondition.
    unsafe { libc::gettid() }.cast_unsigned() == std::process::id()
}

thread_local! {
    static HERE: u8 = const { 0 };
}

/// What tells this thread from the others, and is no number: so it costs no system call.
fn this_thread() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// A failure as its kind and what is known of it.
fn describe(py: Python<'_>, failure: &Failure) -> PyResult<(&'static str, Py<PyTuple>)> {
    let described = match failure {
        Failure::Died { last, earlier } => ("died", died(py, last, earlier)?),
        Failure::TimedOut { ran, limit } => ("timed out", timed_out(py, *ran, *limit)?),
        Failure::Cancelled => ("cancelled", PyTuple::empty(py).unbind()),
        Failure::Terminated => ("terminated", PyTuple::empty(py).unbind()),
        Failure::Forked => ("forked", PyTuple::empty(py).unbind()),
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

fn deadline(timeout: Option<f64>) -> Option<Instant> {
    Instant::now().checked_add(span(timeout)?)
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
        let ended = match known {
            None if task.get().is_ended() => Task::try_settle(task)?,
            known => known,
        };
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
        self.wait_until(py, deadline(timeout))
    }

    /// Waits, and gives whether it ended with a value, and the value or the exception; `None` when the time was over
    /// first. Always the same objects.
    #[pyo3(signature = (timeout=None))]
    fn outcome(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<Ended>> {
        let (task, py, deadline) = (slf.get(), slf.py(), deadline(timeout));
        if task.ended.get().is_none() && !task.is_ended() && !task.wait_until(py, deadline)? {
            return Ok(None);
        }
        let ended = Self::settle(slf, deadline)?;
        Ok(ended.map(|(is_value, object)| (*is_value, object.clone_ref(py))))
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
}
