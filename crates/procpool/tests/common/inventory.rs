//! What a process has, and what its stories must not leave behind.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::processes::{self, children, mark, name};

/// Everything that a pool could leave: each entry a line that a person can read, and how often it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inventory(BTreeMap<String, usize>);

impl Inventory {
    pub(crate) fn take() -> Self {
        let lines = [threads(), descriptors(), mappings(), processes(), files()];
        let mut counts = BTreeMap::new();
        lines.into_iter().flatten().for_each(|line| *counts.entry(line).or_default() += 1);
        Self(counts)
    }

    /// Fails if there is something that was not there when this was taken.
    #[track_caller]
    pub(crate) fn expect_nothing_new(&self) {
        let began = Instant::now();
        let mut new = self.new_since();
        // A thread that was joined, and a process that was reaped, may still be seen for an instant.
        while !new.is_empty() && began.elapsed() < PATIENCE / 2 {
            std::thread::sleep(Duration::from_millis(5));
            new = self.new_since();
        }
        assert!(new.is_empty(), "the story left behind: {new:#?}");
    }

    pub(crate) fn new_since(&self) -> Vec<String> {
        let now = Self::take().0;
        let known = |line: &String| self.0.get(line).copied().unwrap_or(0);
        now.into_iter().filter(|(line, count)| *count > known(line)).map(|(line, _)| line).collect()
    }
}

fn threads() -> Vec<String> {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.map(|name| format!("thread {}", name.trim())).collect()
}

fn descriptors() -> Vec<String> {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = open.filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?)));
    targets
        .map(|(number, target)| format!("descriptor {} of {}", number.display(), target.display()))
        .collect()
}

/// Those of shared memory: a thread's stack stays with libc for the next thread, memory with the allocator, and the
/// executable with whoever printed a backtrace.
fn mappings() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.splitn(6, ' ').nth(5)).map(str::trim);
    // A program that was deleted meanwhile is still the same.
    let paths = paths.map(|path| path.trim_end_matches(" (deleted)"));
    let shared = ["/memfd:", "/dev/", "/SYSV"];
    paths
        .filter(|path| shared.iter().any(|start| path.starts_with(start)))
        .map(|path| format!("mapping of {path}"))
        .collect()
}

fn processes() -> Vec<String> {
    let relatives = mark().map(|mark| processes::relatives(&mark)).unwrap_or_default();
    let relatives = relatives.into_iter().map(|pid| format!("process {pid} ({})", name(pid)));
    let own = std::process::id();
    let children = children(own).into_iter().map(|pid| format!("child {pid} ({})", name(pid)));
    relatives.chain(children).collect()
}

/// Other programs come and go in these folders: only what bears our name, or that of shared memory without one, is ours.
/// Semaphores are not: nothing here makes any, and every program of Python that has a lock does.
fn files() -> Vec<String> {
    let folders = ["/dev/shm".into(), std::env::temp_dir()];
    let files = folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let names = files.map(|file| file.path().display().to_string());
    names
        .filter(|name| !name.contains("/sem.") && ["procpool", "psm_"].iter().any(|part| name.contains(part)))
        .collect()
}
