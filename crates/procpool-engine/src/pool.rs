//! A pool's life: started, closed or terminated, joined.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::block::Allocator;
use crate::collect;
use crate::faults::{Point, point};
use crate::launch::{Descriptors, Launcher};
use crate::layout::Geometry;
use crate::os::{cpu, poll, process, signal};
use crate::outcome::{Breakdown, Failure, Refusal};
use crate::payload::{self, Parts};
use crate::policy::RestartIntensity;
use crate::region::{Phase, Region};
use crate::sandbox::{Sandbox, SandboxError};
use crate::shared::{Life, Setup, Shared};
use crate::spin::Spin;
use crate::submit::{Books, Door, Limits};
use crate::supervisor::Supervisor;
use crate::sync::{Instant, Mutex, await_news, lock, thread};
use crate::task::Task;
use crate::view::View;
use crate::wake::SEATS;

/// The most workers that a pool can have.
pub const MAX_WORKERS: usize = SEATS;

/// How a pool is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// For names of threads and memory.
    pub name: String,
    /// How many workers: 1 to [`MAX_WORKERS`].
    pub workers: usize,
    /// A worker leaves after so many tasks, and is replaced.
    pub tasks_per_worker: Option<u64>,
    /// A worker whose own memory is more than so many bytes after a task leaves, and is replaced.
    pub memory_soft: Option<u64>,
    /// A task whose worker uses more than so many bytes of its own memory ends with [`Failure::MemoryLimit`].
    pub memory_hard: Option<u64>,
    /// When to give up starting workers.
    pub restart: RestartIntensity,
    /// How long a worker has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Whether callers and idle workers look for a moment before they sleep. They do not where this process may use
    /// one CPU only, by its affinity or its control group's quota.
    pub spin: bool,
    /// What workers may do: anything, where there is none.
    pub sandbox: Option<Sandbox>,
}

impl Config {
    /// A pool of so many workers, with the usual choices.
    pub fn new(workers: usize) -> Self {
        Self {
            name: "procpool".to_owned(),
            workers,
            tasks_per_worker: None,
            memory_soft: None,
            memory_hard: None,
            restart: RestartIntensity::for_workers(workers),
            grace: Duration::from_millis(500),
            spin: true,
            sandbox: None,
        }
    }
}

/// Why a pool could not be started, or not joined.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// The number of workers is 0, or more than [`MAX_WORKERS`].
    Workers(usize),
    /// The system refused what a pool needs: memory, a descriptor, a thread, a process.
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Workers cannot be shut in as they should.
    Sandbox(SandboxError),
    /// `join` before `close` or `terminate`.
    StillOpen,
    /// The pool gave up.
    Broken(Arc<Breakdown>),
    /// This process is a fork of the one that made the pool.
    Forked,
}

/// A row of worker processes and the tasks for them. Dropping it terminates it.
pub struct Pool {
    shared: Arc<Shared>,
    supervisor: Mutex<Option<thread::JoinHandle<()>>>,
    /// While this is open the workers know that their parent lives, where there are no pidfds.
    _alive: Option<OwnedFd>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.shared.config.name).finish_non_exhaustive()
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> PoolError {
    move |error| PoolError::System { what, error }
}

