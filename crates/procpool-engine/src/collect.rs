//! The one thread that serves callbacks and listeners, in pools that have any. Where the system has no thread left the
//! supervisor stands in for it.
//!
//! How it is told, and how it sleeps: see `ended`. It believes only the slot's word, and the private books: a
//! listener is called once its task has ended *or its slot has gone on to another*, since whoever holds the handle may
//! take the outcome before the collector comes to look.

use std::cell::Cell;
use std::collections::HashMap;
use std::ptr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::faults::{Point, point};
use crate::os::signal;
use crate::region::Region;
use crate::shared::Shared;
use crate::slot::Ticket;
use crate::sync::{AtomicBool, Mutex, Ordering, lock, thread, thread_local};

/// The longest that the thread sleeps without a look in a pool that has ended.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

thread_local! {
    /// Which pool's listeners this thread calls, by its region: null for none.
    static SERVES: Cell<*const Region> = const { Cell::new(ptr::null()) };
    /// Whether this thread is the supervisor, which calls listeners because no thread could be had for it.
    static STANDS_IN: Cell<bool> = const { Cell::new(false) };
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
    handle: thread::JoinHandle<()>,
    /// It is to end.
    over: Arc<AtomicBool>,
}

/// Registers a listener for the task in `slot`, whose handle the caller holds. Gives back what nobody is left to call.
pub(crate) fn listen(
    shared: &Arc<Shared>,
    slot: u32,
    ticket: Ticket,
    listener: Listener,
) -> Option<Listener> {
    lock(&shared.collector.listeners).entry(slot).or_default().push((ticket, listener));
    // After that: where the pool ends meanwhile, either the old thread or its supervisor finds the listener, or a new
    // thread is started.
    let has_thread = shared.collector.start(shared);
    if !has_thread {
        shared.poke();
    }
    // Should the collector not be woken, the audit finds that out.
    shared.watch_again();
    if let Some(words) = shared.region.slot(slot) {
        words.event.listen();
    }
    point(Point::Listens);
    if shared.is_ended(slot, ticket) {
        shared.region.ended().tell(slot);
    }
    // The supervisor calls the rest after it has said that it ends: either it finds the listener, or this sees that.
    let is_heard = has_thread || !lock(&shared.life).ended;
    let unheard = if is_heard { Vec::new() } else { shared.collector.take_due(shared, slot, Ticket::MAX) };
    (!unheard.is_empty()).then(|| -> Listener { Box::new(move || in_order(unheard).for_each(call)) })
}

impl Collector {
    /// Starts the thread, if there is none. False where none can be had: then the supervisor stands in.
    fn start(&self, shared: &Arc<Shared>) -> bool {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let weak = Arc::downgrade(shared);
            let region = shared.region.clone();
            let name = format!("{}-collector", shared.config.name);
            let over = Arc::new(AtomicBool::new(false));
            let is_over = over.clone();
            let spawned = signal::without_signals(|| {
                thread::Builder::new().name(name).spawn(move || serve(&region, &weak, &is_over))
            });
            *thread = spawned.ok().map(|handle| Thread { handle, over });
        }
        thread.is_some()
    }

    /// Whether there are listeners, and no thread that calls them.
    pub(crate) fn is_stranded(&self) -> bool {
        lock(&self.thread).is_none() && self.has_listeners()
    }

    /// Supervisor: calls the listeners that are due, where no thread can be had for it. Whoever waits for one must not
    /// wait for ever.
    pub(crate) fn stand_in(&self, shared: &Arc<Shared>) {
        if !self.is_stranded() {
            return;
        }
        let due = self.due(shared);
        if self.start(shared) {
            return due.into_iter().for_each(|slot| shared.region.ended().tell(slot));
        }
        let due = due.into_iter().flat_map(|slot| self.take_due(shared, slot, Ticket::MAX)).collect();
        shared.call_in_place(in_order(due));
    }

    /// Supervisor, when every task has ended: the thread ends after the last listener was called. What it could
    /// not call is called here.
    pub(crate) fn finish(&self, shared: &Shared) {
        let thread = lock(&self.thread).take();
        let Some(Thread { handle, over }) = thread else { return self.call_rest(shared) };
        // ORDER: before the swap in `shake`, partner of the one in `sleep`: whichever comes second, the thread does not
        // sleep on. Nobody is left who could write over its bed meanwhile (*I4*).
        over.store(true, Ordering::Release);
        shared.region.ended().shake();
        let _ = handle.join();
        self.call_rest(shared);
    }

    /// Supervisor: calls all that are left.
    pub(crate) fn call_rest(&self, shared: &Shared) {
        let rest = std::mem::take(&mut *lock(&self.listeners));
        shared.call_in_place(in_order(rest.into_values().flatten().collect()));
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

    /// Takes the listeners of `slot` whose tasks have ended and are not younger than `youngest`.
    fn take_due(&self, shared: &Shared, slot: u32, youngest: Ticket) -> Vec<(Ticket, Listener)> {
        let mut listeners = lock(&self.listeners);
        let Some(waiting) = listeners.get_mut(&slot) else { return Vec::new() };
        // Looked up while no listener can be added, so that every task which waits here is in the books or was.
        let present = lock(&shared.books).tickets.get(slot as usize).copied();
        let pending = present.filter(|&ticket| !shared.is_ended(slot, ticket));
        let is_due = |ticket| Some(ticket) != pending;
        let due = waiting.extract_if(.., |(ticket, _)| is_due(*ticket) && *ticket <= youngest).collect();
        if waiting.iter().any(|(ticket, _)| is_due(*ticket)) {
            shared.region.ended().tell(slot);
        }
        if waiting.is_empty() {
            listeners.remove(&slot);
        }
        due
    }
}

