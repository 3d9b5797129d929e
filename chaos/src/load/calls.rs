//! The ways in which tasks are sent: each enters them in the ledger first, and writes down what became of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use procpool::{AsyncResult, Error, Options, Result};

use super::errand::{Conduct, Errand, Load, Receipt, run};
use super::pools::{NumberedPool, Pools};
use crate::ledger::{End, Entry, Ledger};

/// One thread that calls.
pub(crate) struct Caller<'p, 'l> {
    pools: &'p Pools<'l>,
    ledger: &'p Ledger,
    rng: fastrand::Rng,
    /// Whether some tasks are to fill memory.
    gorge: bool,
}

/// The choices of a call.
#[derive(Clone, Copy)]
struct Terms {
    call: &'static str,
    pool: u32,
    timeout: Option<Duration>,
    retries: u32,
}

impl Terms {
    fn options<'p>(&self, pool: &'p NumberedPool<'_>) -> Options<'p> {
        let options = pool.options().retries(self.retries);
        self.timeout.map_or(options, |timeout| options.timeout(timeout))
    }
}

/// A task that was accepted, and what its caller is going to do.
struct Sent {
    id: u64,
    handle: AsyncResult<Receipt>,
}

impl<'p, 'l> Caller<'p, 'l> {
    pub(crate) fn new(pools: &'p Pools<'l>, rng: fastrand::Rng, gorge: bool) -> Self {
        Self { pools, ledger: pools.ledger, rng, gorge }
    }

    /// Makes one call, in any way. False where there was no pool for it.
    pub(crate) fn call(&mut self) -> bool {
        let Some(pool) = self.pools.any(&mut self.rng) else { return false };
        if pool.is_spent.load(Ordering::Relaxed) {
            return false;
        }
        match self.rng.u8(..16) {
            0..4 => self.apply(&pool),
            4..11 => self.batch(pool),
            11..13 => self.map(&pool),
            13 => self.map_to_first_error(&pool),
            14 => self.imap(&pool),
            _ => self.imap_unordered(&pool),
        }
        true
    }

    // ---- one by one ----

    fn apply(&mut self, pool: &NumberedPool<'_>) {
        let terms = self.terms(pool, "apply");
        let errand = self.errand(&terms, terms.timeout.is_some());
        let id = errand.id;
        match terms.options(pool).apply(run, errand) {
            // Not accepted, or ended so: the caller is not told which.
            Err(error) if is_final(&error) => self.refuse(pool, id, error),
            result => self.settle(id, result),
        }
    }

    /// Sends some, lets go of the pool, and then sees to each in its own way.
    fn batch(&mut self, pool: Arc<NumberedPool<'l>>) {
        let mut sent = Vec::new();
        for _ in 0..self.rng.usize(1..40) {
            let terms = self.terms(&pool, "apply_async");
            let errand = self.errand(&terms, true);
            let id = errand.id;
            match terms.options(&pool).apply_async(run, errand) {
                Ok(handle) => sent.push(Sent { id, handle }),
                Err(error) => self.refuse(&pool, id, error),
            }
        }
        drop(pool);
        self.rng.shuffle(&mut sent);
        // Those first that only the caller ends: others may wait for their workers.
        let (endless, others): (Vec<_>, Vec<_>) = sent.into_iter().partition(|sent| self.is_endless(sent.id));
        endless.into_iter().for_each(|Sent { id, handle }| self.cancel_until_it_ends(id, handle));
        others.into_iter().for_each(|Sent { id, handle }| self.see_to(id, handle));
    }

    fn is_endless(&self, id: u64) -> bool {
        self.ledger.change(id, |entry| entry.conduct == Conduct::Oversleep && entry.timeout.is_none())
    }

    fn see_to(&mut self, id: u64, mut handle: AsyncResult<Receipt>) {
        match self.rng.u8(..32) {
            0..14 => self.settle(id, handle.get()),
            14..18 => self.settle(id, pollster::block_on(handle)),
            18..23 => self.hear(id, handle),
            23..26 => {
                let result = loop {
                    match handle.get_timeout(Duration::from_micros(self.rng.u64(..3000))) {
                        Err(Error::NotReady) => {}
                        result => break result,
                    }
                };
                self.settle(id, result);
            }
            26..28 => self.ledger.end(id, End::Abandoned),
            28..30 => {
                let cancelled = handle.cancel();
                self.ledger.change(id, |entry| entry.cancelled |= cancelled);
                self.settle(id, handle.get());
            }
            _ => self.cancel_until_it_ends(id, handle),
        }
    }

