use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::slot::State;

/// A queue on a heap, its slots, and what they should hold.
struct House {
    head: Head,
    tail: AtomicU64,
    levels: Levels,
    cells: Vec<AtomicU64>,
    words: Vec<Word>,
    end: Tail,
    free: Vec<u32>,
    next_ticket: Ticket,
    /// The tasks that are ready, oldest first.
    ready: VecDeque<(u32, Ticket)>,
    running: Vec<(u32, Ticket)>,
}

impl House {
    fn with_levels(levels: usize) -> Self {
        let head = Head::new();
        let tail = AtomicU64::new(0);
        let starts = Levels::new();
        let cells: Vec<_> = (0..cells(levels)).map(|_| AtomicU64::new(0)).collect();
        let end = Tail::begin(&Queue { head: &head, tail: &tail, levels: &starts, cells: &cells });
        Self {
            head,
            tail,
            levels: starts,
            cells,
            words: Vec::new(),
            end,
            free: Vec::new(),
            next_ticket: 1,
            ready: VecDeque::new(),
            running: Vec::new(),
        }
    }

    fn push(&mut self) -> bool {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.words.push(Word::new());
            self.words.len() as u32 - 1
        });
        let ticket = self.next_ticket;
        self.words[slot as usize].publish(ticket);
        let Self { head, tail, levels, cells, end, .. } = self;
        let queue = Queue { head, tail, levels, cells };
        if queue.push(end, Entry::new(slot, ticket)) == Err(Full) {
            self.words[slot as usize].release();
            self.free.push(slot);
            return false;
        }
        self.next_ticket += 1;
        self.ready.push_back((slot, ticket));
        true
    }

    fn queue(&self) -> Queue<'_> {
        Queue { head: &self.head, tail: &self.tail, levels: &self.levels, cells: &self.cells }
    }

    fn claim(&mut self, cursor: &mut Cursor) -> Option<(u32, Ticket)> {
        let word = |slot| self.words.get(slot as usize);
        let (slot, seen) = self.queue().claim(cursor, 3, word, |_| ())?;
        self.running.push((slot, seen.ticket()));
        Some((slot, seen.ticket()))
    }

    /// A task was claimed, in whatever order.
    fn forget(&mut self, task: (u32, Ticket)) {
        if self.ready.front() == Some(&task) {
            self.ready.pop_front();
        } else {
            self.ready.retain(|&ready| ready != task);
        }
    }

    fn free_slot(&mut self, slot: u32) {
        self.words[slot as usize].release();
        self.free.push(slot);
    }

    /// The steps of `Shared::audit_queue`.
    fn audit(&mut self) {
        let Self { head, tail, levels, cells, end, ready, .. } = self;
        let queue = Queue { head, tail, levels, cells };
        let sane = queue.mend(end);
        if !sane || ready.len() as u64 > queue.length() {
            for &(slot, ticket) in &*ready {
                let _ = queue.push(end, Entry::new(slot, ticket));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    /// By one of three workers.
    Claim(usize, usize),
    /// The how-manieth of those that are ready.
    Cancel(prop::sample::Index),
    /// A worker ends a task, and its slot is free again.
    Finish(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..5_usize).prop_map(Step::Push),
        1 => (1..3000_usize).prop_map(Step::Push),
        4 => (0..3_usize, 1..5_usize).prop_map(|(worker, count)| Step::Claim(worker, count)),
        1 => (0..3_usize, 1..3000_usize).prop_map(|(worker, count)| Step::Claim(worker, count)),
        4 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        4 => any::<prop::sample::Index>().prop_map(Step::Finish),
    ]
}

#[derive(Clone, Debug)]
enum Scribble {
    Head(u64),
    Tail(u64),
    Level(usize, u64),
    Cell(prop::sample::Index, u64),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..40_u64, 4000..4200_u64, any::<u64>(), Just(u64::MAX)]
}

fn scribble() -> impl Strategy<Value = Scribble> {
    prop_oneof![
        number().prop_map(Scribble::Head),
        number().prop_map(Scribble::Tail),
        (0..LEVELS, number()).prop_map(|(level, number)| Scribble::Level(level, number)),
        (any::<prop::sample::Index>(), number()).prop_map(|(cell, number)| Scribble::Cell(cell, number)),
    ]
}

