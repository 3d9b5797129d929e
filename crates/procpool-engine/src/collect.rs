//! The one thread that serves callbacks and listeners, in pools that have any.
//!
//! How it is told, and how it sleeps: see `ended`. It believes only the slot's word, and the private books: a
//! listener is called once its task has ended *or its slot has gone on to another*, since whoever holds the handle may
//! take the outcome before the collector comes to look.

use std::cell::Cell;
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::os::process;
use crate::region::Region;
use crate::shared::Shared;
use crate::slot::Ticket;
use crate::sync::lock;

thread_local! {
    /// Which pool's listeners this thread calls, by its region: null for none.
    static SERVES: Cell<*const Region> = const { Cell::new(ptr::null()) };
}

/// What is called when a task has ended.
pub(crate) type Listener = Box<dyn FnOnce() + Send>;

/// The listeners of one pool, and the thread that calls them.
#[derive(Default)]
pub(crate) struct Collector {
    /// By slot. Locked before the books, where both are.
    listeners: Mutex<HashMap<u32, Vec<(Ticket, Listener)>>>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    handle: JoinHandle<()>,
    /// It is to end.
    over: Arc<AtomicBool>,
}

/// Registers a listener for the task in `slot`, whose handle the caller holds.
pub(crate) fn listen(shared: &Arc<Shared>, slot: u32, ticket: Ticket, listener: Listener) {
    lock(&shared.collector.listeners).entry(slot).or_default().push((ticket, listener));
    // After that: where the pool ends meanwhile, either the old thread or its supervisor finds the listener, or a new
    // thread is started.
    shared.collector.start(shared);
    let Some(words) = shared.region.slot(slot) else { return };
    words.event.listen();
    if shared.is_ended(slot, ticket) {
        shared.region.ended().tell(slot);
    }
}

impl Collector {
    fn start(&self, shared: &Arc<Shared>) {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let weak = Arc::downgrade(shared);
            let region = shared.region.clone();
            let name = format!("{}-collector", shared.config.name);
            let over = Arc::new(AtomicBool::new(false));
            let is_over = over.clone();
            let spawned = process::without_signals(|| {
                std::thread::Builder::new().name(name).spawn(move || serve(&region, &weak, &is_over))
            });
            // Where no thread can be had the listeners are called when the pool ends.
            *thread = spawned.ok().map(|handle| Thread { handle, over });
        }
    }

    /// Supervisor, when every task has ended: the thread ends after the last listener was called. What it could
    /// not call is called here.
    pub(crate) fn finish(&self, shared: &Shared) {
        let thread = lock(&self.thread).take();
        let Some(Thread { handle, over }) = thread else { return self.call_rest() };
        over.store(true, Ordering::Release);
        while !handle.is_finished() {
            shared.region.ended().shake();
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = handle.join();
        self.call_rest();
    }

    fn call_rest(&self) {
        let rest = std::mem::take(&mut *lock(&self.listeners));
        rest.into_values().flatten().for_each(|(_, listener)| call(listener));
    }

    /// The slots of tasks that have ended, and whose listeners have not been called.
    pub(crate) fn due(&self, shared: &Shared) -> Vec<u32> {
        let listeners = lock(&self.listeners);
        let books = lock(&shared.books);
        let is_pending = |slot: u32| {
            let present = books.tickets.get(slot as usize).copied().unwrap_or(0);
            present != 0 && !shared.is_ended(slot, present)
        };
        listeners.keys().copied().filter(|&slot| !is_pending(slot)).collect()
    }

    /// Whether somebody listens to any task.
    pub(crate) fn has_listeners(&self) -> bool {
        !lock(&self.listeners).is_empty()
    }

    /// Takes the listeners of `slot` whose tasks have ended.
    fn take_due(&self, shared: &Shared, slot: u32) -> Vec<Listener> {
        let mut listeners = lock(&self.listeners);
        let Some(waiting) = listeners.get_mut(&slot) else { return Vec::new() };
        // Looked up while no listener can be added, so that every task which waits here is in the books or was.
        let present = lock(&shared.books).tickets.get(slot as usize).copied();
        let pending = present.filter(|&ticket| !shared.is_ended(slot, ticket));
        let due = waiting.extract_if(.., |(ticket, _)| Some(*ticket) != pending);
        let due = due.map(|(_, listener)| listener).collect();
        if waiting.is_empty() {
            listeners.remove(&slot);
        }
        due
    }
}

fn call(listener: Listener) {
    // A listener that panics harms nobody but itself; the panic hook has told of it.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(listener));
}

impl Shared {
    /// Whether this thread is the collector's: then a listener is being called, and the thread cannot be waited for.
    pub(crate) fn is_in_callback(&self) -> bool {
        ptr::eq(SERVES.get(), &raw const *self.region)
    }
}

fn serve(region: &Region, shared: &Weak<Shared>, over: &AtomicBool) {
    SERVES.set(region);
    while serve_ended(region, shared) || !(over.load(Ordering::Acquire) || shared.strong_count() == 0) {
        region.ended().sleep(|| serve_ended(region, shared));
    }
}

/// Calls the listeners of all slots that the collector was told of; false if there were none.
fn serve_ended(region: &Region, shared: &Weak<Shared>) -> bool {
    region.ended().take(|slot| {
        // The bit is a hint (*I5*): where nothing has ended there is nothing to tell yet.
        let due = shared.upgrade().map(|shared| shared.collector.take_due(&shared, slot));
        due.into_iter().flatten().for_each(call);
    })
}
