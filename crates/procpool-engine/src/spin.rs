//! How long it pays to look before one sleeps.
//!
//! Looking saves a sleep and a wake-up when what one waits for comes soon, and takes the core from somebody else when
//! it does not. So the time is learned: full while it pays, halved whenever it was in vain, nothing for a while after
//! the core was taken away meanwhile, for then others need it and whoever looked pays for that when it wants to run.

use std::time::Duration;

use crate::sync::{AtomicU32, Instant, Ordering};

/// Looks between two readings of the clock: about a microsecond.
const LOOKS: u32 = if cfg!(shuttle) { 2 } else { 32 };

/// A gap between two readings of the clock that is longer than this was another process's time slice; shorter ones are
/// interrupts, or a host that runs others beside this virtual machine.
const STOLEN: Duration = Duration::from_micros(500);

/// Every so many times the full time is tried again.
const TRIAL: u32 = 32;

/// What has been learned.
#[derive(Debug)]
pub(crate) struct Spin {
    is_wanted: bool,
    /// The present time in nanoseconds, or more than `most`, as at first: then it is that.
    span: AtomicU32,
    /// Looks that were shorter than the full time, since the last trial.
    short: AtomicU32,
}

impl Spin {
    /// For one who looks, or for one who never does.
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self { is_wanted, span: AtomicU32::new(u32::MAX), short: AtomicU32::new(0) }
    }

    /// Whether there is any point in looking.
    pub(crate) fn is_off(&self) -> bool {
        !self.is_wanted
    }

    /// Looks for a while, `most` at the longest, whether `found` is true, and gives what it said last. Ends early where
    /// it does not pay.
    pub(crate) fn look(
        &self,
        most: impl FnOnce() -> Duration,
        mut found: impl FnMut() -> bool,
        pays: impl Fn() -> bool,
    ) -> bool {
        if found() {
            return true;
        }
        if self.is_off() {
            return false;
        }
        let most = most();
        let span = self.next_span(most);
        if span.is_zero() {
            return false;
        }
        let began = Instant::now();
        let mut before = began;
        loop {
            for _ in 0..LOOKS {
                if found() {
                    self.set(most);
                    return true;
                }
                std::hint::spin_loop();
            }
            let now = Instant::now();
            if now - before > STOLEN {
                self.set(Duration::ZERO);
                return found();
            }
            if now - began >= span {
                self.set(span / 2);
                return false;
            }
            if !pays() {
                return false;
            }
            before = now;
        }
    }

    fn next_span(&self, most: Duration) -> Duration {
        let span = Duration::from_nanos(self.span.load(Ordering::Relaxed).into());
        if span >= most {
            return most;
        }
        // Threads that look at the same time may count one look as two: it is only a trial more or less.
        let short = self.short.load(Ordering::Relaxed) + 1;
        self.short.store(short % TRIAL, Ordering::Relaxed);
        if short == TRIAL { most } else { span }
    }

    fn set(&self, span: Duration) {
        let span = u32::try_from(span.as_nanos()).unwrap_or(u32::MAX);
        // A busy pool leaves it as it is: no need to dirty the line.
        if self.span.load(Ordering::Relaxed) != span {
            self.span.store(span, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(8);

    #[test]
    fn what_is_there_already_is_found_without_reading_the_clock() {
        assert!(Spin::new(false).look(|| MOST, || true, || true));
        assert!(Spin::new(true).look(|| MOST, || true, || false));
        assert!(Spin::new(true).look(|| unreachable!("nothing is to be looked for"), || true, || true));
    }

    #[test]
    fn where_it_is_not_wanted_one_looks_once_and_then_sleeps() {
        for is_wanted in [true, false] {
            let spin = Spin::new(is_wanted);
            let mut looks = 0;
            let found = || {
                looks += 1;
                false
            };
            assert!(!spin.look(|| MOST, found, || true));
            assert_eq!(looks == 1, !is_wanted, "{looks} looks");
            assert_eq!(spin.is_off(), !is_wanted);
        }
    }

    #[test]
    fn time_spent_in_vain_becomes_shorter_and_what_pays_makes_it_whole_again() {
        let spin = Spin::new(true);
        assert!(!spin.look(|| MOST, || false, || true));
        assert!(spin.span.load(Ordering::Relaxed) <= 4000);
        spin.set(MOST);
        let mut looks = 0;
        let found = || {
            looks += 1;
            looks == 3
        };
        assert!(spin.look(|| MOST, found, || true));
        assert_eq!(spin.span.load(Ordering::Relaxed), 8000);
    }

    #[test]
    fn who_learns_that_it_does_not_pay_looks_no_longer() {
        let mut looks = 0;
        let found = || {
            looks += 1;
            false
        };
        assert!(!Spin::new(true).look(|| Duration::from_secs(4), found, || false));
        assert!(looks < 3 * LOOKS, "{looks} looks");
    }

    #[test]
    fn the_full_time_is_tried_again_now_and_then() {
        let spin = Spin::new(true);
        spin.set(Duration::ZERO);
        let spans: Vec<Duration> = (0..TRIAL).map(|_| spin.next_span(MOST)).collect();
        assert_eq!(spans.iter().filter(|&&span| span == MOST).count(), 1);
    }
}
