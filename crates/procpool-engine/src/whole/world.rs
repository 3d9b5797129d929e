//! The system that the whole engine stands on in its models: processes, sleep, time.
//!
//! A worker process is a thread of shuttle's with a mapping of the region of its own. Killed, it takes a few more steps
//! at most, as a process does on another core before the signal reaches it, and none after a sleep: its stack unwinds, and
//! what the destructors of its values would do to shared memory is not done.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use rustix::event::{PollFd, Timespec};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::Thread;

use super::memory::{self, AtomicU32};
use crate::faults::Point;
use crate::os::process::{ExitStatus, Signal};

/// So many steps a process may take after it was killed, less one.
const LAST_STEPS: u32 = 32;

/// What nobody waits out unless a story says so: the looks that would mend a hint which was lost come once a second.
const PATIENCE: Duration = Duration::from_millis(500);

thread_local! {
    /// One for each run of a story. All threads of a run are coroutines in one thread of the system.
    static WORLD: RefCell<World> = RefCell::default();
}

shuttle::thread_local! {
    /// The process that this thread is: 0 for the parent.
    static PROCESS: Cell<u32> = Cell::new(0);
}

#[derive(Default)]
struct World {
    processes: BTreeMap<u32, Process>,
    last_pid: u32,
    sleepers: Vec<Sleeper>,
    pollers: Vec<Thread>,
    now: Duration,
    /// Deadlines that are farther away never come.
    patience: Duration,
    /// Where the next processes die.
    fates: Vec<Fate>,
    /// How many processes the story has killed.
    killed: u32,
}

/// Where a process dies by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// After so many steps of its own.
    Steps(u32),
    /// Where it comes to this point, if it does.
    At(Point),
}

#[derive(Default)]
struct Process {
    thread: Option<Thread>,
    /// How it ended, once it has.
    end: Option<ExitStatus>,
    /// After how many more steps of its own it dies, where that is fixed.
    left: Option<u32>,
    /// The point at which it dies.
    at: Option<Point>,
    /// It was killed, and takes its last steps.
    signal: Option<Signal>,
}

/// Who sleeps on a word.
struct Sleeper {
    word: usize,
    thread: Thread,
}

fn with<T>(act: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(act)
}

/// A new world, for another run of a story.
pub(crate) fn begin() {
    memory::forget();
    with(|world| *world = World { patience: PATIENCE, ..World::default() });
}

/// From now on deadlines come that are not farther away than `patience`.
pub(crate) fn be_patient_for(patience: Duration) {
    with(|world| world.patience = patience);
}

fn is_near(span: Duration) -> bool {
    with(|world| span <= world.patience)
}

// ---- steps and processes ----

/// Before each step that others can see: the scheduler may let others go first, and whoever was killed meanwhile goes
/// no further. False where a dead process's stack unwinds: the step is not to be taken.
pub(crate) fn step() -> bool {
    if std::thread::panicking() {
        return !is_dead();
    }
    memory::drain_some();
    // No more than a choice of the scheduler's.
    shuttle::thread::sleep(Duration::ZERO);
    if was_killed() && thread_rng().gen_ratio(1, 8) {
        linger();
    }
    come_closer_to_death();
    if is_dead() {
        vanish();
    }
    true
}

/// Others may do much before whoever was killed takes its next step.
fn linger() {
    (0..thread_rng().gen_range(0..200)).for_each(|_| shuttle::thread::sleep(Duration::ZERO));
}

/// What `faults::point` is in these models.
pub(crate) fn pass(point: Point) {
    let pid = pid();
    with(|world| {
        if let Some(process) = world.processes.get_mut(&pid).filter(|process| process.at == Some(point)) {
            process.left = Some(0);
        }
    });
    step();
}

pub(super) fn pid() -> u32 {
    PROCESS.try_with(Cell::get).unwrap_or(0)
}

fn is_dead() -> bool {
    let pid = pid();
    with(|world| world.processes.get(&pid).is_some_and(|process| process.end.is_some()))
}

/// The next process dies so, or the one after it, if it is said of several.
pub(crate) fn next_dies(fate: Fate) {
    with(|world| world.fates.push(fate));
}

