//! *I4*, tested: whatever a worker writes over the region, the parent does not panic, crash or hang, touches nothing
//! outside of the region, and ends every task that it accepted.
//!
//! The scribbling worker is a second mapping of the same memory; the honest ones are played by the test, with the real
//! code of queue, slots and arena.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;

use crate::block::{Allocator, Block};
use crate::launch::{ExitStatus, LaunchEvent, Launcher};
use crate::layout::{Geometry, Header, Layout, SMALL_EXTENT, Seat, Slot};
use crate::os::memory::Mapping;
use crate::os::poll;
use crate::outcome::{Death, Failure, Outcome};
use crate::payload::{self, Parts, Place};
use crate::pool::{Config, Pool};
use crate::queue::Cursor;
use crate::region::Region;
use crate::shared::{Setup, Shared};
use crate::slot::Ticket;
use crate::submit::{Door, Limits};
use crate::sync::lock;
use crate::task::Task;

const SEATS: u32 = 4;

// ---- the scribbler ----

/// A worker's own mapping of the region.
struct Scribbler {
    mapping: Mapping,
    layout: Layout,
}

/// What is written over. Only the first few of each kind: those are the ones in use.
#[derive(Clone, Copy, Debug)]
enum Part {
    Header,
    Seats,
    Ended,
    Summary,
    Cells,
    SmallOwners,
    LargeOwners,
    Slots,
    Payloads,
}

#[derive(Clone, Debug)]
struct Scribble {
    part: Part,
    place: Index,
    value: Value,
}

/// What is written: rubbish, or what might be believed.
#[derive(Clone, Debug)]
enum Value {
    Any(u64),
    Small(u64),
    /// State, seat, ticket.
    Word(u64, u64, u64),
    /// Slot, ticket.
    Entry(u64, u64),
    /// The offset of a small extent, or of what might be one.
    Offset(u64, u64),
    /// The same again: what lies somewhere else.
    Copy(Index),
}

impl Scribbler {
    fn new(memory: BorrowedFd<'_>, layout: Layout) -> Self {
        Self { mapping: Mapping::new(memory, layout.length as usize).unwrap(), layout }
    }

    fn word(&self, part: Part, place: Index) -> &AtomicU64 {
        let layout = &self.layout;
        // Where they are, how many there are, how far apart, and how many bytes of each are worth it.
        let (start, count, stride, length) = match part {
            Part::Header => (0, 1, 0, size_of::<Header>()),
            Part::Seats => (layout.seats, SEATS as usize, size_of::<Seat>(), 192),
            Part::Ended => (layout.ended, 1, 0, 16),
            Part::Summary => (layout.ended_summary, 1, 0, 8),
            Part::Cells => (layout.cells, 1, 0, 256),
            Part::SmallOwners => (layout.small_owners, 1, 0, 512),
            Part::LargeOwners => (layout.large_owners, 1, 0, 64),
            Part::Slots => (layout.slots, 12, size_of::<Slot>(), 48),
            Part::Payloads => (layout.small, 16, SMALL_EXTENT as usize, 64),
        };
        let word = place.index(count * length / 8);
        let offset = start as usize + word % count * stride + word / count * 8;
        // SAFETY: inside of the mapping, aligned to 8 bytes, and atomic like all that others do there.
        unsafe { AtomicU64::from_ptr(self.mapping.start().as_ptr().add(offset).cast()) }
    }

