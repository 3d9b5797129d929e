//! Tasks that write down that they ran, sent in all ways that there are: what the tests of faults send.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use procpool::{AsyncResult, Buffer, Builder, Pool, Result};
use serde::{Deserialize, Serialize};

/// What a task is given, and gives back: small enough for a slot, or with a load that needs a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) id: usize,
    pub(crate) load: Vec<u8>,
}

/// The task: writes down that it ran, and returns what it was given.
fn run(errand: Errand) -> Errand {
    static RECORD: OnceLock<File> = OnceLock::new();
    let open = || File::options().append(true).open(std::env::var("RECORD").unwrap()).unwrap();
    // One write to a file opened for appending: whole, whoever else writes.
    RECORD.get_or_init(open).write_all(format!("{}\n", errand.id).as_bytes()).unwrap();
    errand
}

/// The same, and holds on to its buffer until the worker's next task of this kind lets go of it.
fn run_and_hoard((errand, buffer): (Errand, Buffer<u8>)) -> Errand {
    static HOARD: Mutex<Option<Buffer<u8>>> = Mutex::new(None);
    assert!(buffer.iter().all(|&byte| byte == 8), "a buffer that somebody else wrote into");
    *HOARD.lock().unwrap() = Some(buffer);
    run(errand)
}

/// Where tasks write down that they ran: a file without a name, which workers reach through this process.
pub(crate) struct Record(File);

impl Record {
    pub(crate) fn new() -> Self {
        // SAFETY: the name is a C string; the descriptor that comes back is nobody else's.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"record".as_ptr(), libc::MFD_CLOEXEC)) };
        Self(file)
    }

    /// How often each task ran, of so many.
    pub(crate) fn runs(&mut self, tasks: usize) -> Vec<usize> {
        let mut text = String::new();
        self.0.rewind().unwrap();
        self.0.read_to_string(&mut text).unwrap();
        let mut runs = vec![0; tasks];
        text.lines().for_each(|id| runs[id.parse::<usize>().unwrap()] += 1);
        runs
    }

    /// A pool whose tasks write here.
    pub(crate) fn pool(&self, workers: usize) -> Builder {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd());
        Pool::builder().workers(workers).env("RECORD", path)
    }
}

/// Tasks on their way.
pub(crate) struct Errands<'p> {
    pub(crate) pool: &'p Pool,
    pub(crate) load: usize,
    pub(crate) retries: u32,
    /// Whether workers keep a buffer of each until the next comes.
    pub(crate) hoarded: bool,
    pub(crate) timeout: Option<Duration>,
    next: AtomicUsize,
}

impl<'p> Errands<'p> {
    pub(crate) fn new(pool: &'p Pool, load: usize) -> Self {
        Self { pool, load, retries: 0, hoarded: false, timeout: None, next: AtomicUsize::new(0) }
    }

    pub(crate) fn count(&self) -> usize {
        self.next.load(Ordering::SeqCst)
    }

    pub(crate) fn submit(&self) -> AsyncResult<Errand> {
        let errand = Errand { id: self.next.fetch_add(1, Ordering::SeqCst), load: vec![7; self.load] };
        let options = self.pool.options().retries(self.retries);
        let options = self.timeout.map_or(options, |timeout| options.timeout(timeout));
        if self.hoarded {
            options.apply_async(run_and_hoard, (errand, vec![8; self.load].into())).unwrap()
        } else {
            options.apply_async(run, errand).unwrap()
        }
    }

    /// Whether all of these are what was sent, and no two the same.
    pub(crate) fn are_whole<'e>(&self, errands: impl IntoIterator<Item = &'e Errand>) -> bool {
        let mut ids = HashSet::new();
        let is_whole =
            |errand: &Errand| errand.load.len() == self.load && errand.load.iter().all(|&byte| byte == 7);
        errands.into_iter().all(|errand| is_whole(errand) && ids.insert(errand.id))
    }

    /// Some whose handles are dropped at once.
    pub(crate) fn abandon(&self, count: usize) {
        (0..count).for_each(|_| drop(self.submit()));
    }

    /// Some by a caller that waits for each before it sends another.
    pub(crate) fn wait_for_each(&self, count: usize) -> Vec<Result<Errand>> {
        (0..count).map(|_| self.submit().get()).collect()
    }

    /// Some by a caller that waits asleep, as for futures.
    pub(crate) fn wait_for_each_as_futures(&self, count: usize) -> Vec<Result<Errand>> {
        (0..count).map(|_| pollster::block_on(self.submit())).collect()
    }

    /// Some with callbacks, which count in `called` how often they were called.
    pub(crate) fn listen(&self, count: usize, called: &Arc<AtomicUsize>) -> Vec<AsyncResult<Errand>> {
        let call = || {
            let called = called.clone();
            move || {
                called.fetch_add(1, Ordering::SeqCst);
            }
        };
        let listen = |_| {
            let (on_success, on_error) = (call(), call());
            self.submit().on_success(move |_| on_success()).on_error(move |_| on_error())
        };
        (0..count).map(listen).collect()
    }

    /// Some in all ways that there are; gives what became of those that somebody waited for.
    pub(crate) fn send_in_all_ways(&self) -> Vec<Result<Errand>> {
        let called = Arc::new(AtomicUsize::new(0));
        let ends = std::thread::scope(|scope| {
            let callers = [scope.spawn(|| self.wait_for_each(8)), scope.spawn(|| self.wait_for_each(8))];
            let futures = scope.spawn(|| self.wait_for_each_as_futures(8));
            let heard = self.listen(8, &called);
            self.abandon(8);
            let held: Vec<_> = (0..8).map(|_| self.submit()).collect();
            let got = heard.into_iter().chain(held).map(AsyncResult::get);
            let mut ends: Vec<_> = got.collect();
            callers.into_iter().for_each(|caller| ends.extend(caller.join().unwrap()));
            ends.extend(futures.join().unwrap());
            ends
        });
        assert_eq!(called.load(Ordering::SeqCst), 8, "each task with callbacks called one of them, once");
        ends
    }
}
