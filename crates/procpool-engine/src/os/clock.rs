//! Time that only goes forward, as plain nanoseconds that may lie in shared memory.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

#[cfg(shuttle)]
pub(crate) use crate::whole::world::{now, now as now_coarse};

/// Nanoseconds of `CLOCK_MONOTONIC`; the same clock in every process of the machine.
#[cfg(not(shuttle))]
pub fn now() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// As [`now`], but only as fine as the kernel's tick (1 to 10 ms) and several times cheaper.
#[cfg(not(shuttle))]
pub fn now_coarse() -> u64 {
    nanoseconds(clock_gettime(ClockId::MonotonicCoarse))
}

/// What has passed since `earlier`; zero where `earlier` lies ahead, as it can when another process wrote it.
pub fn since(earlier: u64) -> Duration {
    Duration::from_nanos(now().saturating_sub(earlier))
}

fn nanoseconds(time: Timespec) -> u64 {
    let (seconds, fraction) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(fraction)
}
