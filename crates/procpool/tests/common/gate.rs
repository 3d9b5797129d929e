//! Tasks that run until the test lets them end.

use std::path::Path;
use std::thread;
use std::time::Duration;

use procpool::{AsyncResult, Pool};

use super::eventually;

/// A gate that tasks wait at, by the name of a file that is there once it is open.
pub(crate) struct Gate(tempfile::TempDir);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// What a task is given, to wait here with [`wait_at`].
    pub(crate) fn path(&self) -> String {
        self.0.path().join("open").display().to_string()
    }

    /// Submits a task that waits here.
    pub(crate) fn submit(&self, pool: &Pool) -> AsyncResult<u64> {
        pool.apply_async(wait_at, self.path()).unwrap()
    }

    /// As [`Gate::submit`], and a worker runs it by now.
    pub(crate) fn enter(&self, pool: &Pool) -> AsyncResult<u64> {
        let running = pool.stats().running;
        let handle = self.submit(pool);
        eventually("the task runs", || pool.stats().running > running);
        handle
    }

    pub(crate) fn open(&self) {
        std::fs::write(self.path(), "").unwrap();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Whoever still waits must not wait for ever.
        self.open();
    }
}

/// Task: comes back with 1 when the gate is open, or gone.
pub(crate) fn wait_at(gate: String) -> u64 {
    let gate = Path::new(&gate);
    while !gate.exists() && gate.parent().is_some_and(Path::exists) {
        thread::sleep(Duration::from_millis(1));
    }
    1
}
