//! What this process and its descendants have used: CPU time, sleeps, memory, descriptors. As the kernel counts it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use crate::case::Failure;

/// What all of them have used since they began.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// How often a thread went to sleep, and so had to be woken.
    pub(crate) sleeps: u64,
}

impl Usage {
    /// What was used since `earlier`. Who ended in between is not counted.
    pub(crate) fn since(self, earlier: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            sleeps: self.sleeps.saturating_sub(earlier.sleeps),
        }
    }
}

/// The usage of this process and all its descendants.
pub(crate) fn of_tree() -> Result<Usage, Failure> {
    let mut total = Usage::default();
    for process in tree()? {
        total.cpu += cpu_time(process)?;
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            total.sleeps += number_after(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        }
    }
    Ok(total)
}

/// The bytes of anonymous and of shared memory that this process has touched.
pub(crate) fn memory() -> Result<u64, Failure> {
    memory_of("self", &["RssAnon:", "RssShmem:"])
}

/// The same of this process, with the anonymous memory of its descendants. What they share is counted once.
pub(crate) fn memory_of_tree() -> Result<u64, Failure> {
    let mut total = memory()?;
    for process in tree()?.into_iter().skip(1) {
        total += memory_of(&process.to_string(), &["RssAnon:"])?;
    }
    Ok(total)
}

/// The open descriptors of this process.
pub(crate) fn descriptors() -> Result<u64, Failure> {
    Ok(u64::try_from(fs::read_dir("/proc/self/fd")?.count())?)
}

/// The same with those of its descendants.
pub(crate) fn descriptors_of_tree() -> Result<u64, Failure> {
    let mut total = 0;
    for process in tree()? {
        total += u64::try_from(fs::read_dir(format!("/proc/{process}/fd"))?.count())?;
    }
    Ok(total)
}

/// The bytes that the system could still give out.
pub(crate) fn available_memory() -> Result<u64, Failure> {
    let facts = fs::read_to_string("/proc/meminfo")?;
    Ok(number_after(&facts, "MemAvailable:").ok_or("the kernel does not say how much memory is free")? * 1024)
}

fn memory_of(process: &str, kinds: &[&str]) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    Ok(kinds.iter().filter_map(|kind| number_after(&status, kind)).sum::<u64>() * 1024)
}

/// The number in the line that begins with `name`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// This process, and then its descendants.
fn tree() -> Result<Vec<u32>, Failure> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Who has ended meanwhile is nobody's child any more.
        let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else { continue };
        let zombie = status.lines().any(|line| line.starts_with("State:") && line.contains('Z'));
        if let (false, Some(parent)) = (zombie, number_after(&status, "PPid:")) {
            children.entry(u32::try_from(parent)?).or_default().push(process);
        }
    }
    let mut found = vec![std::process::id()];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(process).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

/// The CPU time of all threads that the process has or had, to the nanosecond.
fn cpu_time(process: u32) -> Result<Duration, Failure> {
    let mut clock = 0;
    // SAFETY: the call writes one clock id to the place that it is given.
    let status = unsafe { libc::clock_getcpuclockid(libc::pid_t::try_from(process)?, &raw mut clock) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status).into());
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one time to the place that it is given.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}
