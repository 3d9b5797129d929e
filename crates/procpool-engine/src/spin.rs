//! How long it pays to look before one sleeps.
//!
//! Looking saves a sleep and a wake-up when what one waits for comes soon, and takes the core from somebody else when
//! it does not. So the time is learned: full while it pays, halved whenever it was in vain, nothing for a while after
//! the core was taken away meanwhile, for then others need it and whoever looked pays for that when it wants to run.

use std::time::Duration;

use crate::sync::{AtomicU32, Instant, Ordering};

/// The longest that anybody looks: about what a wake-up costs.
const LONGEST: Duration = Duration::from_micros(20);

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
    most: Duration,
    /// The present time in nanoseconds.
    span: AtomicU32,
    /// Looks that were shorter than the full time, since the last trial.
    short: AtomicU32,
}

impl Spin {
    /// For at most `most` at a time.
    pub(crate) fn new(most: Duration) -> Self {
        let span = u32::try_from(most.as_nanos()).unwrap_or(u32::MAX);
        Self { most, span: AtomicU32::new(span), short: AtomicU32::new(0) }
    }

    /// For callers and workers of a pool. On one CPU whoever looks keeps from running what it waits for: there nobody
    /// does, nor where it is not wanted.
    pub(crate) fn of_pool(wanted: bool, cpus: usize) -> Self {
        Self::new(if wanted && cpus > 1 { LONGEST } else { Duration::ZERO })
    }

    /// The longest time; nothing where nobody looks.
    pub(crate) fn most(&self) -> Duration {
        self.most
    }

    /// Whether there is any point in looking.
    pub(crate) fn is_off(&self) -> bool {
        self.most.is_zero()
    }

    /// Looks for a while whether `found` is true, and gives what it said last. Ends early where it does not pay.
    pub(crate) fn look(&self, mut found: impl FnMut() -> bool, pays: impl Fn() -> bool) -> bool {
        if found() {
            return true;
        }
        let span = self.next_span();
        if span.is_zero() {
            return false;
        }
        let began = Instant::now();
        let mut before = began;
        loop {
            for _ in 0..LOOKS {
                if found() {
                    self.set(self.most);
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

    fn next_span(&self) -> Duration {
        let span = Duration::from_nanos(self.span.load(Ordering::Relaxed).into());
        if span == self.most || self.is_off() {
            return span;
        }
        // Threads that look at the same time may count one look as two: it is only a trial more or less.
        let short = self.short.load(Ordering::Relaxed) + 1;
        self.short.store(short % TRIAL, Ordering::Relaxed);
        if short == TRIAL { self.most } else { span }
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
        assert!(Spin::new(Duration::ZERO).look(|| true, || true));
        assert!(!Spin::new(Duration::ZERO).look(|| false, || true));
        assert!(Spin::new(MOST).look(|| true, || false));
    }

    #[test]
    fn on_one_cpu_or_where_it_is_not_wanted_one_looks_once_and_then_sleeps() {
        for (wanted, cpus, at_once) in
            [(true, 2, false), (true, 1, true), (false, 2, true), (false, 64, true)]
        {
            let spin = Spin::of_pool(wanted, cpus);
            let mut looks = 0;
            let found = || {
                looks += 1;
                false
            };
            assert!(!spin.look(found, || true));
            assert_eq!(looks == 1, at_once, "wanted {wanted}, {cpus} CPUs: {looks} looks");
            assert_eq!(spin.is_off(), at_once);
        }
    }

    #[test]
    fn time_spent_in_vain_becomes_shorter_and_what_pays_makes_it_whole_again() {
        let spin = Spin::new(MOST);
        assert!(!spin.look(|| false, || true));
        assert!(spin.span.load(Ordering::Relaxed) <= 4000);
        spin.set(MOST);
        let mut looks = 0;
        let found = || {
            looks += 1;
            looks == 3
        };
        assert!(spin.look(found, || true));
        assert_eq!(spin.span.load(Ordering::Relaxed), 8000);
    }

    #[test]
    fn who_learns_that_it_does_not_pay_looks_no_longer() {
        let spin = Spin::new(Duration::from_secs(4));
        let mut looks = 0;
        let found = || {
            looks += 1;
            false
        };
        assert!(!spin.look(found, || false));
        assert!(looks < 3 * LOOKS, "{looks} looks");
    }

    #[test]
    fn the_full_time_is_tried_again_now_and_then() {
        let spin = Spin::new(MOST);
        spin.set(Duration::ZERO);
        let spans: Vec<Duration> = (0..TRIAL).map(|_| spin.next_span()).collect();
        assert_eq!(spans.iter().filter(|&&span| span == MOST).count(), 1);
    }
}
