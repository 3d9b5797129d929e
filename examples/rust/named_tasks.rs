//! Functions that workers find by name.
//!
//! A plain function is sent as its place in the executable. One with `#[procpool::task]` is sent by its name, which
//! `Pool::dump` shows. It is called as before and given to a pool as before.

use procpool::Pool;

fn main() -> procpool::Result<()> {
    let pool = Pool::new(2)?;
    println!("a field of 3 by 4 has an area of {}", pool.apply(area, (3, 4))?);
    println!("computed here, it is the same: {}", area((3, 4)));

    let words = ["process", "pool"].map(String::from);
    println!("without vowels: {}", pool.map(without_vowels, words)?.join(", "));
    pool.close();
    pool.join()
}

/// Its name is its path: `named_tasks::area`.
#[procpool::task]
fn area((width, height): (u64, u64)) -> u64 {
    width * height
}

/// Its name stays the same wherever the function moves.
#[procpool::task(name = "texts.without_vowels")]
fn without_vowels(mut text: String) -> String {
    text.retain(|letter| !"aeiou".contains(letter));
    text
}
