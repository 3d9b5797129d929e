//! The squares of the numbers from 0 to 9, each computed by a worker process.
//!
//! `main` says nothing about workers, and neither does the test below: no line of either is there because a second
//! process will run this executable.

use std::ops::Range;

use procpool::Pool;

fn squares(numbers: Range<u64>) -> procpool::Result<Vec<u64>> {
    let pool = Pool::new(2)?;
    let squares = pool.map(|x: u64| x * x, numbers)?;
    pool.close();
    pool.join()?;
    Ok(squares)
}

fn main() -> procpool::Result<()> {
    let squares: Vec<String> = squares(0..10)?.iter().map(u64::to_string).collect();
    println!("{}", squares.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_come_back_in_the_order_of_their_numbers() {
        assert_eq!(squares(0..5).unwrap(), [0, 1, 4, 9, 16]);
    }
}
