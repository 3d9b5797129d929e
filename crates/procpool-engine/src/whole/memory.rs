//! The memory that parent and workers share in the models of the whole engine: the region's own pages, changed step by
//! step.
//!
//! Shuttle's atomics show every thread the latest value. A processor does not: what one stores the others see later,
//! and meanwhile it reads on. So a store to the region is kept here, in the order of each thread's stores, and reaches
//! the memory at a moment that the scheduler chooses; at the latest before that thread's next read-modify-write,
//! `SeqCst` fence or system call, and, if it is one of the parent's, before another of them takes a lock. That is what
//! x86 does. What weaker processors do besides is for the models of loom.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::sync::atomic as real;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{self, ThreadId};

use super::world::{pid, step};

pub(crate) use std::sync::atomic::Ordering;

/// As many stores may be on their way for each thread.
const UNDERWAY: usize = 8;

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

#[derive(Default)]
struct Memory {
    /// Where the region is mapped, by parent and workers, and how many bytes.
    mappings: Vec<(usize, usize)>,
    /// Stores on their way, by process and thread.
    stores: BTreeMap<(u32, usize), VecDeque<Store>>,
}

struct Store {
    place: usize,
    value: u64,
    write: Box<dyn FnOnce()>,
}

fn with<T>(act: impl FnOnce(&mut Memory) -> T) -> T {
    MEMORY.with_borrow_mut(act)
}

fn own() -> (u32, usize) {
    (pid(), ThreadId::into(thread::current().id()))
}

pub(crate) fn forget() {
    with(|memory| *memory = Memory::default());
}

/// A mapping of the region came to be.
pub(crate) fn map(start: NonNull<u8>, length: usize) {
    with(|memory| memory.mappings.push((start.as_ptr().addr(), length)));
}

/// A mapping is about to go.
pub(crate) fn unmap(start: NonNull<u8>) {
    let stores = with(|memory| std::mem::take(&mut memory.stores));
    stores.into_values().flatten().for_each(|store| (store.write)());
    with(|memory| memory.mappings.retain(|&(begin, _)| begin != start.as_ptr().addr()));
}

/// Where a word lies, the same for all who map it: an offset in the region, or an address.
pub(crate) fn place<T>(word: &T) -> usize {
    offset(word).unwrap_or(std::ptr::from_ref(word).addr())
}

fn offset<T>(word: &T) -> Option<usize> {
    let address = std::ptr::from_ref(word).addr();
    let into = |&(start, length): &(usize, usize)| address.checked_sub(start).filter(|&into| into < length);
    with(|memory| memory.mappings.iter().find_map(into))
}

fn keep(store: Store) {
    let stores = |memory: &mut Memory| {
        let stores = memory.stores.entry(own()).or_default();
        stores.push_back(store);
        (stores.len() > UNDERWAY).then(|| stores.pop_front()).flatten()
    };
    with(stores).into_iter().for_each(|oldest| (oldest.write)());
}

/// What this thread last stored there, if it is still on its way.
fn stored(place: usize) -> Option<u64> {
    with(|memory| {
        memory.stores.get(&own())?.iter().rev().find(|store| store.place == place).map(|store| store.value)
    })
}

/// Some of this thread's stores reach the memory.
pub(super) fn drain_some() {
    let any = with(|memory| memory.stores.get(&own()).is_some_and(|stores| !stores.is_empty()));
    while any && thread_rng().gen_bool(0.5) {
        let oldest = with(|memory| memory.stores.get_mut(&own())?.pop_front());
        let Some(oldest) = oldest else { return };
        (oldest.write)();
    }
}

/// All of this thread's stores reach the memory.
pub(super) fn drain() {
    let stores = with(|memory| memory.stores.remove(&own()));
    stores.into_iter().flatten().for_each(|store| (store.write)());
}

/// Those of all the parent's threads do.
pub(crate) fn drain_parent() {
    drain_process(0);
}

/// Those of all threads of a process do.
pub(super) fn drain_process(pid: u32) {
    let its = |(process, _): &(u32, usize), _: &mut VecDeque<Store>| *process == pid;
    let stores: Vec<_> = with(|memory| memory.stores.extract_if(.., its).collect());
    stores.into_iter().flat_map(|(_, stores)| stores).for_each(|store| (store.write)());
}

pub(crate) fn fence(order: Ordering) {
    if step() && order == Ordering::SeqCst {
        drain();
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty, $word:expr, $number:expr) => {
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub(crate) struct $name(real::$name);

        #[allow(dead_code, reason = "each type has its own use")]
        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                Self(real::$name::new(value))
            }

            /// What the memory says, without a step.
            pub(crate) fn peek(&self) -> $value {
                self.0.load(Ordering::SeqCst)
            }

            pub(crate) fn load(&self, _: Ordering) -> $value {
                step();
                stored(place(self)).map_or_else(|| self.peek(), $number)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                if !step() {
                    return;
                }
                let Some(place) = offset(self).filter(|_| order != Ordering::SeqCst) else {
                    drain();
                    return self.0.store(value, Ordering::SeqCst);
                };
                let word = std::ptr::from_ref(&self.0);
                // SAFETY: stores reach the memory before it is unmapped.
                let write = move || unsafe { (*word).store(value, Ordering::SeqCst) };
                keep(Store { place, value: $word(value), write: Box::new(write) });
            }

            /// A read-modify-write; a dead process changes nothing.
            fn change(&self, change: impl FnOnce(&real::$name) -> $value) -> $value {
                if step() {
                    drain();
                    change(&self.0)
                } else {
                    self.peek()
                }
            }

            pub(crate) fn swap(&self, value: $value, _: Ordering) -> $value {
                self.change(|word| word.swap(value, Ordering::SeqCst))
            }

            pub(crate) fn compare_exchange(
                &self,
                from: $value,
                to: $value,
                _: Ordering,
                _: Ordering,
            ) -> Result<$value, $value> {
                let mut swapped = Err(from);
                let seen = self.change(|word| {
                    swapped = word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
                    swapped.unwrap_or_else(|seen| seen)
                });
                swapped.map_err(|_| seen)
            }
        }
    };
}

macro_rules! counting {
    ($name:ident, $value:ty: $($operation:ident)*) => {
        atomic!($name, $value, |value: $value| value as u64, |value: u64| value as $value);

        #[allow(dead_code, reason = "each type has its own use")]
        impl $name {
            $(pub(crate) fn $operation(&self, value: $value, _: Ordering) -> $value {
                self.change(|word| word.$operation(value, Ordering::SeqCst))
            })*
        }

        impl From<$value> for $name {
            fn from(value: $value) -> Self {
                Self::new(value)
            }
        }
    };
}

atomic!(AtomicBool, bool, u64::from, |value: u64| value != 0);
counting!(AtomicU8, u8:);
counting!(AtomicU32, u32: fetch_add fetch_sub fetch_or fetch_and fetch_max);
counting!(AtomicU64, u64: fetch_add fetch_sub fetch_or fetch_and fetch_max);
counting!(AtomicUsize, usize: fetch_add fetch_sub);
