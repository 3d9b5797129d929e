//! The pool, and how one is built.

use std::ffi::OsString;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use procpool_engine::launch::ZygoteLauncher;
use procpool_engine::os::cpu;
use procpool_engine::{self as engine, Config, Dump, Parts, RestartIntensity, Sandbox, Stats};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Encoded};
use crate::error::Result;
use crate::function::{self, Shape};
use crate::handle::AsyncResult;
use crate::imap::{Imap, ImapUnordered};
use crate::map::MapResult;
use crate::options::Options;
use crate::worker::Setup;

/// A row of worker processes that run functions of this program.
///
/// A pool may be used from many threads at once, and a program may have many pools; a task may have a pool of its
/// own, which dies with it. Dropping a pool terminates it: it waits for no task, only for the workers' death.
///
/// ```
/// let pool = procpool::Pool::new(2)?;
/// assert_eq!(pool.apply(|text: String| text.len(), "hello".to_owned())?, 5);
/// # Ok::<(), procpool::Error>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    pub(crate) engine: engine::Pool,
    /// How many there should be.
    pub(crate) workers: AtomicUsize,
}

/// How a pool is to be. Made by [`Pool::builder`].
///
/// ```
/// use std::time::Duration;
///
/// fn prepare(level: u8) {
///     println!("this worker computes at level {level}");
/// }
///
/// let pool = procpool::Pool::builder()
///     .workers(2)
///     .name("numbers")
///     .initializer(prepare, 3)
///     .tasks_per_worker(1000)
///     .memory_limit(1 << 30)
///     .restart_intensity(10, Duration::from_secs(5))
///     .env("RUST_BACKTRACE", "1")
///     .build()?;
/// assert_eq!(pool.map(|x: i64| x + 1, [1, 2, 3])?, [2, 3, 4]);
/// # Ok::<(), procpool::Error>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    config: Config,
    workers: Option<usize>,
    intensity: Option<RestartIntensity>,
    stack: Option<usize>,
    environment: Vec<(OsString, OsString)>,
    initializer: Option<Result<Encoded>>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Builder");
        shown.field("workers", &self.workers).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            // How many workers is for `build` to say: to ask the system takes a while, and few need the answer.
            config: Config::new(0),
            workers: None,
            intensity: None,
            stack: None,
            environment: Vec::new(),
            initializer: None,
        }
    }
}

impl Builder {
    /// How many workers: by default as many as there are CPUs that this process may use, by its affinity and its
    /// cgroup's quota.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The pool's name: of its threads, of its worker processes in `ps` (15 bytes), of its memory in `/proc`.
    pub fn name(mut self, name: &str) -> Self {
        // A NUL byte would end the name for the kernel.
        self.config.name = name.replace('\0', " ");
        self
    }

    /// A function that every worker calls before its first task. If it panics in one, the pool gives up, and every
    /// task ends with [`Error::InitializerFailed`](crate::Error::InitializerFailed).
    #[expect(clippy::needless_pass_by_value, reason = "what is sent away is not the caller's any more")]
    pub fn initializer<A>(mut self, function: fn(A), argument: A) -> Self
    where
        A: Serialize + DeserializeOwned + 'static,
    {
        let mut request = Encoded::default();
        let written = function::write(function, Shape::One, &mut request.head)
            .and_then(|()| Ok(codec::encode(&argument, &mut request)?));
        self.initializer = Some(written.map(|()| request));
        self
    }

    /// A worker leaves after so many tasks (chunks, in `map` and `imap`), and is replaced. By default it stays.
    pub fn tasks_per_worker(mut self, tasks: u64) -> Self {
        self.config.tasks_per_worker = Some(tasks.max(1));
        self
    }

