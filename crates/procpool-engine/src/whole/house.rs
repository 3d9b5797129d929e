//! The host in the models: what its tasks are, who starts its workers, and what it expects of a pool.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{self, JoinHandle};

use super::world::{self, Fate};
use crate::block::Lease;
use crate::faults::Point;
use crate::launch::{Attachment, Descriptors, LaunchEvent, Launcher};
use crate::os::poll;
use crate::outcome::{Failure, Outcome, Refusal};
use crate::payload::Parts;
use crate::policy::RestartIntensity;
use crate::pool::{Config, Pool};
use crate::submit::Limits;
use crate::sync::lock;
use crate::task::Task;
use crate::worker::{Reply, Worker};

/// Bytes of a load: two small extents.
const LOAD: usize = 1500;

/// So many tasks a story has at most.
const TASKS: usize = 5;

/// A thread of the worker's host keeps the load of this task for a while.
const KEPT: u8 = 3;

/// No worker takes more steps in its life, or few.
const STEPS: u32 = 240;

/// Ways on which workers pass points at which they may die.
const PATHS: [&[Point]; 7] = [
    Point::COMES_AND_GOES,
    Point::IDLES,
    Point::CLAIMS,
    Point::REPLIES,
    Point::FINISHES,
    Point::BLOCKS,
    Point::TELLS,
];

// ---- the workers ----

/// How often something was done for each task.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<[u32; TASKS]>);

impl Ledger {
    fn counts(&self) -> MutexGuard<'_, [u32; TASKS]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, id: u8) {
        self.counts()[usize::from(id)] += 1;
    }

    pub(super) fn of(&self, id: u8) -> u32 {
        self.counts()[usize::from(id)]
    }
}

/// A worker's life.
fn work(attachment: Attachment, ledger: &Ledger) {
    let mut worker = Worker::attach(attachment).unwrap();
    assert_eq!(worker.setup().head(), b"set-up");
    worker.ready();
    while let Some(call) = worker.next() {
        let id = call.head()[0];
        ledger.count(id);
        let load = call.lease().map_or(0, |lease| lease.buffers().len());
        assert!(call.lease().is_none_or(|lease| is_load(lease.buffers(), id)));
        if let Some(&partner) = call.head().get(1) {
            meet(partner, ledger);
        }
        world::step();
        let load = vec![!id; load.min(LOAD)];
        let buffers: &[&[u8]] = if load.is_empty() { &[] } else { &[&load] };
        if let Some(lease) = call.lease().filter(|_| id == KEPT).cloned() {
            world::beside(move || keep(&lease));
        }
        call.reply(Reply::Returned, &Parts { head: &[!id], tail: &[], buffers });
    }
    worker.leave();
}

/// What a thread of the host's does. It lets go at about the time when the task ends.
fn keep(lease: &Lease) {
    (0..=thread_rng().gen_range(0..STEPS / 4)).for_each(|_| _ = world::step());
    assert!(is_load(lease.buffers(), KEPT));
}

/// Waits until a task runs, or has run.
fn meet(partner: u8, ledger: &Ledger) {
    while ledger.of(partner) == 0 {
        world::step();
        thread::yield_now();
    }
}

/// A buffer's place is filled up to a multiple of 64 bytes.
fn is_load(buffers: &[u8], byte: u8) -> bool {
    buffers[..LOAD].iter().all(|&found| found == byte)
}

/// Starts workers as threads, and tells of them as a zygote does.
struct Launch {
    region: OwnedFd,
    parent: OwnedFd,
    poke: Arc<OwnedFd>,
    events: Arc<Mutex<Vec<LaunchEvent>>>,
    ledger: Arc<Ledger>,
}

impl Launch {
    fn new(descriptors: &Descriptors<'_>, ledger: Arc<Ledger>) -> io::Result<Self> {
        Ok(Self {
            region: descriptors.region.try_clone_to_owned()?,
            parent: descriptors.parent.try_clone_to_owned()?,
            poke: Arc::new(descriptors.poke.try_clone_to_owned()?),
            events: Arc::default(),
            ledger,
        })
    }
}

impl Launcher for Launch {
    fn launch(&mut self, seat: u32) -> io::Result<()> {
        let attachment = Attachment {
            seat,
            region: self.region.try_clone()?,
            parent: self.parent.try_clone()?,
            poke: self.poke.try_clone()?,
            sandbox: None,
        };
        let (events, poke) = (self.events.clone(), self.poke.clone());
        let tell = move |event| {
            events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            poll::signal((*poke).as_fd());
        };
        let (tell_of_end, ledger) = (tell.clone(), self.ledger.clone());
        let live = move |pid| {
            tell(LaunchEvent::Started { seat, pid, pidfd: None });
            work(attachment, &ledger);
        };
        world::start(live, move |pid, status| tell_of_end(LaunchEvent::Exited { seat, pid, status }));
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn events(&mut self) -> Vec<LaunchEvent> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn call_off(&mut self) {}

    fn shut_down(&mut self) {}
}

/// Kills so many workers: some at steps of their own or at points, where they pass them, the others at any moment,
/// perhaps asleep. To be called before there are any.
pub(super) fn kill(most: u32) -> JoinHandle<()> {
    let fated = thread_rng().gen_range(0..=most);
    (0..fated).for_each(|_| world::next_dies(any_fate()));
    thread::spawn(move || {
        for _ in fated..most {
            dawdle();
            let living = world::processes();
            if !living.is_empty() {
                world::kill_now(living[thread_rng().gen_range(0..living.len())]);
            }
        }
    })
}

fn any_fate() -> Fate {
    if thread_rng().gen_bool(0.5) {
        return Fate::Steps(thread_rng().gen_range(0..STEPS));
    }
    let path = PATHS[thread_rng().gen_range(0..PATHS.len())];
    Fate::At(path[thread_rng().gen_range(0..path.len())])
}

/// Lets others go first for a while.
pub(super) fn dawdle() {
    (0..thread_rng().gen_range(0..STEPS)).for_each(|_| _ = world::step());
}

// ---- the parent ----

/// A pool, and what is known of its tasks.
pub(super) struct House {
    pub(super) pool: Pool,
    ledger: Arc<Ledger>,
}

/// How a task of a story may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Returned,
    Died,
    TimedOut,
    Cancelled,
    Terminated,
    Broken,
}