/// Listeners in the order of their tasks, and of one task in the order in which they came.
fn in_order(mut due: Vec<(Ticket, Listener)>) -> impl Iterator<Item = Listener> {
    due.sort_by_key(|(ticket, _)| *ticket);
    due.into_iter().map(|(_, listener)| listener)
}

fn call(listener: Listener) {
    // A listener that panics harms nobody but itself; the panic hook has told of it.
    let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(listener));
    if let Err(second) = called.or_else(|payload| {
        // What it panicked with may panic when it is dropped.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(payload)))
    }) {
        std::mem::forget(second);
    }
}

impl Shared {
    /// Whether this thread is the collector's: then a listener is being called, and the thread cannot be waited for.
    pub(crate) fn is_in_callback(&self) -> bool {
        ptr::eq(SERVES.with(Cell::get), &raw const *self.region)
    }

    /// Supervisor: calls listeners itself.
    fn call_in_place(&self, listeners: impl Iterator<Item = Listener>) {
        SERVES.with(|serves| serves.set(&raw const *self.region));
        STANDS_IN.with(|stands_in| stands_in.set(true));
        listeners.for_each(call);
        SERVES.with(|serves| serves.set(ptr::null()));
        STANDS_IN.with(|stands_in| stands_in.set(false));
    }
}

/// Whether this thread is the supervisor, which calls a listener: then there is nobody to wait for.
pub(crate) fn stands_in() -> bool {
    STANDS_IN.with(Cell::get)
}

fn serve(region: &Region, shared: &Weak<Shared>, over: &AtomicBool) {
    SERVES.with(|serves| serves.set(region));
    while serve_ended(region, shared) || !(over.load(Ordering::Acquire) || shared.strong_count() == 0) {
        // The audit wakes it where a worker that scribbled lost it its wake-up (*I4*). After that, nobody does when the
        // last handle is gone.
        let is_audited = shared.upgrade().is_some_and(|shared| !lock(&shared.life).settled);
        let most = (!is_audited).then_some(LONGEST_SLEEP);
        region.ended().sleep(most, || serve_ended(region, shared) || over.load(Ordering::Acquire));
    }
}

/// Calls the listeners of all slots that the collector was told of; false if there were none.
///
/// In the order of their tasks: of one worker's tasks, the one that ended first comes first. The slots are looked at one
/// after the other, so the first look may find a task and miss one that ended before it; the second finds that as well.
fn serve_ended(region: &Region, shared: &Weak<Shared>) -> bool {
    let mut due = take_due(region, shared, Ticket::MAX);
    let Some(youngest) = due.iter().map(|(ticket, _)| *ticket).max() else { return false };
    due.extend(take_due(region, shared, youngest));
    in_order(due).for_each(call);
    true
}

/// The listeners that are due of all slots that the collector was told of.
fn take_due(region: &Region, shared: &Weak<Shared>, youngest: Ticket) -> Vec<(Ticket, Listener)> {
    let mut due = Vec::new();
    region.ended().take(|slot| {
        // The bit is a hint (*I5*): where nothing has ended there is nothing to tell yet.
        let found = shared.upgrade().map(|shared| shared.collector.take_due(&shared, slot, youngest));
        due.extend(found.into_iter().flatten());
    });
    due
}
