//! The same squares, by a program that says where its workers begin.
//!
//! With the feature `hook` switched off, nothing runs before `main`. Then `procpool::init()` is the first line of `main`:
//! in the program that a person started it does nothing, and in a worker it never returns.

use procpool::Pool;

fn main() -> procpool::Result<()> {
    procpool::init();

    let pool = Pool::new(2)?;
    let squares: Vec<String> = pool.map(|x: u64| x * x, 0..10)?.iter().map(u64::to_string).collect();
    println!("{}", squares.join(" "));
    pool.close();
    pool.join()
}
