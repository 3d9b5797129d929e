//! A task that writes where it must not: over the memory that all workers of a pool and their parent share.
//!
//! It may spoil results. It must not make the parent crash or hang: every task ends, and so does the pool. Each round
//! is told by its seed; set `SCRIBBLE_SEED` to repeat one round alone.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Story, alone};
use procpool::{AsyncResult, Pool};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Of the pool, and so of its memory in `/proc`.
const NAME: &str = "scribbled";

const PAGE: usize = 4096;

/// What a task writes, and where.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Ink {
    /// Noise over whole words.
    Words,
    /// Noise over single bytes, so that what lies beside stays credible.
    Bytes,
    /// Numbers that are small, so that they pass for counts and indices.
    Small,
    /// Zeroes over whole pages.
    Zeroes,
    /// Ones over whole pages.
    Ones,
}

const INKS: [Ink; 5] = [Ink::Words, Ink::Bytes, Ink::Small, Ink::Zeroes, Ink::Ones];

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Scribble {
    seed: u64,
    ink: Ink,
    strokes: usize,
    /// How many pages from the start of the memory may be hit, of those that were ever used.
    pages: usize,
    then: Then,
}

/// What the worker does after that.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Then {
    Return,
    Die,
    /// Returns, but goes on scribbling for a while beside its next tasks.
    GoOn,
}

/// A generator of noise that repeats itself from the same seed (xorshift).
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit
    }
}

/// The task.
fn scribble(what: Scribble) {
    let (start, length) = find_region();
    let used = used_pages(start, length);
    let pages = used[..what.pages.min(used.len())].to_vec();
    let mut noise = Noise::new(what.seed);
    (0..what.strokes).for_each(|_| stroke(start, &pages, what.ink, &mut noise));
    match what.then {
        Then::Return => {}
        Then::Die => std::process::abort(),
        Then::GoOn => drop(std::thread::spawn(move || {
            for _ in 0..100 {
                std::thread::sleep(Duration::from_millis(2));
                stroke(start, &pages, what.ink, &mut noise);
            }
        })),
    }
}

/// Where the pool's memory lies in this process.
fn find_region() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains(&format!("memfd:{NAME}"))).unwrap();
    let (start, rest) = line.split_once('-').unwrap();
    let (end, _) = rest.split_once(' ').unwrap();
    let [start, end] = [start, end].map(|address| usize::from_str_radix(address, 16).unwrap());
    (start, end - start)
}

/// Offsets of the pages that were ever touched, by anybody.
fn used_pages(start: usize, length: usize) -> Vec<usize> {
    let mut present = vec![0_u8; length / PAGE];
    // SAFETY: the range is mapped, and there is a byte for each of its pages.
    assert_eq!(unsafe { libc::mincore(start as *mut libc::c_void, length, present.as_mut_ptr()) }, 0);
    (0..present.len()).filter(|&page| present[page] & 1 == 1).map(|page| page * PAGE).collect()
}

fn stroke(start: usize, pages: &[usize], ink: Ink, noise: &mut Noise) {
    let page = start + pages[noise.below(pages.len())];
    let place = page + noise.below(PAGE / 8) * 8;
    let value = noise.next();
    // SAFETY: none, and that is the point: the page is mapped and writable, but it is not this task's to write.
    unsafe {
        match ink {
            Ink::Words => (place as *mut u64).write_volatile(value),
            Ink::Bytes => (place as *mut u8).add(value as usize % 8).write_volatile((value >> 8) as u8),
            Ink::Small => (place as *mut u64).write_volatile(value % 16),
            Ink::Zeroes => std::ptr::write_bytes(page as *mut u8, 0, PAGE),
            Ink::Ones => std::ptr::write_bytes(page as *mut u8, 0xff, PAGE),
        }
    }
}

/// Other people's tasks: before the scribble, beside it and after it; waited for in all ways.
struct Bystanders {
    handles: Vec<AsyncResult<Vec<u8>>>,
    heard: Arc<AtomicUsize>,
    listening: usize,
}

impl Bystanders {
    fn new() -> Self {
        Self { handles: Vec::new(), heard: Arc::default(), listening: 0 }
    }