    fn scribble(&self, scribble: &Scribble) {
        let word = self.word(scribble.part, scribble.place);
        let value = match scribble.value {
            Value::Any(value) | Value::Small(value) => value,
            Value::Word(state, seat, ticket) => state << 60 | seat << 48 | ticket,
            Value::Entry(slot, ticket) => slot << 32 | ticket,
            Value::Offset(extent, into) => self.layout.small + extent * SMALL_EXTENT + into,
            Value::Copy(from) => self.word(scribble.part, from).load(Ordering::Relaxed),
        };
        word.store(value, Ordering::Release);
    }
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        2 => Just(Part::Header),
        2 => Just(Part::Seats),
        1 => Just(Part::Ended),
        1 => Just(Part::Summary),
        1 => Just(Part::Cells),
        1 => Just(Part::SmallOwners),
        1 => Just(Part::LargeOwners),
        6 => Just(Part::Slots),
        1 => Just(Part::Payloads),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::Any),
        prop_oneof![0..8_u64, Just(u64::MAX), Just(1 << 63)].prop_map(Value::Small),
        (0..16_u64, 0..u64::from(SEATS) + 2, 0..20_u64)
            .prop_map(|(state, seat, ticket)| Value::Word(state, seat, ticket)),
        (0..14_u64, 0..20_u64).prop_map(|(slot, ticket)| Value::Entry(slot, ticket)),
        (0..300_u64, prop_oneof![9 => Just(0), 1 => 0..2000_u64])
            .prop_map(|(extent, into)| Value::Offset(extent, into)),
        any::<Index>().prop_map(Value::Copy),
    ]
}

fn scribble() -> impl Strategy<Value = Scribble> {
    (part(), any::<Index>(), value()).prop_map(|(part, place, value)| Scribble { part, place, value })
}

// ---- the parent's pool, and the workers that are honest ----

/// A pool without supervisor and processes, over a small region.
struct House {
    shared: Arc<Shared>,
    pool: Pool,
    scribbler: Scribbler,
    workers: Vec<Honest>,
    tasks: Vec<Task>,
    listened: usize,
    heard: Arc<AtomicUsize>,
    accepted: usize,
    outcomes: usize,
    dropped: usize,
}

struct Honest {
    seat: u32,
    cursor: Cursor,
    allocator: Allocator,
    claimed: Option<(u32, Ticket)>,
    /// Its task was doomed: it waits for its death.
    is_doomed: bool,
}

impl House {
    fn new() -> Self {
        let geometry = Geometry { slots: 4096, levels: 2, small: 256, large: 8 };
        let (region, memory) = Region::create("rubbish", geometry).unwrap();
        let scribbler = Scribbler::new(memory.as_fd(), *region.layout());
        let workers = (0..SEATS).map(|seat| Honest {
            seat,
            cursor: Cursor::default(),
            allocator: Allocator::worker(&region, seat),
            claimed: None,
            is_doomed: false,
        });
        let workers = workers.collect();
        (0..SEATS).for_each(|seat| region.seat(seat).unwrap().vacate());
        let parts = Parts { head: b"set-up", tail: &[], buffers: &[] };
        let (block, head) = payload::prepare_block(&region, &mut Allocator::parent(&region), &parts).unwrap();
        let config = Config { spin: Duration::ZERO, ..Config::new(SEATS as usize) };
        let shared = crate::pool::shared(region, poll::eventfd().unwrap(), Setup { block, head }, config);
        // There is no supervisor for the pool's drop to wait for.
        lock(&shared.life).ended = true;
        let shared = Arc::new(shared);
        Self {
            pool: Pool::without_supervisor(shared.clone()),
            shared,
            scribbler,
            workers,
            tasks: Vec::new(),
            listened: 0,
            heard: Arc::default(),
            accepted: 0,
            outcomes: 0,
            dropped: 0,
        }
    }

    fn region(&self) -> &Region {
        &self.shared.region
    }

    fn submit(&mut self, length: usize, buffer: usize, limits: Limits, is_listened_to: bool) {
        let (head, buffer) = (vec![7; length], vec![8; buffer]);
        let buffers: &[&[u8]] = if buffer.is_empty() { &[] } else { &[&buffer] };
        let Ok(task) = self.shared.submit(&Parts { head: &head, tail: &[], buffers }, limits, false) else {
            return;
        };
        self.accepted += 1;
        if is_listened_to {
            self.listened += 1;
            let heard = self.heard.clone();
            let _ = task.listen(move || {
                heard.fetch_add(1, Ordering::Relaxed);
            });
        }
        self.tasks.push(task);
    }

