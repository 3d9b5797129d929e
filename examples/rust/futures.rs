//! The result of a task is a `Future`: any executor can await it, alone or beside other futures.
//!
//! A task runs as soon as a worker is free, whether or not somebody awaits it. And unlike a thread, a task that nobody
//! needs any more can be stopped in the middle.

use std::ops::Range;

use futures_util::future::{select, try_join_all};
use procpool::{Error, Pool};

fn main() -> procpool::Result<()> {
    let pool = Pool::new(2)?;
    pollster::block_on(async {
        await_one(&pool).await?;
        await_several(&pool).await?;
        await_the_first_of_two(&pool).await?;
        await_a_panic(&pool).await
    })?;
    pool.close();
    pool.join()
}

async fn await_one(pool: &Pool) -> procpool::Result<()> {
    let count = pool.apply_async(count_primes, 0..1_000)?.await?;
    println!("below a thousand there are {count} primes");
    Ok(())
}

async fn await_several(pool: &Pool) -> procpool::Result<()> {
    let parts = (0..10).map(|part| pool.apply_async(count_primes, part * 10_000..(part + 1) * 10_000));
    let parts = parts.collect::<Result<Vec<_>, Error>>()?;
    let counts = try_join_all(parts).await?;
    let count: usize = counts.iter().sum();
    println!("below a hundred thousand there are {count} primes, counted in {} parts", counts.len());
    Ok(())
}

async fn await_the_first_of_two(pool: &Pool) -> procpool::Result<()> {
    let endless = pool.apply_async(count_primes, 0..u64::MAX)?;
    let quick = pool.apply_async(count_primes, 0..100)?;
    let (first, other) = select(endless, quick).await.factor_first();
    let (count, stopped) = (first?, other.into_inner().cancel_running());
    println!("the quick task found {count}; the other was stopped: {stopped}");
    Ok(())
}

async fn await_a_panic(pool: &Pool) -> procpool::Result<()> {
    match pool.apply_async(count_primes, 7..7)?.await {
        Err(Error::Panicked { message, .. }) => println!("a panic is awaited like any result: {message}"),
        other => println!("from 7 to 7 there are {} primes", other?),
    }
    Ok(())
}

fn count_primes(numbers: Range<u64>) -> usize {
    assert!(!numbers.is_empty(), "there are no numbers in {numbers:?}");
    numbers.filter(|&number| is_prime(number)).count()
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}