    /// The pool may have given up by now: then nothing is accepted, and nothing need end.
    fn submit(&mut self, pool: &Pool) {
        for length in [10, 100, 3000, 100_000] {
            let make = |length: usize| vec![1_u8; length];
            self.handles.extend(pool.apply_async(make, length));
            drop(pool.apply_async(make, length));
            if let Ok(handle) = pool.apply_async(make, length) {
                let [on_success, on_error] = [self.heard.clone(), self.heard.clone()];
                let handle =
                    handle.on_success(move |_| drop(on_success.fetch_add(1, Ordering::SeqCst).to_string()));
                let handle =
                    handle.on_error(move |_| drop(on_error.fetch_add(1, Ordering::SeqCst).to_string()));
                self.listening += 1;
                self.handles.push(handle);
            }
        }
    }

    fn expect_ends(self) {
        for handle in self.handles {
            // Any end will do; a result may be spoilt.
            drop(handle.get());
        }
        assert_eq!(self.heard.load(Ordering::SeqCst), self.listening, "each callback was called once");
    }
}

fn play(story: &Story, what: Scribble, terminate: bool) {
    println!("{what:?}, {}", if terminate { "then terminate" } else { "then wait" });
    let builder = Pool::builder().workers(2).name(NAME).grace(Duration::from_millis(50));
    let pool = story.build(builder.restart_intensity(40, Duration::from_secs(10)));
    let mut bystanders = Bystanders::new();
    bystanders.submit(&pool);
    let scribbler = pool.apply_async(scribble, what);
    bystanders.submit(&pool);
    drop(scribbler.map(AsyncResult::get));
    bystanders.submit(&pool);
    if terminate {
        pool.terminate();
        drop(pool.join());
        bystanders.expect_ends();
    } else {
        bystanders.expect_ends();
        drop(pool.stats());
        // A worker may be out of its mind, and never leave.
        pool.close();
        if !pool.join_timeout(Duration::from_secs(2)).unwrap_or(true) {
            pool.terminate();
            drop(pool.join());
        }
    }
}

/// Plays rounds that differ in everything that the seed decides.
fn rounds(story: &Story, seeds: std::ops::Range<u64>, pages: usize) {
    let only: Option<u64> = std::env::var("SCRIBBLE_SEED").ok().map(|seed| seed.parse().unwrap());
    let neighbour = story.pool(1);
    for seed in seeds.filter(|&seed| only.is_none_or(|only| seed == only)) {
        let mut noise = Noise::new(seed);
        let what = Scribble {
            seed,
            ink: INKS[noise.below(INKS.len())],
            strokes: 1 << noise.below(9),
            pages,
            then: [Then::Return, Then::Die, Then::GoOn][noise.below(3)],
        };
        play(story, what, noise.below(2) == 0);
        assert_eq!(
            neighbour.apply(|x: u64| x + 1, seed).unwrap(),
            seed + 1,
            "another pool knows nothing of it"
        );
    }
}

#[test]
fn a_worker_that_scribbles_over_all_memory_of_the_pool_makes_nobody_hang() {
    alone(|story| rounds(story, 0..12, usize::MAX));
}

#[test]
fn a_worker_that_scribbles_over_what_all_processes_look_at_makes_nobody_hang() {
    // The header and the seats.
    alone(|story| rounds(story, 1000..1012, 4));
}

/// A text on its way out; where it lay when it was read, on its way in.
struct Text {
    length: usize,
    seen_at: usize,
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&"x".repeat(self.length))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;
        impl Visitor<'_> for Place {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text { length: text.len(), seen_at: text.as_ptr() as usize })
            }
        }
        deserializer.deserialize_str(Place)
    }
}

/// A text that a worker could still change would not stay one, however carefully it had been looked at before.
#[test]
fn a_reply_is_read_where_no_worker_can_write() {
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).name(NAME));
    let (start, length) = find_region();
    let make = |length: usize| Text { length, seen_at: 0 };
    for size in [10, 100_000] {
        let texts = [pool.apply(make, size).unwrap()].into_iter().chain(pool.map(make, [size; 2]).unwrap());
        for text in texts {
            assert_eq!(text.length, size);
            assert!(!(start..start + length).contains(&text.seen_at), "{size} bytes in shared memory");
        }
    }
}