    /// The steps of `Worker::next`.
    fn claim(&mut self, worker: usize) {
        let region = self.shared.region.clone();
        let Honest { seat, cursor, claimed, is_doomed, .. } = &mut self.workers[worker];
        let is_idle = claimed.is_none() && !*is_doomed;
        let Some(words) = region.seat(*seat).filter(|_| is_idle) else { return };
        let word = |slot| region.slot(slot).map(|slot| &slot.word);
        let entry = region.queue().claim(cursor, *seat, word, |entry| words.intend(entry));
        if let Some((slot, seen)) = entry {
            words.start_clock(true);
            *claimed = Some((slot, seen.ticket()));
            let _ = payload::read(&region, region.slot(slot).unwrap());
        }
    }

    /// The steps of `Call::reply`.
    fn finish(&mut self, worker: usize, length: usize, kind: u32) {
        let region = self.shared.region.clone();
        let Honest { seat, allocator, claimed, is_doomed, .. } = &mut self.workers[worker];
        let Some((slot, ticket)) = claimed.take() else { return };
        let (words, head) = (region.slot(slot).unwrap(), vec![9; length]);
        let parts = Parts { head: &head, tail: &[], buffers: &[] };
        if let Ok(place) = payload::prepare(&region, allocator, &parts) {
            payload::fill(&region, &place, &parts);
            payload::write(words, kind, &place, &head);
        } else {
            payload::write(words, payload::NO_ROOM, &Place::Inline { head: 0 }, &[]);
        }
        *is_doomed = !words.word.finish(ticket, *seat);
        if *is_doomed {
            return;
        }
        if words.event.end() {
            region.ended().tell(slot);
        }
        region.seat(*seat).unwrap().vacate();
    }

    /// What the supervisor does when it hears of a death.
    fn die(&mut self, worker: usize) {
        let Honest { seat, cursor, claimed, is_doomed, .. } = &mut self.workers[worker];
        (*cursor, *claimed, *is_doomed) = (Cursor::default(), None, false);
        let death = Death { pid: 1, status: ExitStatus::Signaled(9), ticket: None, note: None };
        let words = self.shared.region.seat(*seat).unwrap();
        let death = Death { note: words.read_note(), ..death };
        self.shared.settle_death(*seat, &death);
        words.vacate();
    }

    /// What the supervisor does about an audit: it kills whom it must.
    fn audit(&mut self, alive: u32) {
        self.shared.audit(|seat| seat < SEATS && alive >> seat & 1 == 1);
        let requests = std::mem::take(&mut *lock(&self.shared.requests));
        let doomed =
            requests.kills.iter().filter_map(|&(slot, ticket)| self.shared.doomed_seat(slot, ticket));
        let mut seats: Vec<u32> = doomed.chain(requests.suspects).filter(|&seat| seat < SEATS).collect();
        seats.dedup();
        seats.into_iter().for_each(|seat| self.die(seat as usize));
    }

    fn take(&mut self, which: Index) {
        if self.tasks.is_empty() {
            return;
        }
        let which = which.index(self.tasks.len());
        if self.tasks[which].is_ended() {
            let task = self.tasks.swap_remove(which);
            self.outcomes += 1;
            read(task.take());
        }
    }

    fn with_task(&self, which: Index, act: impl FnOnce(&Task)) {
        if !self.tasks.is_empty() {
            act(&self.tasks[which.index(self.tasks.len())]);
        }
    }

