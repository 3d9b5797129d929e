//! Ten tasks of a second each for two workers, and a pool that finishes them all: five seconds.
//!
//! `close` takes no more tasks and `join` waits until those that were accepted are done and the workers are gone.

use std::thread::sleep;
use std::time::Duration;

use jiff::ZonedDateTime;
use procpool::Pool;

fn main() -> procpool::Result<()> {
    let pool = Pool::new(2)?;
    for number in 0..10 {
        let _result = pool.apply_async(report_after_a_second, number)?;
    }

    pool.close();
    pool.join()?;
    println!("ending");
    Ok(())
}

fn report_after_a_second(number: u32) {
    sleep(Duration::from_secs(1));
    println!("{number}------>{}", ZonedDateTime::now().strftime("%a %b %e %H:%M:%S %Y"));
}
