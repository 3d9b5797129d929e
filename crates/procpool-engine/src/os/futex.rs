//! Sleeping on a word of shared memory, and waking who sleeps there (futex(2)).
//!
//! Never with `FUTEX_PRIVATE_FLAG`: on a shared mapping that wakes nobody, and silently so. Every waiter looks
//! at its condition again after [`wait`], which may return for no reason.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::thread::futex;
use rustix::time::Timespec;

/// Sleeps while `word` is `expected`, until a [`wake`], a signal or the end of `timeout`.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|span| Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    });
    // Every error means "look again": the word changed, a signal came, the time is over.
    let _ = futex::wait(word, futex::Flags::empty(), expected, timeout.as_ref());
}

/// Wakes at most `count` of those who sleep on `word`.
pub fn wake(word: &AtomicU32, count: u32) {
    // The only error is a word that is not mapped, which a reference rules out.
    let _ = futex::wake(word, futex::Flags::empty(), count);
}
