//! Workers are processes of Python's `multiprocessing`, started by threads of Python: the engine asks here, and hears
//! here what became of it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use procpool_engine::Confinement;
use procpool_engine::launch::{Descriptors, LaunchEvent, Launcher};
use procpool_engine::os::poll;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::calls;

/// What passes between the engine's supervisor and the thread of Python that starts and reaps processes.
pub(crate) struct Exchange {
    state: Mutex<State>,
    /// Readable when there are events for the supervisor.
    told: OwnedFd,
    /// Readable when the supervisor wants something.
    wanted: OwnedFd,
}

#[derive(Default)]
struct State {
    wanted: Vec<u32>,
    events: Vec<LaunchEvent>,
    is_over: bool,
}

impl Exchange {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { state: Mutex::default(), told: poll::eventfd()?, wanted: poll::eventfd()? }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, event: LaunchEvent) {
        self.lock().events.push(event);
        poll::signal(self.told.as_fd());
    }

    /// Becomes readable when [`Exchange::wanted`] has something to say.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.wanted.as_raw_fd()
    }

    /// The seats that processes are wanted for; `None` when there will be no more.
    pub(crate) fn wanted(&self) -> Option<Vec<u32>> {
        poll::drain(self.wanted.as_fd());
        let mut state = self.lock();
        let wanted = std::mem::take(&mut state.wanted);
        (!state.is_over || !wanted.is_empty()).then_some(wanted)
    }
}

/// The engine's launcher of processes of Python.
pub(crate) struct PythonLauncher {
    exchange: Arc<Exchange>,
    /// Starts the first processes, in the thread that makes the pool and before the engine has threads of its own: a
    /// process that forks then is one with a single thread, if the program has no others.
    first: Option<First>,
}

pub(crate) struct First {
    /// Called with a seat and the descriptors for its worker, it gives a pid.
    start: Py<PyAny>,
    descriptors: Py<PyTuple>,
    /// What went wrong.
    error: Arc<Mutex<Option<PyErr>>>,
    thread: ThreadId,
}

impl First {
    pub(crate) fn new(start: Py<PyAny>, descriptors: Py<PyTuple>, error: Arc<Mutex<Option<PyErr>>>) -> Self {
        Self { start, descriptors, error, thread: thread::current().id() }
    }

    fn start(&self, seat: u32) -> PyResult<Option<u32>> {
        Python::attach(|py| calls::call(self.start.bind(py), (seat, &self.descriptors))?.extract())
    }
}

impl PythonLauncher {
    pub(crate) fn new(exchange: Arc<Exchange>, first: First) -> Self {
        Self { exchange, first: Some(first) }
    }
}

/// A worker as the engine wants to hear of it.
pub(crate) fn started(seat: u32, pid: u32) -> LaunchEvent {
    LaunchEvent::Started { seat, pid, pidfd: procpool_engine::os::process::open_pidfd(pid).ok() }
}

impl Launcher for PythonLauncher {
    fn launch(&mut self, seat: u32) -> io::Result<()> {
        let Some(first) = self.first.as_ref().filter(|first| first.thread == thread::current().id()) else {
            self.first = None;
            self.exchange.lock().wanted.push(seat);
            poll::signal(self.exchange.wanted.as_fd());
            return Ok(());
        };
        match first.start(seat) {
            Ok(Some(pid)) => self.exchange.tell(started(seat, pid)),
            // Something that merely looks like a process. Whoever made it will have to end it.
            Ok(None) => {}
            Err(error) => {
                let message = error.to_string();
                *first.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return Err(io::Error::other(message));
            }
        }
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.exchange.told.as_fd())
    }

    fn events(&mut self) -> Vec<LaunchEvent> {
        poll::drain(self.exchange.told.as_fd());
        std::mem::take(&mut self.exchange.lock().events)
    }

    fn call_off(&mut self) {
        let state = &mut *self.exchange.lock();
        let error = || io::Error::other("the pool ended before the worker was started");
        let failed = state.wanted.drain(..).map(|seat| LaunchEvent::Failed { seat, error: error() });
        state.events.extend(failed);
    }

    fn shut_down(&mut self) {
        self.exchange.lock().is_over = true;
        poll::signal(self.exchange.wanted.as_fd());
    }
}

/// The descriptors that a worker needs, in the order in which `work` takes them: the shared memory, the parent, the
/// supervisor's eventfd, and the sandbox's ruleset, where there is one.
pub(crate) fn duplicates(descriptors: &Descriptors<'_>) -> io::Result<Vec<OwnedFd>> {
    let Descriptors { region, parent, poke, sandbox } = *descriptors;
    let ruleset = sandbox.map(Confinement::ruleset);
    [region, parent, poke].into_iter().chain(ruleset).map(|one| one.try_clone_to_owned()).collect()
}

/// The same as numbers.
pub(crate) fn numbers<'py>(py: Python<'py>, descriptors: &[OwnedFd]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, descriptors.iter().map(AsRawFd::as_raw_fd))
}
