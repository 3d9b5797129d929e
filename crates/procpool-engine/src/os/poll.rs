//! Waiting for any of several descriptors, and one that another thread or process can make readable.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec};
use rustix::io::Errno;

pub use rustix::event::{PollFd, PollFlags};

#[cfg(shuttle)]
pub(crate) use crate::whole::world::{poll, signal};

/// Creates an eventfd: [`signal`] makes it readable until it is [`drain`]ed. It may be shared between processes.
///
/// # Errors
/// `EMFILE` or `ENFILE` where there are no descriptors left.
pub fn eventfd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Makes an eventfd readable; never waits.
#[cfg(not(shuttle))]
pub fn signal(eventfd: BorrowedFd<'_>) {
    // The only error is that its counter is full: then it is readable, as it should be.
    let _ = rustix::io::retry_on_intr(|| rustix::io::write(eventfd, &1_u64.to_ne_bytes()));
}

/// Takes back all signals so far; never waits.
pub fn drain(eventfd: BorrowedFd<'_>) {
    let mut count = [0; 8];
    // The only error is that there was none.
    let _ = rustix::io::retry_on_intr(|| rustix::io::read(eventfd, &mut count[..]));
}

/// Waits until one of the descriptors has what it is watched for, or `timeout` is over. `None` waits for ever, and a
/// signal that is handled meanwhile does not change how long it waits. Returns how many are ready.
///
/// # Errors
/// `EINVAL` if there are more than `RLIMIT_NOFILE` of them, `ENOMEM`.
#[cfg(not(shuttle))]
pub fn poll(descriptors: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    // A deadline beyond what an instant can hold is none.
    let deadline = timeout.and_then(|span| Instant::now().checked_add(span));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match rustix::event::poll(descriptors, left.map(timespec).as_ref()) {
            Err(Errno::INTR) => {}
            ready => return Ok(ready?),
        }
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}

/// Whether `descriptor` is readable, or its other end gone, now.
pub fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    poll(&mut watched, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn an_eventfd_is_readable_from_its_signal_to_its_drain() {
        let event = eventfd().unwrap();
        assert!(!is_readable(event.as_fd()));
        signal(event.as_fd());
        signal(event.as_fd());
        assert!(is_readable(event.as_fd()));
        drain(event.as_fd());
        assert!(!is_readable(event.as_fd()));
        drain(event.as_fd());
    }

    #[test]
    fn a_poll_waits_no_shorter_than_it_was_told() {
        let event = eventfd().unwrap();
        let before = Instant::now();
        let span = Duration::from_millis(20);
        let mut watched = [PollFd::new(&event, PollFlags::IN)];
        assert_eq!(poll(&mut watched, Some(span)).unwrap(), 0);
        assert!(before.elapsed() >= span);
    }
}
