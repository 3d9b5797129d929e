//! What a process gives up for good: privileges, and the use of more than so much.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

/// Whether a process can forgo privileges here.
///
/// # Errors
/// `EINVAL` before Linux 3.5.
pub fn check() -> io::Result<()> {
    Ok(rustix::thread::no_new_privs().map(drop)?)
}

/// From now on no program that the calling thread starts has more rights than it, and it has none of root's.
///
/// # Errors
/// What prctl(2) and capset(2) report.
pub fn give_up_privileges() -> io::Result<()> {
    set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// What a process may use at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Memory of its own, in bytes: data and stacks of threads; not the program, and not what it shares.
    Memory,
    /// Open files, and other descriptors.
    OpenFiles,
    /// The size of each file that it writes, in bytes.
    FileSize,
}

/// Lowers a limit for good. One that is lower already stays as it is.
///
/// # Errors
/// What setrlimit(2) reports.
pub fn limit(what: Limit, most: u64) -> io::Result<()> {
    let resource = match what {
        Limit::Memory => Resource::Data,
        Limit::OpenFiles => Resource::Nofile,
        Limit::FileSize => Resource::Fsize,
    };
    let before = getrlimit(resource);
    let lower = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    let after = Rlimit { current: lower(before.current), maximum: lower(before.maximum) };
    Ok(setrlimit(resource, after)?)
}