    /// A task that is never ready by itself may be queued again, by a retry, at the moment at which it is cancelled.
    fn cancel_until_it_ends(&mut self, id: u64, mut handle: AsyncResult<Receipt>) {
        std::thread::sleep(Duration::from_micros(self.rng.u64(..2000)));
        loop {
            let cancelled = handle.cancel_running();
            self.ledger.change(id, |entry| entry.cancelled |= cancelled);
            match handle.get_timeout(Duration::from_millis(50)) {
                Err(Error::NotReady) => {}
                result => return self.settle(id, result),
            }
        }
    }

    fn hear(&mut self, id: u64, handle: AsyncResult<Receipt>) {
        self.ledger.change(id, |entry| entry.has_callbacks = true);
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tell = |what: bool| {
            let heard = heard.clone();
            move || heard.lock().expect("nobody panics here").push(what)
        };
        let (success, failure) = (tell(true), tell(false));
        let result = handle.on_success(move |_| success()).on_error(move |_| failure()).get();
        let heard = heard.lock().expect("nobody panics here").clone();
        self.ledger.change(id, |entry| entry.heard = heard);
        self.settle(id, result);
    }

    // ---- many at once ----

    fn map(&mut self, pool: &NumberedPool<'_>) {
        let (terms, size, errands) = self.chunks(pool, "map_async");
        let ids: Vec<u64> = errands.iter().map(|errand| errand.id).collect();
        match terms.options(pool).chunk_size(size).map_async(run, errands) {
            Ok(results) => {
                let results = results.get_each();
                if results.len() != ids.len() {
                    let fault = format!("{} results for {} items", results.len(), ids.len());
                    self.ledger.end(ids[0], End::Wrong(fault));
                }
                ids.into_iter().zip(results).for_each(|(id, result)| self.settle(id, result));
            }
            Err(error) => ids.into_iter().for_each(|id| self.refuse(pool, id, error.clone())),
        }
    }

    /// Where one item failed the caller does not hear of the others.
    fn map_to_first_error(&mut self, pool: &NumberedPool<'_>) {
        let (terms, size, errands) = self.chunks(pool, "map");
        let ids: Vec<u64> = errands.iter().map(|errand| errand.id).collect();
        let results = match terms.options(pool).chunk_size(size).map_async(run, errands) {
            Ok(results) => results.get(),
            Err(error) => return ids.into_iter().for_each(|id| self.refuse(pool, id, error.clone())),
        };
        match results {
            Ok(values) => ids.into_iter().zip(values).for_each(|(id, value)| self.settle(id, Ok(value))),
            Err(_) => ids.into_iter().for_each(|id| self.ledger.end(id, End::Abandoned)),
        }
    }

    /// The results come in the items' order. Where there are fewer, the last one says why the pool took no more.
    fn imap(&mut self, pool: &NumberedPool<'_>) {
        let (terms, size, errands) = self.chunks(pool, "imap");
        let ids: Vec<u64> = errands.iter().map(|errand| errand.id).collect();
        let options = terms.options(pool).chunk_size(size).buffer_size(self.rng.usize(1..40));
        let wanted = self.wanted(ids.len());
        let mut results: Vec<_> = options.imap(run, errands).take(wanted).collect();
        let refusal = if results.len() < wanted { results.pop().and_then(Result::err) } else { None };
        let mut left = ids.into_iter();
        left.by_ref().zip(results).for_each(|(id, result)| self.settle(id, result));
        match refusal {
            Some(error) => left.for_each(|id| self.refuse(pool, id, error.clone())),
            None => left.for_each(|id| self.ledger.end(id, End::Abandoned)),
        }
    }

    /// Errors come without a name: each is one of those tasks' that did not return.
    fn imap_unordered(&mut self, pool: &NumberedPool<'_>) {
        let (terms, size, errands) = self.chunks(pool, "imap_unordered");
        let mut left: Vec<u64> = errands.iter().map(|errand| errand.id).collect();
        let options = terms.options(pool).chunk_size(size).buffer_size(self.rng.usize(1..40));
        let wanted = self.wanted(left.len());
        let results: Vec<_> = options.imap_unordered(run, errands).take(wanted).collect();
        let complete = results.len() == left.len();
        let mut errors = Vec::new();
        for result in results {
            match result {
                Ok(receipt) => match left.iter().position(|&id| id == receipt.id) {
                    Some(place) => {
                        left.swap_remove(place);
                        self.settle(receipt.id, Ok(receipt));
                    }
                    None => self.ledger.end(receipt.id, End::Wrong("it came twice, or unasked".to_owned())),
                },
                Err(error) => errors.push(error),
            }
        }
        let errors = Arc::new(errors);
        let end = || if complete { End::OneOf(errors.clone()) } else { End::Abandoned };
        left.into_iter().for_each(|id| self.ledger.end(id, end()));
    }

