//! A supervisor whose launcher fails.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::*;
use crate::Limits;
use crate::launch::LaunchEvent;
use crate::outcome::Outcome;
use crate::payload::Parts;
use crate::policy;
use crate::pool::{Config, Pool};

const PATIENCE: Duration = Duration::from_secs(60);

/// Beyond the greatest pid that Linux knows: whoever signals it harms nobody.
const PIDS: u32 = 5_000_000;

/// How a launch ends.
enum Luck {
    Starts,
    FailsAtOnce,
    FailsLater,
}

/// Starts nobody: it only says so, and of most that they failed.
struct Unlucky {
    launches: Arc<AtomicUsize>,
    luck: fn(usize) -> Luck,
    events: Vec<LaunchEvent>,
    seats: Vec<u32>,
    told: OwnedFd,
}

impl Unlucky {
    fn tell(&mut self, event: LaunchEvent) {
        self.events.push(event);
        poll::signal(self.told.as_fd());
    }
}

impl Launcher for Unlucky {
    fn launch(&mut self, seat: u32) -> io::Result<()> {
        let launch = self.launches.fetch_add(1, Ordering::Relaxed);
        match (self.luck)(launch) {
            Luck::Starts => {
                self.seats.push(seat);
                self.tell(LaunchEvent::Started { seat, pid: PIDS + seat, pidfd: None });
            }
            Luck::FailsAtOnce => return Err(io::Error::other("told at once")),
            Luck::FailsLater => {
                self.tell(LaunchEvent::Failed { seat, error: io::Error::other("told later") });
            }
        }
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.told.as_fd())
    }

    fn events(&mut self) -> Vec<LaunchEvent> {
        poll::drain(self.told.as_fd());
        std::mem::take(&mut self.events)
    }

    /// Whoever was said to live is said to be dead.
    fn call_off(&mut self) {
        for seat in std::mem::take(&mut self.seats) {
            self.tell(LaunchEvent::Exited { seat, pid: PIDS + seat, status: ExitStatus::Exited(0) });
        }
    }

    fn shut_down(&mut self) {}
}

/// A pool, and how often it asked for a worker.
fn pool(workers: usize, luck: fn(usize) -> Luck) -> (Pool, Arc<AtomicUsize>) {
    let launches = Arc::new(AtomicUsize::new(0));
    let launcher = Unlucky {
        launches: launches.clone(),
        luck,
        events: Vec::new(),
        seats: Vec::new(),
        told: poll::eventfd().unwrap(),
    };
    let pool = Pool::start(Config::new(workers), &Parts::default(), |_| Ok(Box::new(launcher) as _)).unwrap();
    (pool, launches)
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn end(pool: Pool) {
    pool.terminate();
    assert!(pool.join(Some(PATIENCE)).unwrap());
}

#[test]
fn a_pool_whose_first_launches_fail_tries_again() {
    let (pool, _) = pool(1, |launch| match launch {
        policy::FAILED_LAUNCHES => Luck::Starts,
        _ if launch % 2 == 0 => Luck::FailsAtOnce,
        _ => Luck::FailsLater,
    });
    eventually("a worker was started", || !lock(&pool.shared().pids).is_empty());
    end(pool);
}

#[test]
fn several_launches_that_fail_together_count_as_one_failure() {
    const WORKERS: usize = 10 * policy::FAILED_LAUNCHES;
    let (pool, _) = pool(WORKERS, |launch| if launch < WORKERS { Luck::FailsLater } else { Luck::Starts });
    eventually("all were started", || lock(&pool.shared().pids).len() == WORKERS);
    end(pool);
}

#[test]
fn a_pool_that_can_start_nobody_gives_up_and_says_why() {
    let (pool, launches) = pool(2, |_| Luck::FailsAtOnce);
    let task = pool.submit(&Parts::default(), Limits::default()).unwrap();
    let Outcome::Failed(Failure::Broken(why)) = task.take() else { panic!("it ended otherwise") };
    assert!(matches!(&*why, Breakdown::Launch { .. }), "{why}");
    assert!(launches.load(Ordering::Relaxed) > policy::FAILED_LAUNCHES);
    assert!(pool.join(Some(PATIENCE)).is_err());
}

#[test]
fn a_pool_that_has_a_worker_goes_on_trying_for_others() {
    let (pool, launches) = pool(2, |launch| if launch == 0 { Luck::Starts } else { Luck::FailsLater });
    let tries = 2 * policy::FAILED_LAUNCHES;
    eventually("it went on trying", || launches.load(Ordering::Relaxed) > tries);
    assert!(pool.try_submit(&Parts::default(), Limits::default()).is_ok());
    end(pool);
}
