//! Tasks that run until the test lets them end.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use procpool::{AsyncResult, Pool};

use super::eventually;

/// The file that tells who came, in the folder of the gate.
const BOOK: &str = "entered";

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

    /// As [`Gate::submit`], and a worker runs it by now: the last of [`Gate::entered`].
    pub(crate) fn enter(&self, pool: &Pool) -> AsyncResult<u64> {
        let before = self.entered().len();
        let handle = self.submit(pool);
        eventually("the task runs", || self.entered().len() > before);
        handle
    }

    /// The processes that came here, the last one last.
    pub(crate) fn entered(&self) -> Vec<u32> {
        let book = std::fs::read_to_string(self.0.path().join(BOOK)).unwrap_or_default();
        book.lines().map(|pid| pid.parse().unwrap()).collect()
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
    let book = gate.parent().map(|folder| File::options().append(true).create(true).open(folder.join(BOOK)));
    // The gate may be gone by now. One write, so that lines of several processes do not mix.
    if let Some(Ok(mut book)) = book {
        book.write_all(format!("{}\n", std::process::id()).as_bytes()).unwrap();
    }
    while !gate.exists() && gate.parent().is_some_and(Path::exists) {
        thread::sleep(Duration::from_millis(1));
    }
    1
}