    /// How many results are asked for: often all.
    fn wanted(&mut self, items: usize) -> usize {
        if self.rng.u8(..) < 170 { items } else { self.rng.usize(..=items) }
    }

    /// Items that travel together, in chunks of one size.
    fn chunks(&mut self, pool: &NumberedPool<'_>, call: &'static str) -> (Terms, usize, Vec<Errand>) {
        let terms = self.terms(pool, call);
        let size = self.rng.usize(1..8);
        let errands: Vec<Errand> =
            (0..self.rng.usize(1..60)).map(|_| self.errand(&terms, terms.timeout.is_some())).collect();
        for chunk in errands.chunks(size) {
            let number = chunk[0].id;
            chunk.iter().for_each(|errand| self.ledger.change(errand.id, |entry| entry.chunk = number));
        }
        (terms, size, errands)
    }

    // ---- what is sent ----

    fn terms(&mut self, pool: &NumberedPool<'_>, call: &'static str) -> Terms {
        let timeout = match self.rng.u8(..20) {
            0..3 => Some(Duration::from_millis(self.rng.u64(15..100))),
            3..8 => Some(Duration::from_secs(5)),
            _ => None,
        };
        let retries = if self.rng.bool() { 0 } else { self.rng.u32(1..4) };
        Terms { call, pool: pool.number, timeout, retries }
    }

    /// The next task, entered in the ledger. Only those that somebody ends may sleep for ever.
    fn errand(&mut self, terms: &Terms, somebody_ends_it: bool) -> Errand {
        let brief = terms.timeout.is_none_or(|timeout| timeout < Duration::from_secs(1));
        let conduct = match self.rng.u32(..1000) {
            0..15 => Conduct::Panic,
            15..25 => Conduct::Signal(
                self.rng
                    .choice([libc::SIGSEGV, libc::SIGKILL, libc::SIGABRT, libc::SIGTERM])
                    .unwrap_or(libc::SIGKILL),
            ),
            25..30 => Conduct::Exit(3),
            30..40 if somebody_ends_it && brief => Conduct::Oversleep,
            40..42 if self.gorge => Conduct::Gorge,
            42..60 => Conduct::Work(self.rng.u32(..20_000)),
            _ => Conduct::Work(self.rng.u32(..300)),
        };
        let (load, reply) = (self.length(), self.length());
        let Terms { call, pool, timeout, retries } = *terms;
        let id = self.ledger.enter(Entry::new(pool, call, conduct, (load, reply), timeout, retries));
        Errand { id, conduct, reply, load: Load::of(id, load) }
    }

    /// Mostly what fits into a slot, sometimes megabytes.
    fn length(&mut self) -> usize {
        let most = match self.rng.u8(..100) {
            0..60 => 100,
            60..85 => 5000,
            85..95 => 100_000,
            95..99 => 1_000_000,
            _ => 4_000_000,
        };
        self.rng.usize(..most)
    }

    // ---- what became of it ----

    fn settle(&self, id: u64, result: Result<Receipt>) {
        let end = match result {
            Ok(receipt) => {
                let (load, reply) = self.ledger.change(id, |entry| (entry.load, entry.reply));
                receipt.fault(id, load, reply).map_or(End::Returned, End::Wrong)
            }
            Err(error @ Error::Closed) => End::Refused(error),
            Err(error) => End::Failed(error),
        };
        self.ledger.end(id, end);
    }

    fn refuse(&self, pool: &NumberedPool<'_>, id: u64, error: Error) {
        if is_final(&error) {
            pool.is_spent.store(true, Ordering::Relaxed);
        }
        self.ledger.end(id, End::Refused(error));
    }
}

/// Whether a pool that says so takes no more tasks.
fn is_final(error: &Error) -> bool {
    use Error::{Closed, InitializerFailed, NotStarted, Terminated, TooManyDeaths};
    matches!(error, Closed | InitializerFailed { .. } | NotStarted(_) | Terminated | TooManyDeaths { .. })
}
