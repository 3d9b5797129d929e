//! Ten tasks of a second each for two workers, and a pool that is told to stop after two seconds.
//!
//! `terminate` ends the pool at once: tasks that run are stopped where they are, queued ones never begin. So only what
//! was finished by then has printed its line.

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
    sleep(Duration::from_secs(2));
    pool.terminate();
    pool.join()?;
    println!("ending");
    Ok(())
}

fn report_after_a_second(number: u32) {
    sleep(Duration::from_secs(1));
    println!("{number}------>{}", ZonedDateTime::now().strftime("%a %b %e %H:%M:%S %Y"));
}
