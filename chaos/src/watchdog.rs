//! Ends a run that hangs, and tells what everybody was doing.

use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::load::Pools;
use crate::processes;

/// A run that is watched. It is over when this is dropped.
pub(crate) struct Watchdog<'s> {
    _over: Sender<()>,
    _thread: ScopedJoinHandle<'s, ()>,
}

impl<'s> Watchdog<'s> {
    pub(crate) fn start(scope: &'s Scope<'s, '_>, patience: Duration, pools: &'s Pools<'_>) -> Self {
        let (over, is_over) = mpsc::channel();
        let watch = move || {
            if is_over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                tell_and_abort(patience, pools);
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn_scoped(scope, watch);
        Self { _over: over, _thread: thread.expect("nobody has taken the threads yet") }
    }
}

fn tell_and_abort(patience: Duration, pools: &Pools<'_>) -> ! {
    println!("==== violation: the run has not ended after {patience:?}");
    println!("==== what the adversary did last:\n{}", pools.log.tail(60, None));
    println!("==== the tasks that have not ended, and who ran them:");
    let runs = pools.ledger.runs();
    for (id, entry) in (0..).zip(pools.ledger.entries()).filter(|(_, entry)| entry.ends.is_empty()).take(20) {
        println!("{id}: {entry:?}, {:?}", runs.get(&id));
    }
    println!("==== the processes below this one:");
    for child in descendants(std::process::id()) {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{child}/{name}")).unwrap_or_default();
        println!("{child} {} {:?} in {}", processes::name(child), processes::state(child), file("wchan"));
    }
    println!("==== the threads of this process:\n{}", backtraces());
    println!("==== its pools, as far as they answer:");
    for pool in pools.all() {
        println!("pool {}: {:#?}", pool.number, pool.stats());
        // Not dropped: that would wait for the workers.
        std::mem::forget(pool);
    }
    std::process::abort();
}

/// From gdb, where it is there; otherwise where in the kernel each thread sleeps.
fn backtraces() -> String {
    let own = std::process::id().to_string();
    let mut gdb = Command::new("gdb");
    gdb.args(["-p", &own, "-batch", "-ex", "set pagination off", "-ex", "thread apply all backtrace 30"]);
    if let Ok(output) = gdb.output()
        && output.status.success()
    {
        return String::from_utf8_lossy(&output.stdout).into_owned();
    }
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let line = |path: std::path::PathBuf| {
        let file = |name| std::fs::read_to_string(path.join(name)).unwrap_or_default();
        format!("{} in {}", file("comm").trim(), file("wchan"))
    };
    threads.map(|thread| line(thread.path())).collect::<Vec<_>>().join("\n")
}

fn descendants(of: u32) -> Vec<u32> {
    let below = processes::children(of);
    below.iter().copied().chain(below.iter().flat_map(|&child| descendants(child))).collect()
}
