use proptest::prelude::*;

use super::*;
use crate::launch::ExitStatus;
use crate::outcome::Death;

const LIMIT: RestartIntensity = RestartIntensity { deaths: 3, within: Duration::from_secs(10) };

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn died() -> Failure {
    let last = Death { pid: 1, status: ExitStatus::Signaled(9), ticket: None, note: None };
    Failure::Died { last, earlier: Vec::new() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against the rule in its plainest form: more than so many of the deaths since the last finished task lie within
    /// the span that ends now.
    #[test]
    fn the_pool_gives_up_when_too_many_die_in_a_row_in_too_short_a_time(
        deaths in prop::collection::vec((0..8_u64, prop::bool::weighted(0.1)), 1..60),
        limit in 1..6_usize,
        within in 1..30_u64,
    ) {
        let limit = RestartIntensity { deaths: limit, within: seconds(within) };
        let start = Instant::now();
        let (mut now, mut finished) = (0, 0);
        let mut since_progress: Vec<u64> = Vec::new();
        let mut obituaries = Obituaries::default();
        for (pause, is_progress) in deaths {
            now += pause;
            if is_progress {
                finished += 1;
                since_progress.clear();
            }
            since_progress.push(now);
            let recent = since_progress.iter().filter(|&&at| now - at <= within).count();
            let too_many = obituaries.note(start + seconds(now), finished, limit);
            prop_assert_eq!(too_many, recent > limit.deaths);
            prop_assert_eq!(obituaries.count(), recent);
        }
    }

    #[test]
    fn the_pause_before_a_launch_grows_with_the_deaths_and_has_a_bound(deaths in 0..100_usize) {
        let mut obituaries = Obituaries::default();
        let start = Instant::now();
        let mut before = Duration::ZERO;
        for _ in 0..deaths {
            obituaries.note(start, 0, RestartIntensity { deaths: usize::MAX, ..LIMIT });
            let pause = obituaries.back_off();
            prop_assert!(pause >= before && pause <= Duration::from_millis(128));
            prop_assert!(pause <= before.max(Duration::from_micros(500)) * 2);
            before = pause;
        }
    }

    #[test]
    fn the_pause_before_an_attempt_grows_with_those_that_failed_and_has_a_bound(failed in 0..u32::MAX - 1) {
        let (pause, next) = (pause_before_attempt(failed), pause_before_attempt(failed + 1));
        prop_assert!(pause <= next && next <= Duration::from_millis(1280));
        prop_assert_eq!(pause.is_zero(), failed < 2);
        prop_assert!(pause.is_zero() || next <= pause * 2);
    }

    #[test]
    fn a_pool_has_no_more_workers_than_it_should_and_in_the_end_none(target in 0..2000_usize, unfinished: usize) {
        prop_assert_eq!(staff(Phase::Running, target, unfinished), target);
        prop_assert_eq!(staff(Phase::Stopped, target, unfinished), 0);
        let closed = staff(Phase::Closed, target, unfinished);
        prop_assert!(closed <= target && closed <= unfinished);
        prop_assert!(closed > 0 || target == 0 || unfinished == 0, "work is left, and nobody to do it");
    }

    #[test]
    fn the_usual_limit_bears_the_death_of_all_workers_at_once(workers: usize) {
        let limit = RestartIntensity::for_workers(workers);
        prop_assert!(limit.deaths >= workers && limit.deaths >= 16);
    }
}

#[test]
fn one_death_is_borne_without_a_pause() {
    let mut obituaries = Obituaries::default();
    assert_eq!(obituaries.back_off(), Duration::ZERO);
    assert!(!obituaries.note(Instant::now(), 0, LIMIT));
    assert_eq!(obituaries.back_off(), Duration::ZERO);
}

#[test]
fn only_a_dead_worker_or_a_time_out_is_a_reason_to_try_again() {
    let final_ones = [
        Failure::Cancelled,
        Failure::Terminated,
        Failure::MemoryLimit { seen: 2, peak: 3, limit: 1 },
        Failure::NoRoom { bytes: 1 },
        Failure::Corrupt,
        Failure::TimedOut { ran: None, limit: TimeLimit::Deadline(seconds(1)) },
        Failure::TimedOut { ran: Some(seconds(1)), limit: TimeLimit::Deadline(seconds(2)) },
    ];
    assert!(final_ones.iter().all(|failure| !tries_again(failure, u32::MAX)));
    let retried =
        [died(), Failure::TimedOut { ran: Some(seconds(1)), limit: TimeLimit::Timeout(seconds(1)) }];
    assert!(retried.iter().all(|failure| tries_again(failure, 1)));
    assert!(retried.iter().all(|failure| !tries_again(failure, 0)));
}
