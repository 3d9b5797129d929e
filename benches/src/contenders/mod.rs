//! What the rivals need before they can be measured, and the bare limits.
//!
//! Whatever is idle here sleeps: rayon's threads, these threads and the monitors of procspawn all wait in the kernel,
//! and the ping-pong's partner lives only while it is measured. A contender's setup does not slow down the others.

pub(crate) mod crowd;
pub(crate) mod pingpong;
pub(crate) mod procspawn;
pub(crate) mod rayon;
pub(crate) mod threads;

/// How many workers every pool has, unless its case says otherwise.
pub(crate) const WORKERS: usize = 2;
