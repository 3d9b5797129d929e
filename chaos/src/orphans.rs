//! The parent dies, at a random instant of a storm, of whatever kills processes: nothing may be left of it.

use std::time::{Duration, Instant};

use crate::adversary::memory::Cage;
use crate::processes;
use crate::series::{Actor, FAREWELL, Round};
use crate::verdict::Tally;

/// What kills the parent.
const WEAPONS: [(i32, &str); 6] = [
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGHUP, "SIGHUP"),
];

/// Kills one parent after the other until the time is over.
pub(crate) fn run(seconds: f64, seed: u64, cage: Option<&Cage>) -> Round {
    let mut rng = fastrand::Rng::with_seed(seed);
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    let (mut tally, mut output, mut slowest) = (Tally::default(), String::new(), Duration::ZERO);
    let mut ok = true;
    while ok && Instant::now() < deadline {
        let mut parent = Actor::start("storm", 3600.0, rng.u64(..), cage);
        std::thread::sleep(Duration::from_micros(rng.u64(..1_200_000)));
        let (signal, name) = WEAPONS[rng.usize(..WEAPONS.len())];
        let ended_before = parent.wait(Duration::ZERO);
        let relatives = parent.relatives().len() as u64;
        // The first SIGSEGV goes to std's own handler, which takes it for a fault that will come again.
        let hit = Instant::now();
        while !parent.wait(Duration::from_millis(20)) && hit.elapsed() < FAREWELL {
            processes::signal(parent.pid(), signal);
        }
        let survived = !parent.wait(Duration::ZERO);
        parent.kill();
        // Its adversary would have let go on whom it had stopped.
        parent.relatives().into_iter().for_each(|pid| processes::signal(pid, libc::SIGCONT));
        let died = Instant::now();
        let left = parent.relatives_after(FAREWELL);
        slowest = slowest.max(died.elapsed());
        tally.add(format!("parent.{name}"), 1);
        tally.add("orphans", relatives);
        if ended_before || survived || !left.is_empty() {
            ok = false;
            tally.add("violations", 1);
            let how = match (ended_before, survived) {
                (true, _) => "died by itself, and not of",
                (_, true) => "did not die of",
                _ => "died of",
            };
            output = parent.output() + &format!("violation: a parent {how} {name}, and left {left:?}\n");
        }
    }
    tally.add("slowest-orphan-ms", slowest.as_millis() as u64);
    Round { ok, tally, output }
}