    /// A worker that has more than so many bytes of memory of its own after a task leaves, and is replaced. Shared
    /// memory does not count.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.config.memory_soft = Some(bytes.max(1));
        self
    }

    /// A task whose worker has more than so many bytes of memory of its own is ended with
    /// [`Error::MemoryLimit`](crate::Error::MemoryLimit), and the worker is replaced. Looked at every 20 ms.
    pub fn memory_limit_hard(mut self, bytes: u64) -> Self {
        self.config.memory_hard = Some(bytes.max(1));
        self
    }

    /// When to give up starting workers: when more than `deaths` of them died `within` that time, and no task was
    /// finished between them. Deaths that cost a task do not count. By default 16 in ten seconds, or four times the
    /// number of workers where that is more.
    pub fn restart_intensity(mut self, deaths: usize, within: Duration) -> Self {
        self.intensity = Some(RestartIntensity { deaths, within });
        self
    }

    /// How long a worker may take to end after it was told to by [`Pool::terminate`] (SIGTERM), before it is killed.
    /// By default half a second.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.config.grace = grace;
        self
    }

    /// Whether callers that wait and workers that idle look for some microseconds before they sleep, where that has
    /// paid: by default they do, which makes a short task's round trip many times as fast. Without it they sleep at
    /// once, and CPU time and energy are saved. Where this process may use one CPU only, by its affinity or its
    /// cgroup's quota, nobody ever looks.
    pub fn spin(mut self, spin: bool) -> Self {
        self.config.spin = spin;
        self
    }

    /// The stack that tasks run on, in bytes. By default it is the main thread's, which `ulimit -s` sets. Deeply nested
    /// values end in an error before they use up a stack of 2 MiB; with much less they may not.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack = Some(bytes);
        self
    }

    /// An environment variable for the workers, beside those of this process.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// What workers may do: without this, all that this process may. They are shut in before the initializer and the
    /// first task, and nothing lets them out again. Where this system cannot enforce all of it, [`Builder::build`] says
    /// so ([`Error::Sandbox`](crate::Error::Sandbox)), and there is no pool.
    ///
    /// ```
    /// use procpool::{Error, Pool, Sandbox};
    ///
    /// let folder = std::env::temp_dir();
    /// let sandbox = Sandbox::new().write(&folder).open_files(256);
    /// match Pool::builder().workers(1).sandbox(sandbox).build() {
    ///     Ok(pool) => {
    ///         let refused = pool.apply(|_: ()| std::net::UdpSocket::bind("127.0.0.1:0").is_err(), ())?;
    ///         assert!(refused);
    ///     }
    ///     Err(Error::Sandbox(missing)) => eprintln!("{missing}"),
    ///     Err(other) => return Err(other),
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.config.sandbox = Some(sandbox);
        self
    }

    /// Starts the pool. Does not wait for its workers.
    ///
    /// # Errors
    /// [`Error::Workers`](crate::Error::Workers), [`Error::System`](crate::Error::System);
    /// [`Error::Sandbox`](crate::Error::Sandbox);
    /// [`Error::Codec`](crate::Error::Codec) and [`Error::NotInExecutable`](crate::Error::NotInExecutable) for the
    /// initializer.
    pub fn build(self) -> Result<Pool> {
        let Self { mut config, workers, intensity, stack, environment, initializer } = self;
        let workers = workers.unwrap_or_else(cpu::usable);
        config.workers = workers;
        config.restart = intensity.unwrap_or_else(|| RestartIntensity::for_workers(workers));
        let initializer = initializer.transpose()?;
        let setup = Setup { name: config.name.clone(), stack, initializer: initializer.is_some() };
        let mut head = Encoded::default();
        codec::encode(&setup, &mut head)?;
        let mut head = head.head;
        let buffers: Vec<&[u8]> = initializer
            .iter()
            .flat_map(|request| request.buffers.iter().map(codec::Outgoing::bytes))
            .collect();
        head.extend(initializer.iter().flat_map(|request| &request.head));
        let engine = engine::Pool::start(
            config,
            &Parts { head: &head, tail: &[], buffers: &buffers },
            |descriptors| Ok(Box::new(ZygoteLauncher::new(environment, descriptors)?)),
        )?;
        Ok(Pool { engine, workers: workers.into() })
    }
}

impl Pool {
    /// A pool of so many workers.
    ///
    /// # Errors
    /// [`Error::Workers`](crate::Error::Workers) for 0 or too many, [`Error::System`](crate::Error::System) where
    /// the system refuses memory, a descriptor, a thread or a process.
    pub fn new(workers: usize) -> Result<Self> {
        Self::builder().workers(workers).build()
    }