    fn step(&mut self, step: &Step) {
        match step.clone() {
            Step::Scribble(scribble) => self.scribbler.scribble(&scribble),
            Step::Submit { length, buffer, retries, timeout, is_listened_to } => {
                let timeout = timeout.then_some(Duration::from_millis(1));
                self.submit(length, buffer, Limits { timeout, retries }, is_listened_to);
            }
            Step::Claim(worker) => self.claim(worker),
            Step::Finish(worker, length, kind) => self.finish(worker, length, kind),
            Step::Die(worker) => self.die(worker),
            Step::Audit(alive) => self.audit(alive),
            Step::Cancel(which) => self.with_task(which, |task| {
                task.cancel();
            }),
            Step::CancelRunning(which) => self.with_task(which, |task| {
                task.cancel_running();
            }),
            Step::Look(which) => self.with_task(which, |task| {
                task.is_ended();
                task.returned();
                task.wait(Some(Duration::from_micros(10)));
            }),
            Step::Take(which) => self.take(which),
            Step::Drop(which) => {
                if !self.tasks.is_empty() {
                    self.dropped += 1;
                    drop(self.tasks.swap_remove(which.index(self.tasks.len())));
                }
            }
            Step::Reclaim => self.shared.reclaim(&mut lock(&self.shared.books), usize::MAX),
            Step::Stats => drop(self.pool.stats()),
            Step::WakeAll => self.shared.wake_all(),
            Step::Restate => self.shared.restate(),
            Step::Trim(spared) => {
                self.region().small().trim(spared, |run| {
                    self.region().discard(
                        self.region().layout().small + run.first as u64 * SMALL_EXTENT,
                        run.count as u64 * SMALL_EXTENT,
                    );
                });
            }
        }
    }

    /// What the supervisor does at the end of a pool, and what holds then.
    fn end(mut self) {
        self.shared.stop(Door::Terminated, &Failure::Terminated);
        (0..SEATS as usize).for_each(|worker| self.die(worker));
        self.audit(0);
        self.shared.end_rest(&Failure::Terminated);
        for task in self.tasks.drain(..) {
            assert!(task.is_ended(), "a task has no end");
            self.outcomes += 1;
            read(task.take());
        }
        self.shared.reclaim(&mut lock(&self.shared.books), usize::MAX);
        assert_eq!(lock(&self.shared.books).live(), [], "a slot is lost");
        assert_eq!(self.outcomes + self.dropped, self.accepted, "a task has no outcome, or two");
        self.shared.collector.finish(&self.shared);
        assert_eq!(self.heard.load(Ordering::Relaxed), self.listened, "a listener was not called, or twice");
    }
}

/// Looks at every byte that an outcome says it has.
fn read(outcome: Outcome) {
    let payload = match outcome {
        Outcome::Returned(payload) | Outcome::Raised(payload) => payload,
        Outcome::Failed(failure) => return drop(format!("{failure:?}")),
    };
    let buffers = payload.lease().map_or(&[][..], |lease| lease.buffers());
    std::hint::black_box(
        payload.head().iter().chain(buffers).fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
    );
}

#[derive(Clone, Debug)]
enum Step {
    Scribble(Scribble),
    Submit { length: usize, buffer: usize, retries: u32, timeout: bool, is_listened_to: bool },
    Claim(usize),
    Finish(usize, usize, u32),
    Die(usize),
    Audit(u32),
    Cancel(Index),
    CancelRunning(Index),
    Look(Index),
    Take(Index),
    Drop(Index),
    Reclaim,
    Stats,
    WakeAll,
    Restate,
    Trim(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let worker = || 0..SEATS as usize;
    let length = || prop_oneof![3 => 0..220_usize, 1 => 200..5000_usize, 1 => Just(70_000_usize)];
    let task = || any::<Index>();
    prop_oneof![
        12 => scribble().prop_map(Step::Scribble),
        6 => (length(), prop_oneof![2 => Just(0), 1 => 1..3000_usize], 0..3_u32, any::<bool>(), any::<bool>()).prop_map(
            |(length, buffer, retries, timeout, is_listened_to)| {
                Step::Submit { length, buffer, retries, timeout, is_listened_to }
            }
        ),
        5 => worker().prop_map(Step::Claim),
        4 => (worker(), length(), 0..6_u32).prop_map(|(worker, length, kind)| Step::Finish(worker, length, kind)),
        2 => worker().prop_map(Step::Die),
        3 => (0..1_u32 << SEATS).prop_map(Step::Audit),
        1 => task().prop_map(Step::Cancel),
        1 => task().prop_map(Step::CancelRunning),
        1 => task().prop_map(Step::Look),
        2 => task().prop_map(Step::Take),
        1 => task().prop_map(Step::Drop),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Stats),
        1 => Just(Step::WakeAll),
        1 => Just(Step::Restate),
        1 => (0..40_usize).prop_map(Step::Trim),
    ]
}

