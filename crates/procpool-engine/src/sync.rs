//! What threads and processes meet at: the real things, or those of the models, loom's under `--cfg loom` and shuttle's
//! under `--cfg shuttle`.
//!
//! All modules take their atomics, locks, threads and time from here and from nowhere else, so that the code which runs is
//! the code which is checked.

#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread, thread_local,
    time::Instant,
};

#[cfg(not(any(loom, shuttle)))]
pub(crate) use {
    crate::os::futex,
    std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{Ordering, fence};

#[cfg(shuttle)]
pub(crate) use {
    crate::whole::memory::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    crate::whole::world::{Instant, futex, thread},
    shuttle::sync::{Condvar, Mutex, MutexGuard},
    shuttle::thread_local,
};

/// Loom's atomics, with a remedy. To save time loom tries only orders that can matter; but of the looks at a word it
/// remembers the last alone, and so would not try a change before another thread's look once the changing thread has
/// looked itself, which is what every compare-and-swap does here. So each look also writes a word that nobody reads:
/// then the order of looks matters.
#[cfg(loom)]
macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name {
            value: loom::sync::atomic::$name,
            looks: loom::sync::atomic::AtomicBool,
        }

        impl $name {
            pub(crate) fn new(value: $number) -> Self {
                let looks = loom::sync::atomic::AtomicBool::new(false);
                Self { value: loom::sync::atomic::$name::new(value), looks }
            }

            pub(crate) fn load(&self, order: Ordering) -> $number {
                self.looks.store(true, Ordering::Relaxed);
                self.value.load(order)
            }
        }

        impl std::ops::Deref for $name {
            type Target = loom::sync::atomic::$name;

            fn deref(&self) -> &Self::Target {
                &self.value
            }
        }
    };
}

#[cfg(loom)]
atomic!(AtomicU32, u32);
#[cfg(loom)]
atomic!(AtomicU64, u64);

/// The kernel's futex as the models have it: it compares and falls asleep in one step, it wakes only who sleeps on
/// that very word, and no time-out ever comes. So a wake-up that is lost is a deadlock, which loom reports.
#[cfg(loom)]
pub(crate) mod futex {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    use super::{AtomicU32, Ordering};

    loom::lazy_static! {
        /// How often each word was woken, by its address.
        static ref WAKES: Mutex<BTreeMap<usize, u32>> = Mutex::new(BTreeMap::new());
        static ref CHANGED: Condvar = Condvar::new();
    }

    pub(crate) fn wait(word: &AtomicU32, expected: u32, _timeout: Option<Duration>) {
        let mut wakes = WAKES.lock().expect("nobody panics here");
        let count = |wakes: &BTreeMap<usize, u32>| wakes.get(&address(word)).copied();
        let before = count(&wakes);
        if word.load(Ordering::Relaxed) == expected {
            while count(&wakes) == before {
                wakes = CHANGED.wait(wakes).expect("nobody panics here");
            }
        }
    }

    pub(crate) fn wake(word: &AtomicU32, _count: u32) {
        *WAKES.lock().expect("nobody panics here").entry(address(word)).or_default() += 1;
        CHANGED.notify_all();
    }

    fn address(word: &AtomicU32) -> usize {
        std::ptr::from_ref(word).addr()
    }
}

use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

/// As [`lock`], for who must not hang where others do: `None` when it could not be had in `limit`.
pub(crate) fn lock_within<T: ?Sized>(mutex: &Mutex<T>, limit: Duration) -> Option<MutexGuard<'_, T>> {
    let begun = Instant::now();
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if begun.elapsed() > limit => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Locks, also when a thread panicked while it held the lock: what these locks guard is valid between any two
/// statements, and a pool that refuses to close because of an old panic would break promise 4.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    #[cfg(shuttle)]
    crate::whole::memory::drain_parent();
    guard
}

/// Lets go of a lock until there is news, or for `limit`.
pub(crate) fn await_news<'m, T>(
    news: &Condvar,
    guard: MutexGuard<'m, T>,
    limit: Duration,
) -> MutexGuard<'m, T> {
    let (guard, _) = news.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner);
    #[cfg(shuttle)]
    crate::whole::memory::drain_parent();
    guard
}
