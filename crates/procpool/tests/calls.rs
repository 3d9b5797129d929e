//! The calls of a pool, as a user makes them.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::thread;

use common::{Story, workers};
use procpool::{Buffer, Pool};
use serde::{Deserialize, Serialize};

fn square(x: u64) -> u64 {
    x * x
}

#[test]
fn apply_gives_what_the_function_returns() {
    let story = Story::begin();
    let pool = story.pool(2);
    assert_eq!(pool.apply(|x: u64| x + 1, 41).unwrap(), 42);
    assert_eq!(pool.apply(|(a, b): (String, u8)| format!("{a}{b}"), ("x".to_owned(), 7)).unwrap(), "x7");
    assert_eq!(pool.apply(square, 12).unwrap(), 144);
    pool.apply(|_: ()| (), ()).unwrap();
}

#[test]
fn map_keeps_the_order_of_its_items() {
    let story = Story::begin();
    let pool = story.pool(2);
    let expected: Vec<u64> = (0..10_000).map(|x| x * x).collect();
    assert_eq!(pool.map(|x: u64| x * x, 0..10_000).unwrap(), expected);
}

#[test]
fn a_function_may_be_generic_a_method_or_a_constructor() {
    fn longest<T: AsRef<str>>(words: Vec<T>) -> usize {
        words.iter().map(|word| word.as_ref().len()).max().unwrap_or(0)
    }
    struct Scale<const BY: u32>;
    impl<const BY: u32> Scale<BY> {
        fn apply(x: u32) -> u32 {
            x * BY
        }
    }
    let story = Story::begin();
    let pool = story.pool(1);
    assert_eq!(pool.apply(longest::<String>, vec!["one".to_owned(), "three".to_owned()]).unwrap(), 5);
    assert_eq!(pool.apply(Scale::<7>::apply, 6).unwrap(), 42);
    assert_eq!(pool.apply(Some, 5).unwrap(), Some(5));
    assert_eq!(pool.apply(u32::from_str_radix_16, "ff".to_owned()).unwrap(), 255);
}

trait Hexadecimal {
    fn from_str_radix_16(text: String) -> u32;
}

impl Hexadecimal for u32 {
    fn from_str_radix_16(text: String) -> u32 {
        Self::from_str_radix(&text, 16).unwrap()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle { radius: f64 },
    Polygon(Vec<(i32, i32)>, Option<Box<Shape>>),
}

#[test]
fn whatever_serde_can_carry_goes_to_and_fro() {
    let story = Story::begin();
    let pool = story.pool(1);
    let shapes = vec![
        Shape::Point,
        Shape::Circle { radius: f64::INFINITY },
        Shape::Polygon(vec![(1, -2), (i32::MIN, i32::MAX)], Some(Box::new(Shape::Point))),
    ];
    assert_eq!(pool.apply(|shapes: Vec<Shape>| shapes, shapes.clone()).unwrap(), shapes);
    let table: HashMap<String, BTreeMap<i8, char>> = [("ä".to_owned(), [(-1, 'ß')].into())].into();
    assert_eq!(pool.apply(|table: HashMap<String, BTreeMap<i8, char>>| table, table.clone()).unwrap(), table);
    let result: Result<u128, String> = Err("text".to_owned());
    assert_eq!(pool.apply(|result: Result<u128, String>| result, result.clone()).unwrap(), result);
}

#[test]
fn payloads_of_every_size_arrive_whole() {
    let story = Story::begin();
    let pool = story.pool(2);
    let sizes =
        [0, 1, 150, 190, 200, 210, 216, 217, 255, 256, 1000, 1023, 1024, 1025, 4096, 65_535, 65_536, 65_537];
    for size in sizes.into_iter().chain([262_143, 262_144, 262_145, 1 << 20, 5_000_001]) {
        let bytes: Vec<u8> = (0..size).map(|byte| (byte % 251) as u8).collect();
        let buffer = Buffer::from(bytes.clone());
        let swap = |(bytes, buffer): (Vec<u8>, Buffer<u8>)| (buffer, bytes);
        let small_enough = bytes[..size.min(70_000)].to_vec();
        let (back, vector) = pool.apply(swap, (small_enough.clone(), buffer)).unwrap();
        assert!(*back == *bytes && vector == small_enough, "{size} bytes");
    }
}

#[test]
fn buffers_of_any_numbers_arrive_aligned() {
    let story = Story::begin();
    let pool = story.pool(1);
    let doubles = Buffer::from(vec![1.5_f64; 10_000]);
    let sum = |(a, b, c): (Buffer<f64>, Buffer<u8>, Buffer<i128>)| {
        a.iter().sum::<f64>() + f64::from(b[0]) + c.iter().sum::<i128>() as f64
    };
    let argument = (doubles.clone(), vec![1_u8; 2001].into(), vec![-1_i128; 1000].into());
    assert_eq!(pool.apply(sum, argument).unwrap(), 15_000.0 + 1.0 - 1000.0);
    assert_eq!(pool.apply(|buffer: Buffer<f64>| buffer, doubles.clone()).unwrap(), doubles, "and back again");
}

#[test]
fn a_worker_may_keep_a_buffer_for_later_tasks() {
    static KEPT: OnceLock<Buffer<u64>> = OnceLock::new();
    fn keep(buffer: Buffer<u64>) {
        KEPT.get_or_init(|| buffer);
    }
    fn sum(_: ()) -> u64 {
        KEPT.get().unwrap().iter().sum()
    }
    let story = Story::begin();
    let pool = story.pool(1);
    pool.apply(keep, vec![3_u64; 50_000].into()).unwrap();
    for _ in 0..50 {
        pool.apply(|buffer: Buffer<u64>| buffer.len(), vec![9_u64; 50_000].into()).unwrap();
        assert_eq!(pool.apply(sum, ()).unwrap(), 150_000);
    }
}

#[test]
fn what_a_task_prints_comes_before_its_result() {
    let story = Story::begin();
    let pool = story.pool(1);
    let file = tempfile::NamedTempFile::new().unwrap();
    fn redirect_and_print(path: String) {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::create(path).unwrap();
        // SAFETY: both descriptors are open.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), 1) }, 1);
        print!("no end of line");
    }
    pool.apply(redirect_and_print, file.path().display().to_string()).unwrap();
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "no end of line");
}