// ---- the watchdog ----

/// Ends this process, and says what it was doing, when that takes more than a minute.
struct Watchdog(Arc<AtomicU32>);

impl Watchdog {
    fn over(what: &impl std::fmt::Debug) -> Self {
        let state = Arc::new(AtomicU32::new(0));
        let (watched, what) = (state.clone(), format!("{what:#?}"));
        std::thread::spawn(move || {
            let began = Instant::now();
            while watched.load(Ordering::Relaxed) == 0 {
                if began.elapsed() > Duration::from_secs(60) {
                    eprintln!("the parent hangs after {what}");
                    std::process::abort();
                }
                std::thread::park_timeout(Duration::from_secs(1));
            }
        });
        Self(state)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.store(1, Ordering::Relaxed);
    }
}

/// So many cases, unless `PROPTEST_CASES` says how many.
fn cases(usual: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { usual };
    ProptestConfig { cases, ..config }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_region_full_of_rubbish_harms_no_parent_and_leaves_no_task_without_an_end(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let _watchdog = Watchdog::over(&steps);
        let mut house = House::new();
        steps.iter().for_each(|step| house.step(step));
        house.end();
    }

    /// The same without a scribbler: here every reply arrives as it was written, and nothing is ever repaired.
    #[test]
    fn without_rubbish_nothing_is_mended(steps in prop::collection::vec(step(), 1..60)) {
        let _watchdog = Watchdog::over(&steps);
        let mut house = House::new();
        for step in steps.iter().filter(|step| !matches!(step, Step::Scribble(_))) {
            // All workers live until they die.
            house.step(if matches!(step, Step::Audit(_)) { &Step::Audit(u32::MAX) } else { step });
        }
        prop_assert_eq!(house.shared.counters.repairs.load(Ordering::Relaxed), 0);
        house.end();
    }

    #[test]
    fn a_place_that_is_read_from_a_slot_lies_in_the_region(
        head in number(),
        block in number(),
        buffers in number(),
        length in number(),
    ) {
        let house = House::new();
        let layout = *house.region().layout();
        let slot = house.region().slot(0).unwrap();
        let absolute = |number: Number| number.resolve(&layout);
        slot.head.store(absolute(head), Ordering::Relaxed);
        slot.block.store(absolute(block), Ordering::Relaxed);
        slot.buffers.store(absolute(buffers), Ordering::Relaxed);
        match payload::read(house.region(), slot) {
            Ok(Place::Inline { head }) => prop_assert!(head <= crate::layout::INLINE),
            Ok(Place::Block { block, head, .. }) => {
                prop_assert!(head <= block.length);
                prop_assert!(is_inside(&layout, block));
            }
            Err(payload::Corrupt) => {}
        }
        if let Some(block) = Block::checked(house.region(), absolute(block), absolute(length)) {
            prop_assert!(is_inside(&layout, block));
            // SAFETY: nobody else is at this region.
            let bytes = unsafe { house.region().bytes(block.offset, block.length) };
            prop_assert!(bytes.is_some());
        }
    }
}

/// A number that might be an offset or a length: some distance from a border.
#[derive(Clone, Copy, Debug)]
struct Number {
    border: usize,
    distance: i64,
}

impl Number {
    fn resolve(self, layout: &Layout) -> u64 {
        let borders = [0, layout.slots, layout.small, layout.large, layout.length, u64::MAX / 2, u64::MAX];
        borders[self.border].wrapping_add_signed(self.distance)
    }
}

fn number() -> impl Strategy<Value = Number> {
    let distance = prop_oneof![
        -3..4_i64,
        (-300..300_i64).prop_map(|extents| extents * SMALL_EXTENT as i64),
        any::<i64>(),
    ];
    (0..7_usize, distance).prop_map(|(border, distance)| Number { border, distance })
}