fn come_closer_to_death() {
    let pid = pid();
    let died = with(|world| {
        let process = world.processes.get_mut(&pid).filter(|process| process.end.is_none())?;
        let left = process.left.as_mut()?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        world.killed += u32::from(process.signal.is_none());
        process.end = Some(ExitStatus::Signaled(process.signal.unwrap_or(Signal::KILL).as_raw()));
        process.thread.clone()
    });
    // It may have been another of its threads that took the last step, while that one sleeps.
    died.iter().for_each(Thread::unpark);
}

/// Kills a process now, whatever it does or waits for.
pub(crate) fn kill_now(pid: u32) {
    if kill_pid(pid, Signal::KILL).is_ok() {
        with(|world| world.killed += 1);
    }
}

fn was_killed() -> bool {
    let pid = pid();
    with(|world| world.processes.get(&pid).is_some_and(|process| process.signal.is_some()))
}

/// Sleeps until `is_over`. Whoever is killed in its sleep takes no further step.
fn sleep_until(is_over: impl Fn() -> bool) {
    while !is_over() && !was_killed() && !is_dead() {
        shuttle::thread::park();
    }
    let (own, pid) = (shuttle::thread::current().id(), pid());
    with(|world| {
        world.sleepers.retain(|sleeper| sleeper.thread.id() != own);
        if let Some(process) = world.processes.get_mut(&pid).filter(|process| process.signal.is_some()) {
            process.left = Some(0);
        }
    });
    step();
}

/// How many processes the story has killed so far.
pub(crate) fn killed() -> u32 {
    with(|world| world.killed)
}

struct Vanished;

fn vanish() -> ! {
    // What it wrote before is on its way.
    memory::drain();
    resume_unwind(Box::new(Vanished))
}

/// Starts a process, and tells of its end.
pub(crate) fn start(
    life: impl FnOnce(u32) + Send + 'static,
    end: impl FnOnce(u32, ExitStatus) + Send + 'static,
) {
    let pid = with(|world| {
        world.last_pid += 1;
        let process = match world.fates.pop() {
            Some(Fate::Steps(steps)) => Process { left: Some(steps), ..Process::default() },
            Some(Fate::At(point)) => Process { at: Some(point), ..Process::default() },
            None => Process::default(),
        };
        world.processes.insert(world.last_pid, process);
        world.last_pid
    });
    memory::drain();
    thread::spawn(move || {
        with(|world| world.processes.entry(pid).or_default().thread = Some(thread::current()));
        live(pid, || life(pid));
        // From here on the system speaks.
        memory::drain_process(pid);
        let status =
            with(|world| *world.processes.entry(pid).or_default().end.get_or_insert(ExitStatus::Exited(0)));
        end(pid, status);
    });
}

/// Another thread of this process. It takes no further step once its process has ended.
pub(super) fn beside(life: impl FnOnce() + Send + 'static) {
    let pid = pid();
    memory::drain();
    thread::spawn(move || live(pid, life));
}

/// This thread is one of a process's, to the end of `life` or of the process.
fn live(pid: u32, life: impl FnOnce()) {
    PROCESS.with(|process| process.set(pid));
    let lived = catch_unwind(AssertUnwindSafe(life));
    memory::drain();
    PROCESS.with(|process| process.set(0));
    match lived {
        Ok(()) => {}
        Err(why) if why.is::<Vanished>() => {}
        Err(panic) => resume_unwind(panic),
    }
}

/// The living.
pub(crate) fn processes() -> Vec<u32> {
    with(|world| {
        world.processes.iter().filter(|(_, process)| process.end.is_none()).map(|(&pid, _)| pid).collect()
    })
}

pub(crate) fn kill_pid(pid: u32, signal: Signal) -> io::Result<()> {
    step();
    let last = thread_rng().gen_range(0..LAST_STEPS);
    let killed = with(|world| {
        let process = world.processes.get_mut(&pid).filter(|process| process.end.is_none());
        let process = process.ok_or(io::ErrorKind::NotFound)?;
        process.left = Some(process.left.map_or(last, |left| left.min(last)));
        process.signal.get_or_insert(signal);
        Ok(process.thread.clone())
    });
    let thread: Option<Thread> = killed.map_err(|kind: io::ErrorKind| io::Error::from(kind))?;
    thread.iter().for_each(Thread::unpark);
    Ok(())
}