    /// More to choose from.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The same calls, with limits on their time, retries, a chunk size, a bound on what is read ahead.
    pub fn options(&self) -> Options<'_> {
        Options::new(self)
    }

    /// Runs `function(argument)` in a worker and waits for the result.
    ///
    /// # Errors
    /// Whatever became of the task instead: see [`Error`](crate::Error).
    pub fn apply<A, R>(&self, function: fn(A) -> R, argument: A) -> Result<R>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().apply(function, argument)
    }

    /// Submits `function(argument)` and goes on; the handle has the result. Waits only where millions of tasks are
    /// pending and there is no room for another.
    ///
    /// # Errors
    /// Why the task was not accepted: the pool is closed or gave up, the argument cannot be encoded.
    pub fn apply_async<A, R>(&self, function: fn(A) -> R, argument: A) -> Result<AsyncResult<R>>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().apply_async(function, argument)
    }

    /// Runs the function over all items and waits for the results, in the items' order. Items are sent in chunks, up to
    /// 21 for each worker: small ones first, so that workers begin soon, then larger ones, and small ones at the end, so
    /// that workers end together; unless [`Options::chunk_size`] says otherwise. All items are run; the error
    /// is that of the first one, in order, which has none.
    ///
    /// # Errors
    /// Whatever became of an item instead: see [`Error`](crate::Error).
    pub fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        self.options().map(function, items)
    }

    /// As [`Pool::map`], but goes on; the handle has the results.
    ///
    /// # Errors
    /// Why the items were not accepted.
    pub fn map_async<A, R, I>(&self, function: fn(A) -> R, items: I) -> Result<MapResult<R>>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        self.options().map_async(function, items)
    }

    /// Runs the function over items as they come, and gives the results one by one in the items' order. Reads only
    /// so far ahead ([`Options::buffer_size`]), so that the items may be endless; chunks are of one item, unless
    /// [`Options::chunk_size`] says otherwise.
    pub fn imap<A, R, I>(&self, function: fn(A) -> R, items: I) -> Imap<'_, A, R, I::IntoIter>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        self.options().imap(function, items)
    }

    /// As [`Pool::imap`], but gives each result as soon as there is one.
    pub fn imap_unordered<A, R, I>(
        &self,
        function: fn(A) -> R,
        items: I,
    ) -> ImapUnordered<'_, A, R, I::IntoIter>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        self.options().imap_unordered(function, items)
    }

    /// Takes no more tasks. Those that were accepted are finished, then the workers leave; [`Pool::join`] waits for
    /// that.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Ends the pool at once: queued and running tasks end with [`Error::Terminated`](crate::Error::Terminated), and
    /// workers are told to end by SIGTERM and killed if they do not ([`Builder::grace`]). [`Pool::join`] waits for
    /// their death. Results that were there before can still be taken.
    pub fn terminate(&self) {
        self.engine.terminate();
    }

    /// Waits until all workers are gone.
    ///
    /// # Errors
    /// [`Error::StillOpen`](crate::Error::StillOpen) unless the pool was closed or terminated; why the pool gave up,
    /// if it did.
    pub fn join(&self) -> Result<()> {
        Ok(self.engine.join(None).map(drop)?)
    }

    /// As [`Pool::join`], for at most `timeout`. False when workers were left.
    ///
    /// # Errors
    /// As for [`Pool::join`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        Ok(self.engine.join(Some(timeout))?)
    }

    /// What the pool does now: tasks queued, running, done, failed; each worker's process, tasks and memory.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// What everybody in the pool is doing: each worker and its process, each task that has not ended, the queue, the
    /// supervisor. For people: print it. It waits for no lock for longer than a moment, so a pool that is stuck can still be asked.
    ///
    /// Functions registered by [`macro@crate::task`] are named, others by their address in the program, which
    /// `addr2line -Cfe PROGRAM ADDRESS` translates.
    ///
    /// ```
    /// let pool = procpool::Pool::new(1)?;
    /// let slow = pool.apply_async(|seconds: u64| std::thread::sleep(std::time::Duration::from_secs(seconds)), 3600)?;
    /// println!("{}", pool.dump());
    /// # drop(slow);
    /// # Ok::<(), procpool::Error>(())
    /// ```
    ///
    /// A program that wants to be asked from outside lets a thread of its own wait for a signal:
    ///
    /// ```no_run
    /// use std::sync::Arc;
    ///
    /// let pool = Arc::new(procpool::Pool::new(2)?);
    /// let watched = Arc::downgrade(&pool);
    /// // `kill -USR2 PID`. Before other threads of the program start, so that the signal is blocked in all of them.
    /// let signals = unsafe {
    ///     let mut signals = std::mem::zeroed();
    ///     libc::sigaddset(&mut signals, libc::SIGUSR2);
    ///     libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut());
    ///     signals
    /// };
    /// std::thread::spawn(move || {
    ///     let mut number = 0;
    ///     while unsafe { libc::sigwait(&signals, &mut number) } == 0 {
    ///         let Some(pool) = watched.upgrade() else { return };
    ///         eprintln!("{}", pool.dump());
    ///     }
    /// });
    /// # Ok::<(), procpool::Error>(())
    /// ```
    pub fn dump(&self) -> Dump {
        let mut dump = self.engine.dump();
        for task in &mut dump.tasks {
            task.function = function::describe(&task.head);
        }
        dump
    }

    /// Changes the number of workers. New ones are started at once; surplus ones leave after their present task.
    ///
    /// # Errors
    /// [`Error::Workers`](crate::Error::Workers) for 0 or too many.
    pub fn resize(&self, workers: usize) -> Result<()> {
        self.engine.resize(workers)?;
        self.workers.store(workers, Ordering::Relaxed);
        Ok(())
    }

    /// For tests of the pool itself: the next `deaths` workers that come to `point` kill themselves there.
    #[cfg(feature = "faults")]
    #[doc(hidden)]
    pub fn arm(&self, point: procpool_engine::Point, deaths: u16) {
        self.engine.arm(point, deaths);
    }
}
