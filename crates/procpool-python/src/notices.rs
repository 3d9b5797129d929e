//! What has ended, for the one thread of Python that calls callbacks.
//!
//! The engine's collector leaves notices here without the interpreter's lock; the thread takes all that there are at
//! once, so that a busy program is interrupted once for many.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use crate::calls;

/// How long the reader sleeps at most before it looks after signals.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Notices {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    notices: Vec<Py<PyAny>>,
    is_over: bool,
}

impl Notices {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a notice. Where nobody reads any more, whoever leaves it acts on it.
    pub(crate) fn leave(&self, notice: Py<PyAny>) {
        let mut state = self.lock();
        if state.is_over {
            drop(state);
            return Python::attach(|py| {
                if let Err(error) = calls::call(notice.bind(py), ()) {
                    error.write_unraisable(py, Some(notice.bind(py)));
                }
            });
        }
        state.notices.push(notice);
        if state.notices.len() == 1 {
            self.changed.notify_all();
        }
    }

    /// There will be no more: the reader may go.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// All notices, as soon as there is one; `None` after the last.
    pub(crate) fn take(&self) -> Option<Vec<Py<PyAny>>> {
        let mut state = self.lock();
        while state.notices.is_empty() {
            if state.is_over {
                return None;
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(std::mem::take(&mut state.notices))
    }
}
