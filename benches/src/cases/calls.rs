//! One task at a time: submit an empty one, wait for its result, and again.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use procpool::Pool;

use crate::case::{Case, Contender, Failure, Repeat, Round, SPELL, mean_microseconds, median, microseconds};
use crate::contenders::pingpong::{PingPong, Waiting};
use crate::contenders::threads::Threads;
use crate::contenders::{WORKERS, rayon};

/// Without a pause: whoever spins before it sleeps is still spinning when the next task comes.
pub(crate) const ROUNDTRIP_EMPTY: Case = Case {
    name: "rust/roundtrip_empty",
    unit: "us",
    higher_is_better: false,
    repeat: Repeat::EveryRound,
    contenders: &[
        Contender { name: "procpool", prepare: || back_to_back(procpool_call()?) },
        Contender { name: "rayon", prepare: || back_to_back(rayon_call()?) },
        Contender { name: "threads", prepare: || back_to_back(threads_call()?) },
        Contender { name: "procspawn", prepare: || back_to_back(procspawn_call()?) },
        Contender { name: "ping-pong spinning", prepare: || bare_back_to_back(Waiting::Spinning) },
        Contender { name: "ping-pong futex", prepare: || bare_back_to_back(Waiting::Futex) },
    ],
    note: "mean of a call; pools of 2",
};

/// After a pause in which all spinning has ended: every call has to wake somebody.
pub(crate) const ROUNDTRIP_PARKED: Case = Case {
    name: "rust/roundtrip_parked",
    unit: "us",
    higher_is_better: false,
    repeat: Repeat::EveryRound,
    contenders: &[
        Contender { name: "procpool", prepare: || with_pauses(procpool_call()?) },
        Contender { name: "rayon", prepare: || with_pauses(rayon_call()?) },
        Contender { name: "threads", prepare: || with_pauses(threads_call()?) },
        Contender { name: "procspawn", prepare: || with_pauses(procspawn_call()?) },
        Contender { name: "ping-pong futex", prepare: bare_with_pauses },
    ],
    note: "median of a call, each after a pause of 1 ms that is not counted; pools of 2",
};

const PAUSE: Duration = Duration::from_millis(1);

/// Runs one empty task and waits for it.
type Call = Box<dyn FnMut() -> Result<(), Failure>>;

fn back_to_back(mut call: Call) -> Result<Round, Failure> {
    Ok(Box::new(move || mean_microseconds(&mut call)))
}

fn bare_back_to_back(waiting: Waiting) -> Result<Round, Failure> {
    Ok(Box::new(move || {
        let mut pingpong = PingPong::start(waiting)?;
        mean_microseconds(|| {
            pingpong.exchange();
            Ok(())
        })
    }))
}

fn with_pauses(mut call: Call) -> Result<Round, Failure> {
    Ok(Box::new(move || median_after_pauses(&mut call)))
}

fn bare_with_pauses() -> Result<Round, Failure> {
    Ok(Box::new(|| {
        let mut pingpong = PingPong::start(Waiting::Futex)?;
        median_after_pauses(|| {
            pingpong.exchange();
            Ok(())
        })
    }))
}

fn median_after_pauses(mut call: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < SPELL {
        thread::sleep(PAUSE);
        let started = Instant::now();
        call()?;
        times.push(microseconds(started.elapsed()));
    }
    Ok(median(&times))
}

fn procpool_call() -> Result<Call, Failure> {
    let pool = Pool::new(WORKERS)?;
    Ok(Box::new(move || Ok(pool.apply(|()| (), ())?)))
}

fn rayon_call() -> Result<Call, Failure> {
    let pool = rayon::pool(WORKERS)?;
    let (results, outcome) = mpsc::channel();
    Ok(Box::new(move || {
        let results = results.clone();
        pool.spawn(move || results.send(()).expect("the caller waits"));
        Ok(outcome.recv()?)
    }))
}

fn threads_call() -> Result<Call, Failure> {
    let threads = Threads::new(WORKERS)?;
    let (results, outcome) = mpsc::channel();
    Ok(Box::new(move || {
        let results = results.clone();
        threads.spawn(move || results.send(()).expect("the caller waits"));
        Ok(outcome.recv()?)
    }))
}

fn procspawn_call() -> Result<Call, Failure> {
    let pool = procspawn::Pool::new(WORKERS)?;
    Ok(Box::new(move || Ok(pool.spawn((), |()| ()).join()?)))
}