#[test]
fn all_calls_may_come_from_many_threads_at_once() {
    let story = Story::begin();
    let pool = story.pool(2);
    thread::scope(|scope| {
        for thread in 0..16 {
            let pool = &pool;
            scope.spawn(move || {
                for x in 0..50 {
                    assert_eq!(pool.apply(square, x).unwrap(), square(x));
                    let handle = pool.apply_async(square, thread).unwrap().on_success(|_| {});
                    drop(pool.apply_async(square, x).unwrap());
                    let bytes = vec![thread as u8; 2000];
                    assert_eq!(pool.apply(|bytes: Vec<u8>| bytes, bytes.clone()).unwrap(), bytes);
                    assert_eq!(handle.get().unwrap(), square(thread));
                    drop(pool.stats());
                }
            });
        }
    });
}

#[test]
fn several_pools_in_one_process_know_nothing_of_each_other() {
    let story = Story::begin();
    let pools: Vec<_> = (0..4).map(|_| story.pool(2)).collect();
    let all: Vec<u32> = pools.iter().flat_map(|pool| workers(pool, 2)).collect();
    thread::scope(|scope| {
        for (pool, add) in pools.iter().zip(0..) {
            scope.spawn(move || {
                let sums = pool.map(|(a, b): (u64, u64)| a + b, (0..200).map(|x| (x, add))).unwrap();
                assert_eq!(sums, (add..200 + add).collect::<Vec<_>>());
            });
        }
    });
    let mut distinct = all.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), all.len());
    pools[0].terminate();
    pools[0].join().unwrap();
    assert_eq!(pools[1].apply(square, 3).unwrap(), 9);
}

#[test]
fn a_pool_may_live_in_a_static() {
    static POOL: OnceLock<Pool> = OnceLock::new();
    common::alone(|_story| {
        let pool = POOL.get_or_init(|| Pool::new(1).unwrap());
        assert_eq!(pool.apply(square, 3).unwrap(), 9);
        // It is never dropped: its processes end with this one.
        std::process::exit(0);
    });
}

#[test]
fn tasks_may_have_pools_of_their_own_to_any_depth() {
    fn nest(depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let pool = Pool::new(1).unwrap();
        1 + pool.apply(nest, depth - 1).unwrap()
    }
    let story = Story::begin();
    let pool = story.pool(2);
    assert_eq!(pool.map(nest, [4, 3]).unwrap(), [4, 3]);
}

#[test]
fn a_pool_that_does_not_spin_does_the_same() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(2).spin(false));
    for x in 0..1000 {
        assert_eq!(pool.apply(|x: u64| x + 1, x).unwrap(), x + 1);
    }
    assert_eq!(pool.map(|x: u64| x + 1, 0..1000).unwrap(), Vec::from_iter(1..1001));
}

// ---- registered functions ----

#[procpool::task]
fn increment(x: u64) -> u64 {
    x + 1
}

#[test]
fn a_function_at_the_place_of_a_registered_one_keeps_its_own_types() {
    let story = Story::begin();
    let pool = story.pool(1);
    // Where two functions have the same code, the compiler may give both one address.
    // SAFETY: both take and give one integer of 64 bits.
    let other = unsafe { std::mem::transmute::<fn(u64) -> u64, fn(i64) -> i64>(increment) };
    assert_eq!(pool.apply(increment, 5).unwrap(), 6);
    assert_eq!(pool.apply(other, -5).unwrap(), -4);
}

#[test]
fn registered_functions_that_share_a_name_are_not_taken_for_each_other() {
    fn first() -> fn(u64) -> u64 {
        #[procpool::task]
        fn same(x: u64) -> u64 {
            x + 1
        }
        same
    }
    fn second() -> fn(u64) -> u64 {
        #[procpool::task]
        fn same(x: u64) -> u64 {
            x + 1000
        }
        same
    }
    let story = Story::begin();
    let pool = story.pool(1);
    assert_eq!([first(), second()].map(|same| pool.apply(same, 1).unwrap()), [2, 1001]);
}