impl Pool {
    /// Starts a pool, and does not wait for its workers. Every worker gets to read `setup` before its first task
    /// ([`crate::Worker::setup`]); `launcher` is given the descriptors that workers need.
    ///
    /// # Errors
    /// [`PoolError::Workers`], [`PoolError::Sandbox`], [`PoolError::System`].
    pub fn start<L>(config: Config, setup: &Parts<'_>, launcher: L) -> Result<Self, PoolError>
    where
        L: FnOnce(&Descriptors<'_>) -> io::Result<Box<dyn Launcher>>,
    {
        if !(1..=MAX_WORKERS).contains(&config.workers) {
            return Err(PoolError::Workers(config.workers));
        }
        let sandbox = config.sandbox.as_ref().map(Sandbox::confine).transpose();
        let sandbox = sandbox.map_err(PoolError::Sandbox)?;
        let geometry = Geometry::largest(memory_of_machine());
        let (region, memory) =
            Region::create(&config.name, geometry).map_err(system("make shared memory"))?;
        let poke = poll::eventfd().map_err(system("make an eventfd"))?;
        let (parent, alive) = parent_descriptor().map_err(system("make a descriptor of this process"))?;
        let descriptors = Descriptors {
            region: memory.as_fd(),
            parent: parent.as_fd(),
            poke: poke.as_fd(),
            sandbox: sandbox.as_ref(),
        };
        let launcher = launcher(&descriptors).map_err(system("start the process that starts workers"))?;
        // That takes a while, and nobody reads this before the first worker.
        let setup = write_setup(&region, setup).map_err(system("find room for the set-up data"))?;
        let shared = Arc::new(shared(region, poke, setup, config));
        let supervisor = Supervisor::new(shared.clone(), launcher);
        let name = format!("{}-supervisor", shared.config.name);
        let thread = thread::Builder::new().name(name);
        let thread = signal::without_signals(|| thread.spawn(move || supervisor.run()));
        let thread = thread.map_err(system("start the supervisor's thread"))?;
        Ok(Self { shared, supervisor: Mutex::new(Some(thread)), _alive: alive })
    }

    /// Accepts a task. Waits where there is no room for it.
    ///
    /// # Errors
    /// Why the task was not accepted.
    pub fn submit(&self, parts: &Parts<'_>, limits: Limits) -> Result<Task, Refusal> {
        self.shared.submit(parts, limits, true)
    }

    /// As [`Pool::submit`], but says [`Refusal::Full`] instead of waiting.
    ///
    /// # Errors
    /// Why the task was not accepted.
    pub fn try_submit(&self, parts: &Parts<'_>, limits: Limits) -> Result<Task, Refusal> {
        self.shared.submit(parts, limits, false)
    }

    /// Takes no more tasks; those that were accepted are finished, then the workers leave.
    pub fn close(&self) {
        if self.shared.is_forked() {
            return;
        }
        {
            let mut books = lock(&self.shared.books);
            if !matches!(books.door, Door::Open) {
                return;
            }
            books.door = Door::Closed;
            self.shared.region.set_phase(Phase::Closed);
        }
        point(Point::Closes);
        self.shared.wake_all();
        self.shared.poke();
    }

    /// Ends every task that has not ended, with [`Failure::Terminated`], and all workers. Does not wait for their
    /// death: [`Pool::join`] does.
    pub fn terminate(&self) {
        if !self.shared.is_forked() {
            self.shared.stop(Door::Terminated, &Failure::Terminated);
        }
    }

    /// As [`Pool::terminate`], with another time between SIGTERM and SIGKILL than the one in [`Config`].
    pub fn terminate_within(&self, grace: Duration) {
        if !self.shared.is_forked() {
            *lock(&self.shared.grace) = grace;
        }
        self.terminate();
    }

    /// How many accepted tasks have not ended. Looks at every task that has not been taken: not for a busy loop.
    pub fn unfinished(&self) -> usize {
        if self.shared.is_forked() {
            return 0;
        }
        self.shared.unfinished(&lock(&self.shared.books))
    }

    /// Why the pool gave up, if it has.
    pub fn breakdown(&self) -> Option<Arc<Breakdown>> {
        if self.shared.is_forked() {
            return None;
        }
        match &lock(&self.shared.books).door {
            Door::Broken(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Waits until all workers are gone, for at most `timeout`. False when time was over first.
    ///
    /// # Errors
    /// [`PoolError::StillOpen`] before `close` or `terminate`; [`PoolError::Broken`] when the pool gave up.
    pub fn join(&self, timeout: Option<Duration>) -> Result<bool, PoolError> {
        if self.shared.is_forked() {
            return Err(PoolError::Forked);
        }
        if matches!(lock(&self.shared.books).door, Door::Open) {
            return Err(PoolError::StillOpen);
        }
        if !self.wait_for_end(timeout) {
            return Ok(false);
        }
        let thread = lock(&self.supervisor).take();
        // In a callback the thread has to be left alone: it waits for this one to come back from there.
        if let Some(thread) = thread.filter(|_| !self.shared.is_in_callback()) {
            // Its last words were said under `life`; a panic there has been reported by the hook.
            let _ = thread.join();
        }
        lock(&self.shared.life).broken.clone().map_or(Ok(true), |why| Err(PoolError::Broken(why)))
    }

    fn wait_for_end(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|span| Instant::now().checked_add(span));
        let in_callback = self.shared.is_in_callback();
        let mut life = lock(&self.shared.life);
        while !(life.ended || in_callback && life.settled) {
            if collect::stands_in() {
                // The supervisor itself called the listener that waits here.
                return false;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            life = await_news(&self.shared.life_changed, life, left.unwrap_or(Duration::from_secs(3600)));
        }
        true
    }

    /// Changes the number of workers. Where it shrinks, workers leave after their present task.
    ///
    /// # Errors
    /// [`PoolError::Workers`]; [`PoolError::Forked`].
    pub fn resize(&self, workers: usize) -> Result<(), PoolError> {
        if self.shared.is_forked() {
            return Err(PoolError::Forked);
        }
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(PoolError::Workers(workers));
        }
        self.shared.request(|requests| requests.target = Some(workers));
        Ok(())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn without_supervisor(shared: Arc<Shared>) -> Self {
        Self { shared, supervisor: Mutex::default(), _alive: None }
    }

    /// The next `deaths` workers that come to `point` kill themselves there.
    #[cfg(feature = "faults")]
    pub fn arm(&self, point: Point, deaths: u16) {
        crate::faults::arm(self.shared.region.fault(), point, deaths);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // The thread, the workers and the memory are the parent's; only the handle is this process's copy.
            std::mem::forget(lock(&self.supervisor).take());
            return;
        }
        self.terminate();
        let _ = self.join(None);
    }
}

impl Shared {
    /// Shuts the door and ends every task with `failure`. False when the pool had stopped before.
    pub(crate) fn stop(&self, door: Door, failure: &Failure) -> bool {
        {
            let mut books = lock(&self.books);
            if matches!(books.door, Door::Terminated | Door::Broken(_)) {
                return false;
            }
            books.door = door;
            self.region.set_phase(Phase::Stopped);
        }
        point(Point::Stops);
        self.room.notify_all();
        self.end_all(failure);
        point(Point::Emptied);
        self.wake_all();
        self.poke();
        true
    }
}

pub(crate) fn shared(region: Region, poke: OwnedFd, setup: Setup, config: Config) -> Shared {
    let seats = u32::try_from(config.workers).expect("at most `MAX_WORKERS`");
    let cpus = cpu::usable();
    region.idlers().set_workers(config.workers, cpus);
    // On one CPU whoever looks keeps from running what it waits for.
    let spin = Spin::new(config.spin && cpus > 1);
    Shared {
        books: Mutex::new(Books::new(&region)),
        grace: Mutex::new(config.grace),
        allocator: Mutex::new(Allocator::parent(&region)),
        region: Arc::new(region),
        config,
        poke,
        room: Default::default(),
        preparing: Default::default(),
        extras: Default::default(),
        endings: Default::default(),
        rescued: Default::default(),
        collector: Default::default(),
        requests: Default::default(),
        life: Mutex::new(Life::default()),
        life_changed: Default::default(),
        seats: seats.into(),
        counters: Default::default(),
        pids: Default::default(),
        view: Mutex::new(View::new(seats as usize)),
        watched: Default::default(),
        setup,
        spin,
    }
}

/// Keeps the set-up data in a block that is never given back.
fn write_setup(region: &Region, setup: &Parts<'_>) -> io::Result<Setup> {
    let place = payload::prepare_block(region, &mut Allocator::parent(region), setup);
    let (block, head) = place.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    payload::fill(region, &payload::Place::Block { block, head, buffers: block.length - head }, setup);
    Ok(Setup { block, head })
}

/// Something that becomes readable when this process dies, and what must stay open here for that.
fn parent_descriptor() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    if let Ok(pidfd) = process::open_pidfd(std::process::id()) {
        return Ok((pidfd, None));
    }
    // No pidfds here; if it is descriptors that are missing, this says so.
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((read, Some(write)))
}

fn memory_of_machine() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

#[cfg(all(test, not(any(loom, shuttle)), not(miri)))]
mod tests {
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;

    /// Whether callers look before they sleep, and whether workers are told to.
    fn looks(spin: bool) -> (bool, u64) {
        let (region, _) = Region::create("test", Geometry::largest(1 << 30)).unwrap();
        let setup = write_setup(&region, &Parts::default()).unwrap();
        let config = Config { spin, ..Config::new(1) };
        let shared = shared(region, poll::eventfd().unwrap(), setup, config);
        shared.restate();
        (!shared.spin.is_off(), shared.region.header().rules.spin.load(Ordering::Relaxed))
    }

    #[test]
    fn a_pool_that_is_not_to_spin_does_not_and_others_do_where_there_are_cpus() {
        assert_eq!(looks(false), (false, 0));
        let has_several = cpu::usable() > 1;
        assert_eq!(looks(true), (has_several, has_several.into()));
    }

    #[test]
    fn a_pool_of_a_process_that_is_bound_to_one_cpu_does_not_spin() {
        let bound = || {
            cpu::bind_to_one();
            looks(true)
        };
        assert_eq!(thread::spawn(bound).join().unwrap(), (false, 0));
    }
}