/// Two workers, who may die as often as they like; callers do not look before they sleep.
pub(super) fn usual() -> Config {
    Config {
        restart: RestartIntensity { deaths: usize::MAX, within: Duration::from_secs(60) },
        grace: Duration::from_millis(1),
        spin: false,
        ..Config::new(2)
    }
}

impl House {
    pub(super) fn open(config: Config) -> Arc<Self> {
        let ledger = Arc::<Ledger>::default();
        let setup = Parts { head: b"set-up", tail: &[], buffers: &[] };
        let launcher = |descriptors: &Descriptors<'_>| {
            Ok(Box::new(Launch::new(descriptors, ledger.clone())?) as Box<dyn Launcher>)
        };
        let pool = Pool::start(config, &setup, launcher).unwrap();
        Arc::new(Self { pool, ledger })
    }

    pub(super) fn submit(&self, id: u8, limits: Limits) -> Task {
        self.offer(id, limits).unwrap()
    }

    /// As `submit`, where the pool may refuse the task.
    pub(super) fn offer(&self, id: u8, limits: Limits) -> Result<Task, Refusal> {
        self.send(&[id], limits)
    }

    /// Submits two tasks of which neither ends before the other has run.
    pub(super) fn submit_pair(&self, [one, other]: [u8; 2], limits: Limits) -> [Task; 2] {
        [[one, other], [other, one]].map(|head| self.send(&head, limits).unwrap())
    }

    /// Odd tasks have a load.
    fn send(&self, head: &[u8], limits: Limits) -> Result<Task, Refusal> {
        let load = [head[0]; LOAD];
        let buffers: &[&[u8]] = if head[0] % 2 == 1 { &[&load] } else { &[] };
        self.pool.submit(&Parts { head, tail: &[], buffers }, limits)
    }

    /// Takes the outcome, and looks whether it can be true.
    pub(super) fn take(&self, id: u8, task: Task) -> End {
        let end = match task.take() {
            Outcome::Returned(payload) => {
                assert_eq!(payload.head(), [!id]);
                assert_eq!(payload.lease().is_some(), id % 2 == 1);
                assert!(payload.lease().is_none_or(|lease| is_load(lease.buffers(), !id)));
                End::Returned
            }
            Outcome::Failed(Failure::Died { .. }) => End::Died,
            Outcome::Failed(Failure::TimedOut { .. }) => End::TimedOut,
            Outcome::Failed(Failure::Cancelled) => End::Cancelled,
            Outcome::Failed(Failure::Terminated) => End::Terminated,
            Outcome::Failed(Failure::Broken(_)) => End::Broken,
            other => panic!("task {id} ended so: {other:?}"),
        };
        assert!(end != End::Returned || self.ledger.of(id) >= 1, "task {id} returned, and never ran");
        end
    }

    /// Submits these tasks, and takes their outcomes in this order.
    pub(super) fn run<const N: usize>(&self, ids: [u8; N], limits: Limits) -> [End; N] {
        let tasks = ids.map(|id| (id, self.submit(id, limits)));
        tasks.map(|(id, task)| self.take(id, task))
    }

    pub(super) fn assert_runs(&self, most: u32) {
        let runs = self.ledger.counts();
        assert!(runs.iter().all(|&runs| runs <= most), "how often each ran: {runs:?}");
    }

    /// Closes the pool: in the end nothing is left.
    pub(super) fn close(&self) {
        self.pool.close();
        self.expect_the_end();
    }

    pub(super) fn expect_the_end(&self) {
        assert!(self.pool.join(None).unwrap());
        self.assert_nothing_is_left();
    }

    pub(super) fn assert_nothing_is_left(&self) {
        assert_eq!(world::processes(), [0; 0]);
        let stats = self.pool.stats();
        assert_eq!((stats.queued, stats.running), (0, 0));
        assert_eq!(stats.extents, 1, "only the set-up data are left");
        assert_eq!(stats.repairs, 0, "nobody writes what cannot be");
        assert_eq!(self.slots_in_use(), 0);
    }

    pub(super) fn slots_in_use(&self) -> usize {
        lock(&self.pool.shared().books).live().len()
    }
}

/// Each task ended by itself, or by the death of a worker that was killed.
pub(super) fn assert_explained(ends: &[End]) {
    let died = ends.iter().filter(|&&end| end == End::Died).count();
    assert!(ends.iter().all(|end| matches!(end, End::Returned | End::Died)), "{ends:?}");
    assert!(died <= world::killed() as usize, "{ends:?}, and {} were killed", world::killed());
}
