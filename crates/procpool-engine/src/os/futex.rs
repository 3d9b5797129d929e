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
    // The kernel's count is signed, and one below 0 wakes a single sleeper.
    let count = count.min(i32::MAX.unsigned_abs());
    // The only error is a word that is not mapped, which a reference rules out.
    let _ = futex::wake(word, futex::Flags::empty(), count);
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    const SLEEPERS: usize = 3;
    const PATIENCE: Duration = Duration::from_secs(10);

    /// How many threads of this name sleep.
    fn asleep(name: &str) -> usize {
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
        stats.filter(|stat| stat.contains(&format!("({name}) S"))).count()
    }

    fn until(condition: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while !condition() && begun.elapsed() < PATIENCE {
            thread::yield_now();
        }
        condition()
    }

    #[test]
    fn one_call_wakes_all_who_sleep_on_a_word() {
        let (word, awake) = (AtomicU32::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..SLEEPERS {
                let sleeper = thread::Builder::new().name("sleeper".to_owned());
                let sleep = || {
                    while word.load(Ordering::Relaxed) == 0 {
                        wait(&word, 0, None);
                    }
                    awake.fetch_add(1, Ordering::Relaxed);
                };
                sleeper.spawn_scoped(scope, sleep).unwrap();
            }
            assert!(until(|| asleep("sleeper") == SLEEPERS));
            word.store(1, Ordering::Relaxed);
            wake(&word, u32::MAX);
            let all_woke = until(|| awake.load(Ordering::Relaxed) == SLEEPERS);
            (0..SLEEPERS).for_each(|_| wake(&word, 1));
            assert!(all_woke, "the others slept on");
        });
    }
}
