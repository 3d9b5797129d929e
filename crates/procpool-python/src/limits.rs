//! What a call's tasks may cost.

use std::time::{Duration, Instant};

use procpool_engine as engine;
use pyo3::prelude::*;

use crate::task::span;

/// Limits that hold for each task of a call.
///
/// A deadline counts from the moment when the task is submitted, or from that of [`Limits::begin`].
#[pyclass(frozen, module = "procpool._procpool")]
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    timeout: Option<Duration>,
    deadline: Option<Duration>,
    retries: u32,
    begun: Option<Instant>,
}

#[pymethods]
impl Limits {
    #[new]
    fn new(timeout: Option<f64>, deadline: Option<f64>, retries: u32) -> Self {
        Self { timeout: span(timeout), deadline: span(deadline), retries, begun: None }
    }

    /// The same, for a task that is submitted now and may have to wait for room.
    fn begin(&self) -> Self {
        Self { begun: Some(self.begun.unwrap_or_else(Instant::now)), ..*self }
    }
}

impl Limits {
    /// For a task that is submitted now.
    pub(crate) fn of_task(&self) -> engine::Limits {
        let begun = self.begun.unwrap_or_else(Instant::now);
        let deadline = self.deadline.map(|span| engine::Deadline::since(begun, span));
        engine::Limits { timeout: self.timeout, deadline, retries: self.retries }
    }
}
