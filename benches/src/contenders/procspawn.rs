//! How far procspawn can be loaded: each task in flight holds descriptors, and its pool panics when they run out.

use std::fs;
use std::io;

use rustix::process::{Resource, getrlimit};

/// Two channels of two descriptors each; one of the four is closed once the argument is sent.
const DESCRIPTORS_PER_TASK: usize = 4;

/// Left alone for everybody else in the process.
const RESERVE: usize = 64;

/// At most `wanted`, and as many as the limit on open descriptors allows now.
pub(crate) fn most_in_flight(wanted: usize) -> io::Result<usize> {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return Ok(wanted) };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let open = fs::read_dir("/proc/self/fd")?.count();
    Ok(wanted.min(limit.saturating_sub(open + RESERVE) / DESCRIPTORS_PER_TASK))
}