fn is_inside(layout: &Layout, block: Block) -> bool {
    let end = block.offset.checked_add(block.length);
    block.offset >= layout.small && end.is_some_and(|end| end <= layout.length)
}

// ---- with a supervisor ----

/// Starts nobody, and says that it did.
struct Pretender(Arc<Pretended>);

struct Pretended {
    events: Mutex<Vec<LaunchEvent>>,
    seats: Mutex<HashMap<u32, u32>>,
    told: OwnedFd,
    next_pid: AtomicU32,
}

impl Pretended {
    fn tell(&self, event: LaunchEvent) {
        lock(&self.events).push(event);
        poll::signal(self.told.as_fd());
    }

    fn die(&self, seat: u32) {
        if let Some(pid) = lock(&self.seats).remove(&seat) {
            self.tell(LaunchEvent::Exited { seat, pid, status: ExitStatus::Signaled(9) });
        }
    }
}

impl Launcher for Pretender {
    fn launch(&mut self, seat: u32) -> io::Result<()> {
        // Beyond the greatest pid that Linux knows: whoever signals it harms nobody.
        let pid = 5_000_000 + self.0.next_pid.fetch_add(1, Ordering::Relaxed);
        lock(&self.0.seats).insert(seat, pid);
        self.0.tell(LaunchEvent::Started { seat, pid, pidfd: None });
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.told.as_fd())
    }

    fn events(&mut self) -> Vec<LaunchEvent> {
        poll::drain(self.0.told.as_fd());
        std::mem::take(&mut lock(&self.0.events))
    }

    fn shut_down(&mut self) {}
}

#[derive(Clone, Debug)]
enum Deed {
    Scribble(Scribble),
    Submit(usize),
    Die(u32),
    CancelRunning(Index),
    Pause,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => scribble().prop_map(Deed::Scribble),
        4 => prop_oneof![0..200_usize, 300..4000_usize].prop_map(Deed::Submit),
        2 => (0..2_u32).prop_map(Deed::Die),
        1 => any::<Index>().prop_map(Deed::CancelRunning),
        1 => Just(Deed::Pause),
    ]
}

proptest! {
    #![proptest_config(cases(100))]

    /// The region is the real, big one, and its supervisor hears of deaths while somebody scribbles.
    #[test]
    fn a_pool_over_rubbish_ends_every_task_and_itself(deeds in prop::collection::vec(deed(), 1..40)) {
        let _watchdog = Watchdog::over(&deeds);
        let pretended = Arc::new(Pretended {
            events: Mutex::default(),
            seats: Mutex::default(),
            told: poll::eventfd().unwrap(),
            next_pid: AtomicU32::new(0),
        });
        let mut memory = None;
        let config = Config { grace: Duration::from_millis(1), spin: Duration::ZERO, ..Config::new(2) };
        let launcher: Box<dyn Launcher> = Box::new(Pretender(pretended.clone()));
        let pool = Pool::start(config, &Parts::default(), |descriptors| {
            memory = Some(descriptors.region.try_clone_to_owned()?);
            Ok(launcher)
        })
        .unwrap();
        let scribbler = Scribbler::new(memory.unwrap().as_fd(), *pool.shared().region.layout());
        let mut tasks = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Scribble(scribble) => scribbler.scribble(&scribble),
                Deed::Submit(length) => {
                    let head = vec![1; length];
                    tasks.extend(pool.try_submit(&Parts { head: &head, tail: &[], buffers: &[] }, Limits::default()));
                }
                Deed::Die(seat) => pretended.die(seat),
                Deed::CancelRunning(which) if !tasks.is_empty() => {
                    tasks[which.index(tasks.len())].cancel_running();
                }
                Deed::CancelRunning(_) => {}
                Deed::Pause => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        pool.terminate();
        // Whoever the supervisor still starts dies as well.
        while !pool.join(Some(Duration::from_millis(5))).unwrap_or(true) {
            (0..2).for_each(|seat| pretended.die(seat));
        }
        for task in tasks {
            prop_assert!(task.is_ended());
            read(task.take());
        }
    }
}
