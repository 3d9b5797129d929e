//! The size of a payload, from nothing to a gibibyte: where does it move from the slot to a block, from a small block to
//! a large one, and is there a step up?
//!
//! As in the cases of big buffers, the sender keeps its bytes, and what arrives is dropped outside of the timed part.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use procpool::{Buffer, Pool};
use serde_bytes::ByteBuf;

use crate::case::{Failure, SPELL, median, microseconds};
use crate::curve::{Curve, Processes, Trace, Tracer};
use crate::usage::available_memory;

pub(crate) const PAYLOAD: Curve = Curve {
    name: "payload",
    axis: "payload (bytes)",
    measures: &["round trip of a task (us)", "throughput (GiB/s)"],
    points: &[
        0,
        16,
        64,
        128,
        256,
        512,
        1 << 10,
        2 << 10,
        4 << 10,
        8 << 10,
        16 << 10,
        32 << 10,
        64 << 10,
        128 << 10,
        256 << 10,
        512 << 10,
        1 << 20,
        2 << 20,
        4 << 20,
        16 << 20,
        64 << 20,
        256 << 20,
        1 << 30,
    ],
    last_when_quick: 256 << 20,
    processes: Processes::OneForEachPoint,
    rounds: 3,
    contenders: &[
        Tracer { name: "Buffer to a worker", prepare: buffer_argument },
        Tracer { name: "Buffer from a worker", prepare: buffer_result },
        Tracer { name: "bytes to a worker", prepare: bytes_argument },
        Tracer { name: "memcpy", prepare: memcpy },
    ],
};

const FEWEST: usize = 3;
const FILLING: u8 = 0x5a;

/// How often the payload exists at most: with its sender, in the region before it is given back, with its receiver.
const COPIES: u64 = 4;

fn filled(size: u64) -> Vec<u8> {
    // Whoever asks has looked whether there is as much memory.
    vec![FILLING; usize::try_from(size).expect("addresses have 64 bits")]
}

/// The median time of a transfer for a spell, after one that does not count. A transfer says how long it took.
fn transfers(
    size: u64,
    mut transfer: impl FnMut() -> Result<Duration, Failure>,
) -> Result<Option<Vec<f64>>, Failure> {
    transfer()?;
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < SPELL || times.len() < FEWEST {
        times.push(microseconds(transfer()?));
    }
    let time = median(&times);
    Ok(Some(vec![time, size as f64 / f64::from(1 << 30) / (time / 1e6)]))
}

fn fits(size: u64) -> Result<bool, Failure> {
    Ok(size * COPIES < available_memory()?)
}

fn buffer_argument() -> Result<Trace, Failure> {
    let pool = Pool::new(1)?;
    Ok(Box::new(move |size| {
        if !fits(size)? {
            return Ok(None);
        }
        let kept = Buffer::from(filled(size));
        transfers(size, || {
            let argument = kept.clone();
            let started = Instant::now();
            pool.apply(|bytes: Buffer<u8>| bytes.last().copied(), argument)?;
            Ok(started.elapsed())
        })
    }))
}

/// What a worker sends again and again.
static KEPT: Mutex<Option<Buffer<u8>>> = Mutex::new(None);

fn keep(size: u64) {
    *KEPT.lock().expect("nobody panicked with it") = Some(Buffer::from(filled(size)));
}

fn send((): ()) -> Buffer<u8> {
    KEPT.lock().expect("nobody panicked with it").clone().expect("it was kept before")
}

fn buffer_result() -> Result<Trace, Failure> {
    let pool = Pool::new(1)?;
    Ok(Box::new(move |size| {
        if !fits(size)? {
            return Ok(None);
        }
        pool.apply(keep, size)?;
        transfers(size, || {
            let started = Instant::now();
            let received = pool.apply(send, ())?;
            black_box(received.last());
            Ok(started.elapsed())
        })
    }))
}

/// Encoded among the other arguments, and decoded into memory of the worker's own: not how one sends more than this.
const MOST_BYTES: u64 = 64 << 20;

fn bytes_argument() -> Result<Trace, Failure> {
    let pool = Pool::new(1)?;
    Ok(Box::new(move |size| {
        if size > MOST_BYTES || !fits(size)? {
            return Ok(None);
        }
        let kept = ByteBuf::from(filled(size));
        transfers(size, || {
            let argument = kept.clone();
            let started = Instant::now();
            pool.apply(|bytes: ByteBuf| bytes.last().copied(), argument)?;
            Ok(started.elapsed())
        })
    }))
}

/// One copy within the process, to memory that was touched before.
fn memcpy() -> Result<Trace, Failure> {
    Ok(Box::new(|size| {
        if !fits(size)? {
            return Ok(None);
        }
        let (source, mut target) = (filled(size), filled(size));
        transfers(size, || {
            let started = Instant::now();
            black_box(&mut target).copy_from_slice(black_box(&source));
            Ok(started.elapsed())
        })
    }))
}