fn few(cases: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few(32))]

    /// Over three levels, with entries of cancelled tasks whose slots have other tasks by then.
    #[test]
    fn the_oldest_ready_task_is_claimed_next(steps in prop::collection::vec(step(), 1..60)) {
        let mut house = House::with_levels(3);
        let mut cursors = [(); 3].map(|()| Cursor::default());
        for step in steps {
            match step {
                Step::Push(count) => {
                    for _ in 0..count {
                        if !house.push() {
                            prop_assert!(house.queue().length() >= level_capacity(2));
                            break;
                        }
                    }
                }
                Step::Claim(worker, count) => {
                    for _ in 0..count {
                        let expected = house.ready.pop_front();
                        prop_assert_eq!(house.claim(&mut cursors[worker]), expected);
                    }
                }
                Step::Cancel(which) if !house.ready.is_empty() => {
                    let (slot, ticket) = house.ready.remove(which.index(house.ready.len())).unwrap();
                    prop_assert!(house.words[slot as usize].cancel(ticket));
                    house.free_slot(slot);
                }
                Step::Finish(which) if !house.running.is_empty() => {
                    let (slot, ticket) = house.running.swap_remove(which.index(house.running.len()));
                    prop_assert!(house.words[slot as usize].finish(ticket, 3));
                    house.free_slot(slot);
                }
                Step::Cancel(_) | Step::Finish(_) => {}
            }
            prop_assert!(house.queue().length() >= house.ready.len() as u64);
        }
        for cursor in &mut cursors {
            while let Some(task) = house.claim(cursor) {
                prop_assert_eq!(Some(task), house.ready.pop_front());
            }
            prop_assert!(house.queue().is_empty());
        }
        prop_assert!(house.ready.is_empty());
    }

    /// *I4*: whatever a worker scribbled over the queue, every ready task is claimed in the end, also by workers that
    /// have followed the scribble.
    #[test]
    fn no_scribble_keeps_a_task_from_being_claimed_after_the_audits(
        pushes in 0..5000_usize,
        claims in 0..40_usize,
        scribbles in prop::collection::vec(scribble(), 1..6),
        misled in 0..30_usize,
        more in 0..30_usize,
    ) {
        let mut house = House::with_levels(2);
        let mut cursors = [(); 2].map(|()| Cursor::default());
        (0..pushes).for_each(|_| { house.push(); });
        for _ in 0..claims {
            prop_assert_eq!(house.claim(&mut cursors[0]), house.ready.pop_front());
        }
        for scribble in scribbles {
            let (word, number) = match scribble {
                Scribble::Head(number) => (&house.head.0, number),
                Scribble::Tail(number) => (&house.tail, number),
                Scribble::Level(level, number) => (&house.levels.0[level], number),
                Scribble::Cell(cell, number) => (&house.cells[cell.index(house.cells.len())], number),
            };
            word.store(number, Ordering::Relaxed);
        }
        for _ in 0..misled {
            if let Some(task) = house.claim(&mut cursors[0]) {
                house.forget(task);
            }
        }
        (0..more).for_each(|_| { house.push(); });
        // The first audit mends the words. Whose entry was written over is found when the queue has run empty, by the next.
        for _ in 0..2 {
            house.audit();
            for turn in 0.. {
                let Some(task) = house.claim(&mut cursors[turn % 2]) else { break };
                house.forget(task);
            }
        }
        prop_assert_eq!(&house.ready, &VecDeque::new());
    }
}

#[test]
fn an_entry_out_of_bounds_is_passed_over() {
    let mut house = House::with_levels(1);
    house.push();
    house.cells[0].store(Entry { slot: u32::MAX, tag: 1 }.pack(), Ordering::Relaxed);
    house.push();
    assert_eq!(house.claim(&mut Cursor::default()), Some((1, 2)));
}

#[test]
fn a_queue_that_is_full_says_so_and_has_room_again_after_a_claim() {
    let mut house = House::with_levels(1);
    (0..FIRST_LEVEL).for_each(|_| assert!(house.push()));
    assert!(!house.push());
    assert_eq!(house.claim(&mut Cursor::default()), Some((0, 1)));
    assert!(house.push());
    assert!(!house.push());
}

#[test]
fn a_claimed_slot_is_the_workers_also_when_the_head_still_points_to_it() {
    let mut house = House::with_levels(1);
    house.push();
    house.push();
    // As if a worker had died between its claim and the help.
    let word = &house.words[0];
    assert!(word.claim(word.read(), 1));
    assert_eq!(house.claim(&mut Cursor::default()), Some((1, 2)));
    assert_eq!(house.words[0].read().state(), Some(State::Claimed));
    assert!(house.queue().is_empty());
}
