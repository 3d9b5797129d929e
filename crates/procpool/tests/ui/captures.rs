//! A closure that captures cannot be sent to another process.

use procpool::Pool;

fn main() -> procpool::Result<()> {
    let pool = Pool::new(2)?;
    let factor = 3;
    pool.apply(|x: u64| x * factor, 2)?;
    pool.map(move |x: u64| x + factor, [1, 2])?;
    Ok(())
}
