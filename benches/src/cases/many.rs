//! Many tasks at once: how fast they go through when nobody waits for a single one.

use std::sync::mpsc;
use std::time::Instant;

use ::rayon::prelude::*;
use procpool::Pool;

use crate::case::{Case, Contender, Failure, Repeat, Round, SPELL};
use crate::contenders::procspawn::most_in_flight;
use crate::contenders::threads::Threads;
use crate::contenders::{WORKERS, rayon};

/// Submits empty tasks from one thread, then takes all results.
pub(crate) const THROUGHPUT_EMPTY: Case = Case {
    name: "rust/throughput_empty",
    unit: "tasks/s",
    higher_is_better: true,
    repeat: Repeat::EveryRound,
    contenders: &[
        Contender { name: "procpool", prepare: procpool_tasks },
        Contender { name: "rayon", prepare: rayon_tasks },
        Contender { name: "threads", prepare: threads_tasks },
        Contender { name: "procspawn", prepare: procspawn_tasks },
    ],
    note: "200,000 tasks; 2,000 for procspawn, or as many as the limit on descriptors allows",
};

/// Maps a cheap function over a million numbers.
pub(crate) const MAP_U64: Case = Case {
    name: "rust/map_u64",
    unit: "items/s",
    higher_is_better: true,
    repeat: Repeat::EveryRound,
    contenders: &[
        Contender { name: "procpool", prepare: procpool_map },
        Contender { name: "rayon", prepare: rayon_map },
        Contender { name: "threads", prepare: threads_map },
        Contender { name: "procspawn", prepare: procspawn_map },
    ],
    note: "procspawn and threads have no map: 8 chunks, cut by hand",
};

const TASKS: usize = 200_000;
const TASKS_PROCSPAWN: usize = 2_000;

/// Runs so many empty tasks to their end, per second.
fn tasks_per_second(
    tasks: usize,
    mut run: impl FnMut(usize) -> Result<(), Failure> + 'static,
) -> Result<Round, Failure> {
    Ok(Box::new(move || {
        let started = Instant::now();
        run(tasks)?;
        Ok(tasks as f64 / started.elapsed().as_secs_f64())
    }))
}

fn procpool_tasks() -> Result<Round, Failure> {
    let pool = Pool::new(WORKERS)?;
    tasks_per_second(TASKS, move |tasks| {
        let mut handles = Vec::with_capacity(tasks);
        for _ in 0..tasks {
            handles.push(pool.apply_async(|()| (), ())?);
        }
        for handle in handles {
            handle.get()?;
        }
        Ok(())
    })
}

fn rayon_tasks() -> Result<Round, Failure> {
    let pool = rayon::pool(WORKERS)?;
    let (results, outcomes) = mpsc::channel();
    tasks_per_second(TASKS, move |tasks| {
        for _ in 0..tasks {
            let results = results.clone();
            pool.spawn(move || results.send(()).expect("the caller waits"));
        }
        for _ in 0..tasks {
            outcomes.recv()?;
        }
        Ok(())
    })
}

fn threads_tasks() -> Result<Round, Failure> {
    let threads = Threads::new(WORKERS)?;
    let (results, outcomes) = mpsc::channel();
    tasks_per_second(TASKS, move |tasks| {
        for _ in 0..tasks {
            let results = results.clone();
            threads.spawn(move || results.send(()).expect("the caller waits"));
        }
        for _ in 0..tasks {
            outcomes.recv()?;
        }
        Ok(())
    })
}

fn procspawn_tasks() -> Result<Round, Failure> {
    let pool = procspawn::Pool::new(WORKERS)?;
    tasks_per_second(most_in_flight(TASKS_PROCSPAWN)?, move |tasks| {
        let handles: Vec<_> = (0..tasks).map(|_| pool.spawn((), |()| ())).collect();
        for handle in handles {
            handle.join()?;
        }
        Ok(())
    })
}

const ITEMS: u64 = 1_000_000;
const CHUNK: usize = ITEMS as usize / 8;

fn square_and_one(item: u64) -> u64 {
    item * item + 1
}

fn chunk_of_squares(items: &[u64]) -> Vec<u64> {
    items.iter().map(|item| square_and_one(*item)).collect()
}

/// Maps all items again and again for a spell, per second, and looks whether the last result is right.
fn items_per_second(
    mut map: impl FnMut(&[u64]) -> Result<Vec<u64>, Failure> + 'static,
) -> Result<Round, Failure> {
    let items: Vec<u64> = (0..ITEMS).collect();
    Ok(Box::new(move || {
        let mut mapped = 0;
        let started = Instant::now();
        let (results, elapsed) = loop {
            let results = map(&items)?;
            mapped += items.len();
            let elapsed = started.elapsed();
            if elapsed >= SPELL {
                break (results, elapsed);
            }
        };
        let right = results.len() == items.len() && results.last() == Some(&square_and_one(ITEMS - 1));
        if !right {
            return Err("the results are not the squares".into());
        }
        Ok(mapped as f64 / elapsed.as_secs_f64())
    }))
}

fn procpool_map() -> Result<Round, Failure> {
    let pool = Pool::new(WORKERS)?;
    items_per_second(move |items| Ok(pool.map(square_and_one, items.iter().copied())?))
}

fn rayon_map() -> Result<Round, Failure> {
    let pool = rayon::pool(WORKERS)?;
    items_per_second(move |items| {
        Ok(pool.install(|| items.par_iter().map(|item| square_and_one(*item)).collect()))
    })
}

fn threads_map() -> Result<Round, Failure> {
    let threads = Threads::new(WORKERS)?;
    items_per_second(move |items| {
        let mut parts = Vec::new();
        for chunk in items.chunks(CHUNK) {
            let (result, part) = mpsc::channel();
            let chunk = chunk.to_vec();
            threads.spawn(move || result.send(chunk_of_squares(&chunk)).expect("the caller waits"));
            parts.push(part);
        }
        let mut results = Vec::with_capacity(items.len());
        for part in parts {
            results.extend(part.recv()?);
        }
        Ok(results)
    })
}

fn procspawn_map() -> Result<Round, Failure> {
    let pool = procspawn::Pool::new(WORKERS)?;
    items_per_second(move |items| {
        let run = |chunk: &[u64]| pool.spawn(chunk.to_vec(), |chunk: Vec<u64>| chunk_of_squares(&chunk));
        let parts: Vec<_> = items.chunks(CHUNK).map(run).collect();
        let mut results = Vec::with_capacity(items.len());
        for part in parts {
            results.extend(part.join()?);
        }
        Ok(results)
    })
}
