//! Big plain data, there and back: 64 MiB as an argument, and as a result.
//!
//! The sender keeps its bytes (a clone of its `Buffer`, or an `Arc`), and what arrives is dropped outside the timed
//! part: giving 64 MiB back to the system takes about as long as copying them, and is not the transfer. `procpool
//! moved` shows what it costs when the sender gives its bytes away with the task, as many programs do. The receiver
//! looks at the length and at one byte.

use std::hint::black_box;
use std::mem;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use procpool::{Buffer, Pool};
use procspawn::serde::Shmem;
use serde_bytes::ByteBuf;

use crate::case::{Case, Contender, Failure, Repeat, Round, SPELL};
use crate::contenders::threads::Threads;

/// To a worker.
pub(crate) const ARGUMENT: Case = Case {
    name: "rust/argument_64MiB",
    unit: "GiB/s",
    higher_is_better: true,
    repeat: Repeat::EveryRound,
    contenders: &[
        Contender { name: "procpool", prepare: procpool_argument },
        Contender { name: "procpool moved", prepare: procpool_moved_argument },
        Contender { name: "threads", prepare: threads_argument },
        Contender { name: "procspawn", prepare: procspawn_argument },
        Contender { name: "memcpy", prepare: memcpy },
    ],
    note: "one task at a time, pools of 1; memcpy to memory touched before; threads clone a Vec; \
           procspawn sends a serde_bytes::ByteBuf (its pool does not take its own Shmem as an argument)",
};

/// From a worker.
pub(crate) const RESULT: Case = Case {
    name: "rust/result_64MiB",
    unit: "GiB/s",
    higher_is_better: true,
    repeat: Repeat::EveryRound,
    contenders: &[
        Contender { name: "procpool", prepare: procpool_result },
        Contender { name: "procpool moved", prepare: procpool_moved_result },
        Contender { name: "threads", prepare: threads_result },
        Contender { name: "procspawn", prepare: procspawn_result },
        Contender { name: "procspawn Shmem", prepare: procspawn_shmem_result },
        Contender { name: "memcpy", prepare: memcpy },
    ],
    note: "one task at a time, pools of 1; memcpy to memory touched before; threads clone a Vec; \
           procspawn sends a serde_bytes::ByteBuf, or its own read-only Shmem",
};

const SIZE: usize = 64 << 20;
const FILLING: u8 = 0x5a;

fn filled() -> Vec<u8> {
    vec![FILLING; SIZE]
}

/// What a receiver looks at.
fn glance(bytes: &[u8]) -> (usize, u8) {
    (bytes.len(), bytes[0])
}

/// Measures transfers for a spell; each says how long it took, without what was needed before and after it.
fn transfers(mut transfer: impl FnMut() -> Result<Duration, Failure> + 'static) -> Result<Round, Failure> {
    Ok(Box::new(move || {
        let mut bytes = 0;
        let mut total = Duration::ZERO;
        let started = Instant::now();
        while started.elapsed() < SPELL {
            total += transfer()?;
            bytes += SIZE;
        }
        Ok(bytes as f64 / f64::from(1 << 30) / total.as_secs_f64())
    }))
}

/// The time of a call that sends the bytes and returns what their receiver saw.
fn time_argument(send: impl FnOnce() -> Result<(usize, u8), Failure>) -> Result<Duration, Failure> {
    let started = Instant::now();
    let seen = send()?;
    let elapsed = started.elapsed();
    if seen == (SIZE, FILLING) { Ok(elapsed) } else { Err("other bytes arrived".into()) }
}

/// The time of a call that receives the bytes, without the time to drop them.
fn time_result<B>(
    receive: impl FnOnce() -> Result<B, Failure>,
    look: impl FnOnce(&B) -> (usize, u8),
) -> Result<Duration, Failure> {
    let started = Instant::now();
    let bytes = receive()?;
    let seen = look(&bytes);
    let elapsed = started.elapsed();
    if seen == (SIZE, FILLING) { Ok(elapsed) } else { Err("other bytes arrived".into()) }
}

