//! A test's pools under a watchdog, and the end of the test at which nothing may be left.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use procpool::{Builder, Pool};

use super::inventory::Inventory;
use super::{children, processes};

/// A story that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(100);

/// How long a test waits for what must happen. Far more than it takes on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One test: it makes the pools, and tells what they were doing if the test hangs.
///
/// Where a process runs one test only, as with nextest and in [`super::alone`], the end of the story is also where
/// everything that its pools had must be gone.
pub(crate) struct Story {
    pools: Arc<Mutex<Vec<Weak<Pool>>>>,
    watchdog: Option<(Sender<()>, JoinHandle<()>)>,
    before: Option<Inventory>,
}

impl Story {
    pub(crate) fn begin() -> Self {
        let pools = Arc::new(Mutex::new(Vec::new()));
        let (over, is_over) = mpsc::channel();
        let watched = pools.clone();
        let name = std::thread::current().name().unwrap_or("a story").to_owned();
        let watchdog = std::thread::spawn(move || {
            if is_over.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                tell_and_abort(&name, &watched);
            }
        });
        let before = processes::mark().is_some().then(Inventory::take);
        Self { pools, watchdog: Some((over, watchdog)), before }
    }

    /// A pool with the usual choices.
    pub(crate) fn pool(&self, workers: usize) -> Arc<Pool> {
        self.build(Pool::builder().workers(workers))
    }

    pub(crate) fn build(&self, builder: Builder) -> Arc<Pool> {
        self.watch(builder.build().unwrap())
    }

    pub(crate) fn watch(&self, pool: Pool) -> Arc<Pool> {
        let pool = Arc::new(pool);
        self.pools.lock().unwrap().push(Arc::downgrade(&pool));
        pool
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if let Some(before) = self.before.take().filter(|_| !std::thread::panicking()) {
            before.expect_nothing_new();
        }
        let (over, watchdog) = self.watchdog.take().unwrap();
        let _ = over.send(());
        watchdog.join().unwrap();
    }
}

/// To the descriptor itself, past the test runner that keeps what a test prints.
fn tell_and_abort(name: &str, pools: &Mutex<Vec<Weak<Pool>>>) -> ! {
    let mut text = format!("\n==== {name} has hung for {LIMIT:?}; its pools:\n");
    for pool in pools.lock().unwrap().iter().filter_map(Weak::upgrade) {
        text += &format!("{:#?}\n", pool.stats());
        // Not dropped: that would wait for the workers.
        std::mem::forget(pool);
    }
    text += "==== the threads of this process:\n";
    for thread in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let of = |file| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        text += &format!("{} {}: {}\n", thread.file_name().display(), of("comm").trim(), of("wchan"));
    }
    text += "==== the processes below it:\n";
    for child in descendants(std::process::id()) {
        text += &format!("{child} {}: {:?}\n", processes::name(child), processes::state(child));
    }
    let mut stderr = std::fs::OpenOptions::new().append(true).open("/proc/self/fd/2");
    let _ = stderr.as_mut().map(|stderr| stderr.write_all(text.as_bytes()));
    std::process::abort();
}

fn descendants(of: u32) -> Vec<u32> {
    let below = children(of);
    below.iter().copied().chain(below.iter().flat_map(|&child| descendants(child))).collect()
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    let mut condition = condition;
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "in {PATIENCE:?} it did not come to pass that {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    began.elapsed()
}

/// The processes of a pool's workers, once it has `count` of them.
#[track_caller]
pub(crate) fn workers(pool: &Pool, count: usize) -> Vec<u32> {
    let mut pids = Vec::new();
    eventually(&format!("the pool has {count} workers"), || {
        pids = pool.stats().workers.iter().map(|worker| worker.pid).collect();
        pids.len() == count
    });
    pids
}