/// Whatever the machine has, a story is the same everywhere. On one CPU nobody looks before it sleeps, and the second
/// worker holds back.
pub(crate) fn usable_cpus() -> usize {
    thread_rng().gen_range(1..=2)
}

/// Anybody is moved at any time.
pub(crate) fn current_cpu() -> Option<u32> {
    Some(thread_rng().gen_range(0..=1))
}

pub(crate) fn leave_cpu(_cpu: u32) -> bool {
    thread_rng().gen_bool(0.5)
}

pub(crate) fn exit_now(code: i32) -> ! {
    let pid = pid();
    let thread = with(|world| {
        let process = world.processes.get_mut(&pid).expect("only workers end themselves");
        process.end.get_or_insert(ExitStatus::Exited(code));
        process.thread.clone()
    });
    thread.iter().for_each(Thread::unpark);
    vanish();
}

// ---- sleep ----

/// The kernel's futex: it compares and falls asleep in one step. No time-out comes, so a wake-up that is lost is a
/// deadlock, which shuttle reports.
pub(crate) mod futex {
    use super::*;

    pub(crate) fn wait(word: &AtomicU32, expected: u32, _timeout: Option<Duration>) {
        step();
        memory::drain();
        let address = memory::place(word);
        if word.peek() != expected {
            return;
        }
        let thread = thread::current();
        let id = thread.id();
        with(|world| world.sleepers.push(Sleeper { word: address, thread }));
        sleep_until(|| !with(|world| world.sleepers.iter().any(|sleeper| sleeper.thread.id() == id)));
    }

    pub(crate) fn wake(word: &AtomicU32, count: u32) {
        if !step() {
            return;
        }
        memory::drain();
        let address = memory::place(word);
        for _ in 0..count {
            let woken = with(|world| {
                let found = world.sleepers.iter().position(|sleeper| sleeper.word == address)?;
                Some(world.sleepers.remove(found))
            });
            let Some(woken) = woken else { return };
            woken.thread.unpark();
        }
    }
}

/// As `os::poll::poll`, but that only near deadlines come, and these at any moment.
pub(crate) fn poll(descriptors: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    loop {
        step();
        memory::drain();
        let ready = rustix::event::poll(descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if ready > 0 || timeout == Some(Duration::ZERO) {
            return Ok(ready);
        }
        let near = timeout.filter(|&span| is_near(span));
        match near {
            Some(span) if thread_rng().gen_ratio(1, 4) => {
                with(|world| world.now += span);
                return Ok(0);
            }
            Some(_) => thread::yield_now(),
            None => {
                with(|world| world.pollers.push(thread::current()));
                thread::park();
            }
        }
    }
}

pub(crate) fn signal(eventfd: BorrowedFd<'_>) {
    if step() {
        memory::drain();
        let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
        let pollers = with(|world| std::mem::take(&mut world.pollers));
        pollers.iter().for_each(Thread::unpark);
    }
}

/// As `std::thread`, but a sleep that is not for long ends at any moment, and others go first; another never does.
pub(crate) mod thread {
    pub(crate) use shuttle::thread::*;

    pub(crate) fn sleep(span: super::Duration) {
        if super::is_near(span) { yield_now() } else { super::sleep_until(|| false) }
    }
}

// ---- time ----

/// The moment, which is another whenever it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        with(|world| {
            world.now += Duration::from_micros(1);
            Self(world.now)
        })
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now().0 - self.0
    }

    pub(crate) fn duration_since(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn checked_add(self, span: Duration) -> Option<Self> {
        self.0.checked_add(span).map(Self)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0 + span)
    }
}

impl std::ops::Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

/// What `os::clock` gives.
pub(crate) fn now() -> u64 {
    Instant::now().0.as_nanos() as u64
}
