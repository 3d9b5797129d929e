//! A big table of numbers, sent to workers and back as a `Buffer`.
//!
//! A `Vec<f64>` would be encoded number by number. A `Buffer<f64>` is copied once, as it is, to memory that caller and
//! worker share, and whoever receives it reads it there: no copy is made for the worker that adds up a column, nor for
//! `main`, which reads the scaled table.

use procpool::{Buffer, Pool};

const COLUMNS: usize = 4;
const ROWS: usize = 250_000;

fn main() -> procpool::Result<()> {
    // Every row is 0, 1, 2, 3.
    let table: Buffer<f64> = (0..ROWS * COLUMNS).map(|place| (place % COLUMNS) as f64).collect();

    let pool = Pool::new(2)?;
    // A clone of a buffer is the same memory.
    let sums = pool.map(column_sum, (0..COLUMNS).map(|column| (table.clone(), column)))?;
    println!("the sums of the columns: {sums:?}");

    let halves: Buffer<f64> = pool.apply(scaled, (table, 0.5))?;
    println!("the first row, halved: {:?}", &halves[..COLUMNS]);
    println!("the sum of its last column: {}", column_sum((halves, COLUMNS - 1)));
    pool.close();
    pool.join()
}

fn column_sum((table, column): (Buffer<f64>, usize)) -> f64 {
    table.iter().skip(column).step_by(COLUMNS).sum()
}

fn scaled((table, factor): (Buffer<f64>, f64)) -> Buffer<f64> {
    table.iter().map(|number| number * factor).collect()
}
