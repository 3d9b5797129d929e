//! Processes as `/proc` shows them.

use std::fs;

/// The variable by which all processes of a story are known, orphans included.
pub(crate) const MARK: &str = "PROCPOOL_TEST_MARK";

/// What nextest gives to each test of its own, and what serves for the same purpose.
const NEXTEST_MARK: &str = "NEXTEST_ATTEMPT_ID";

/// The name and value that all processes of this story have in their environment, where the process has but one story.
pub(crate) fn mark() -> Option<String> {
    let found = [MARK, NEXTEST_MARK].into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
    found.map(|(name, value)| format!("{name}={value}"))
}

fn pids() -> Vec<u32> {
    let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// All living processes with this mark in their environment, but for this one.
pub(crate) fn relatives(mark: &str) -> Vec<u32> {
    let has_mark = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let others = pids().into_iter().filter(|&pid| pid != std::process::id());
    others.filter(has_mark).filter(|&pid| is_alive(pid)).collect()
}

/// The fields of `/proc/<pid>/stat` after the name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Its state as a letter: `R` runs, `S` sleeps, `T` is stopped, `Z` is dead and not reaped.
pub(crate) fn state(pid: u32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The children that a process has now, dead ones that it has not reaped included.
pub(crate) fn children(of: u32) -> Vec<u32> {
    pids().into_iter().filter(|&pid| parent(pid) == Some(of)).collect()
}

pub(crate) fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Sends a signal. Only to processes that the story itself has started.
pub(crate) fn signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).unwrap();
    assert!(pid > 1);
    // SAFETY: `kill` has no precondition.
    unsafe { libc::kill(pid, signal) };
}

pub(crate) fn kill(pid: u32) {
    signal(pid, libc::SIGKILL);
}
