//! Random lives, and one life with a supervisor.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::SEATS;
use super::house::{House, Step, limits, read};
use super::scribble::{Part, Scribble, Scribbler, Value};
use crate::block::Block;
use crate::launch::{ExitStatus, LaunchEvent, Launcher};
use crate::layout::{Header, Layout, RulesWords, SMALL_EXTENT, Seat};
use crate::os::poll;
use crate::payload::{self, Parts, Place};
use crate::pool::{Config, Pool};
use crate::submit::Limits;
use crate::sync::lock;

// ---- random steps ----

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
        prop_oneof![0..8_u64, Just(u64::MAX), Just(1 << 63)].prop_map(Value::Any),
        (0..16_u64, 0..u64::from(SEATS) + 2, 0..20_u64)
            .prop_map(|(state, seat, ticket)| Value::Word(state, seat, ticket)),
        (0..14_u64, 0..20_u64).prop_map(|(slot, ticket)| Value::Entry(slot, ticket)),
        (0..300_u64, prop_oneof![9 => Just(0), 1 => 0..2000_u64])
            .prop_map(|(extent, into)| Value::Offset(extent, into)),
        any::<usize>().prop_map(Value::Copy),
    ]
}

fn scribble() -> impl Strategy<Value = Scribble> {
    (part(), any::<usize>(), value()).prop_map(|(part, place, value)| Scribble { part, place, value })
}

fn step() -> impl Strategy<Value = Step> {
    let worker = || 0..SEATS as usize;
    let length = || prop_oneof![3 => 0..220_usize, 1 => 200..5000_usize, 1 => Just(70_000_usize)];
    let task = || any::<usize>();
    prop_oneof![
        12 => scribble().prop_map(Step::Scribble),
        6 => (length(), prop_oneof![2 => Just(0), 1 => 1..3000_usize], 0..3_u32, any::<bool>(), any::<bool>()).prop_map(
            |(length, buffer, retries, timeout, is_listened_to)| {
                Step::Submit { length, buffer, limits: limits(timeout, retries), is_listened_to }
            }
        ),
        5 => worker().prop_map(Step::Claim),
        4 => (worker(), length(), 0..6_u32).prop_map(|(worker, length, kind)| Step::Finish(worker, length, kind)),
        2 => worker().prop_map(Step::Die),
        3 => (0..1_u32 << SEATS).prop_map(Step::Audit),
        1 => task().prop_map(Step::Cancel),
        1 => task().prop_map(Step::CancelRunning),
        1 => task().prop_map(Step::Look),
        1 => task().prop_map(Step::Wait),
        2 => task().prop_map(Step::Take),
        1 => task().prop_map(Step::Drop),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Stats),
        1 => Just(Step::WakeAll),
        1 => Just(Step::Restate),
        1 => (0..40_usize).prop_map(Step::Trim),
        1 => Just(Step::Attach),
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

// ---- what was found once ----

/// The word at `offset` of the header, or of the first seat.
fn overwritten(part: Part, offset: usize, value: u64) -> Step {
    let seats = if matches!(part, Part::Seats) { SEATS as usize } else { 1 };
    Step::Scribble(Scribble { part, place: offset / 8 * seats, value: Value::Any(value) })
}

#[test]
fn a_worker_whose_counts_were_overwritten_counts_on() {
    for (offset, kind) in [
        (std::mem::offset_of!(Seat, finished), payload::RETURNED),
        (std::mem::offset_of!(Seat, raised), payload::RAISED),
    ] {
        let mut house = House::new();
        for step in [
            Step::Submit { length: 10, buffer: 0, limits: Limits::default(), is_listened_to: false },
            Step::Claim(0),
            overwritten(Part::Seats, offset, u64::MAX),
            Step::Finish(0, 10, kind),
            Step::Stats,
        ] {
            house.step(&step);
        }
        house.end();
    }
}

#[test]
fn a_worker_finds_no_set_up_where_there_can_be_none() {
    let rules = std::mem::offset_of!(Header, rules);
    for [block, length] in [[0, u64::MAX], [u64::MAX - 63, u64::MAX], [u64::MAX, 64], [0, 64]] {
        let mut house = House::new();
        for (word, value) in [
            (std::mem::offset_of!(RulesWords, setup), block),
            (std::mem::offset_of!(RulesWords, setup_length), length),
            (std::mem::offset_of!(RulesWords, setup_head), u64::MAX),
        ] {
            house.step(&overwritten(Part::Header, rules + word, value));
        }
        house.step(&Step::Attach);
        house.end();
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

    fn call_off(&mut self) {}

    fn shut_down(&mut self) {}
}

#[derive(Clone, Debug)]
enum Deed {
    Scribble(Scribble),
    Submit(usize),
    Die(u32),
    CancelRunning(usize),
    Pause,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => scribble().prop_map(Deed::Scribble),
        4 => prop_oneof![0..200_usize, 300..4000_usize].prop_map(Deed::Submit),
        2 => (0..2_u32).prop_map(Deed::Die),
        1 => any::<usize>().prop_map(Deed::CancelRunning),
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
        let config = Config { grace: Duration::from_millis(1), spin: false, ..Config::new(2) };
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
                    tasks[which % tasks.len()].cancel_running();
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