fn memcpy() -> Result<Round, Failure> {
    let source = filled();
    let mut target = filled();
    transfers(move || {
        time_argument(|| {
            target.copy_from_slice(black_box(&source));
            Ok(glance(black_box(&target)))
        })
    })
}

fn procpool_argument() -> Result<Round, Failure> {
    let pool = Pool::new(1)?;
    let kept = Buffer::from(filled());
    transfers(move || {
        let argument = kept.clone();
        time_argument(|| Ok(pool.apply(|bytes: Buffer<u8>| glance(&bytes), argument)?))
    })
}

fn procpool_moved_argument() -> Result<Round, Failure> {
    let pool = Pool::new(1)?;
    transfers(move || {
        let argument = Buffer::from(filled());
        time_argument(|| Ok(pool.apply(|bytes: Buffer<u8>| glance(&bytes), argument)?))
    })
}

fn threads_argument() -> Result<Round, Failure> {
    let threads = Threads::new(1)?;
    let kept = filled();
    transfers(move || {
        let (result, outcome) = mpsc::channel();
        time_argument(|| {
            let argument = kept.clone();
            threads.spawn(move || result.send(glance(&argument)).expect("the caller waits"));
            Ok(outcome.recv()?)
        })
    })
}

fn procspawn_argument() -> Result<Round, Failure> {
    let pool = procspawn::Pool::new(1)?;
    let kept = Arc::new(ByteBuf::from(filled()));
    transfers(move || {
        let argument = Arc::clone(&kept);
        time_argument(|| Ok(pool.spawn(argument, |bytes: Arc<ByteBuf>| glance(&bytes)).join()?))
    })
}

/// What a worker of procpool sends again and again.
static BUFFER: LazyLock<Buffer<u8>> = LazyLock::new(|| Buffer::from(filled()));

/// What a worker of procspawn sends again and again.
static BYTES: LazyLock<Arc<ByteBuf>> = LazyLock::new(|| Arc::new(ByteBuf::from(filled())));

fn procpool_result() -> Result<Round, Failure> {
    let pool = Pool::new(1)?;
    transfers(move || time_result(|| Ok(pool.apply(|()| BUFFER.clone(), ())?), |bytes| glance(bytes)))
}

/// Filled by a task that is not measured, given away by the one that is.
static STOCK: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn fill_stock((): ()) {
    *STOCK.lock().unwrap_or_else(PoisonError::into_inner) = filled();
}

fn give_stock((): ()) -> Buffer<u8> {
    Buffer::from(mem::take(&mut *STOCK.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn procpool_moved_result() -> Result<Round, Failure> {
    let pool = Pool::new(1)?;
    transfers(move || {
        pool.apply(fill_stock, ())?;
        time_result(|| Ok(pool.apply(give_stock, ())?), |bytes| glance(bytes))
    })
}

fn threads_result() -> Result<Round, Failure> {
    let threads = Threads::new(1)?;
    let kept = Arc::new(filled());
    transfers(move || {
        let (result, outcome) = mpsc::channel();
        let kept = Arc::clone(&kept);
        let receive = || {
            threads.spawn(move || result.send(kept.to_vec()).expect("the caller waits"));
            Ok(outcome.recv()?)
        };
        time_result(receive, |bytes| glance(bytes))
    })
}

fn procspawn_result() -> Result<Round, Failure> {
    let pool = procspawn::Pool::new(1)?;
    transfers(move || {
        time_result(|| Ok(pool.spawn((), |()| Arc::clone(&BYTES)).join()?), |bytes| glance(bytes))
    })
}

fn procspawn_shmem_result() -> Result<Round, Failure> {
    let pool = procspawn::Pool::new(1)?;
    transfers(move || {
        time_result(|| Ok(pool.spawn((), |()| Shmem::from_bytes(&BYTES)).join()?), |bytes| glance(bytes))
    })
}
