use proptest::prelude::*;

use super::*;

const EXTENTS: usize = 48;
const WORKERS: u32 = 3;

/// A zone on a heap, and what should be in it.
struct House {
    owners: Vec<AtomicU32>,
    high: AtomicU64,
    searches: Vec<Search>,
    /// Who should own each extent.
    expected: [Option<Owner>; EXTENTS],
    runs: Vec<(Run, Owner)>,
}

fn owner(who: u32) -> Owner {
    who.checked_sub(1).map_or(Owner::PARENT, Owner::worker)
}

impl House {
    fn new() -> Self {
        Self {
            owners: (0..EXTENTS).map(|_| AtomicU32::new(0)).collect(),
            high: AtomicU64::new(0),
            searches: (0..=WORKERS as usize).map(|who| Search::new(EXTENTS / 4 * who)).collect(),
            expected: [None; EXTENTS],
            runs: Vec::new(),
        }
    }

    fn zone(&self) -> Zone<'_> {
        Zone { owners: &self.owners, high: &self.high }
    }

    fn expect(&mut self, run: Run, owner: Option<Owner>) {
        self.expected[run.first..run.first + run.count].fill(owner);
    }

    fn has_room(&self, count: usize) -> bool {
        self.expected.windows(count).any(|window| window.iter().all(Option::is_none))
    }

    fn is_as_expected(&self) -> bool {
        let is = |(word, expected): (&AtomicU32, &Option<Owner>)| {
            word.load(Ordering::Relaxed) == expected.unwrap_or(Owner::NOBODY).0
        };
        let high = self.high.load(Ordering::Relaxed) as usize;
        self.owners.iter().zip(&self.expected).all(is)
            && self.expected[high..].iter().all(Option::is_none)
            && self.zone().in_use() == self.expected.iter().flatten().count()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Parent (0) or worker.
    Claim(u32, usize),
    Release(prop::sample::Index),
    /// The parent takes a reply.
    Adopt(prop::sample::Index),
    /// A worker dies; the replies that it had finished, some of its runs, are adopted first.
    Die(u32, Vec<bool>),
    Trim(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..=WORKERS, 1..9_usize).prop_map(|(who, count)| Step::Claim(who, count)),
        3 => any::<prop::sample::Index>().prop_map(Step::Release),
        2 => any::<prop::sample::Index>().prop_map(Step::Adopt),
        1 => (1..=WORKERS, prop::collection::vec(any::<bool>(), 8)).prop_map(|(who, done)| Step::Die(who, done)),
        1 => (0..EXTENTS).prop_map(Step::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_extent_is_whose_it_should_be(steps in prop::collection::vec(step(), 1..120)) {
        let mut house = House::new();
        for step in steps {
            match step {
                Step::Claim(who, count) => {
                    let mut search = std::mem::replace(&mut house.searches[who as usize], Search::new(0));
                    let claimed = house.zone().claim(&mut search, count, owner(who));
                    house.searches[who as usize] = search;
                    prop_assert_eq!(claimed.is_some(), house.has_room(count));
                    if let Some(run) = claimed {
                        prop_assert_eq!(run.count, count);
                        let extents = &house.expected[run.first..run.first + count];
                        prop_assert!(extents.iter().all(Option::is_none), "{:?} was somebody's", run);
                        house.expect(run, Some(owner(who)));
                        house.runs.push((run, owner(who)));
                    }
                }
                Step::Release(which) if !house.runs.is_empty() => {
                    let (run, owner) = house.runs.swap_remove(which.index(house.runs.len()));
                    house.zone().release(run, owner);
                    house.expect(run, None);
                }
                Step::Adopt(which) if !house.runs.is_empty() => {
                    let index = which.index(house.runs.len());
                    let (run, from) = house.runs[index];
                    prop_assert!(house.zone().adopt(run, from, Owner::PARENT));
                    house.expect(run, Some(Owner::PARENT));
                    house.runs[index].1 = Owner::PARENT;
                }
                Step::Die(who, done) => {
                    let dead = owner(who);
                    let mut done = done.into_iter().chain(std::iter::repeat(false));
                    let mut left = 0;
                    for (run, owner) in std::mem::take(&mut house.runs) {
                        if owner != dead {
                            house.runs.push((run, owner));
                        } else if done.next() == Some(true) {
                            prop_assert!(house.zone().adopt(run, dead, Owner::PARENT));
                            house.expect(run, Some(Owner::PARENT));
                            house.runs.push((run, Owner::PARENT));
                        } else {
                            house.expect(run, None);
                            left += run.count;
                        }
                    }
                    prop_assert_eq!(house.zone().recover(dead), left);
                }
                Step::Trim(spared) => {
                    let touched = &house.expected[..house.high.load(Ordering::Relaxed) as usize];
                    let free: Vec<usize> =
                        (0..touched.len()).filter(|&index| touched[index].is_none()).skip(spared).collect();
                    let mut discarded = Vec::new();
                    house.zone().trim(spared, 5, |run| discarded.extend(run.first..run.first + run.count));
                    prop_assert_eq!(discarded, free);
                }
                Step::Release(_) | Step::Adopt(_) => {}
            }
            prop_assert!(house.is_as_expected());
        }
    }

    /// *I4*: whatever the owner words and the mark say, nothing is out of bounds, and what is claimed was nobody's.
    #[test]
    fn a_scribbled_zone_is_searched_in_bounds(
        owners in prop::collection::vec(prop_oneof![Just(0), 0..6_u32, any::<u32>()], EXTENTS),
        high in prop_oneof![0..60_u64, any::<u64>()],
        first in prop_oneof![0..60_usize, any::<usize>()],
        count in prop_oneof![1..60_usize, any::<usize>()],
    ) {
        let house = House::new();
        house.owners.iter().zip(&owners).for_each(|(word, &value)| word.store(value, Ordering::Relaxed));
        house.high.store(high, Ordering::Relaxed);
        let zone = house.zone();
        let run = Run { first, count };
        zone.adopt(run, Owner::worker(1), Owner::PARENT);
        zone.release(run, Owner::PARENT);
        zone.recover(Owner::worker(2));
        zone.trim(3, 7, |run| assert!(run.first + run.count <= EXTENTS));
        zone.in_use();
        let free: Vec<bool> = house.owners.iter().map(|word| word.load(Ordering::Relaxed) == 0).collect();
        if let Some(run) = zone.claim(&mut Search::new(7), 5, Owner::worker(3)) {
            prop_assert!(free[run.first..run.first + 5].iter().all(|&free| free));
        }
    }
}

#[test]
fn giving_back_what_is_not_ones_own_changes_nothing() {
    let house = House::new();
    let run = house.zone().claim(&mut Search::new(0), 4, Owner::worker(0)).unwrap();
    house.zone().release(run, Owner::PARENT);
    house.zone().release(run, Owner::worker(1));
    assert!(!house.zone().adopt(run, Owner::worker(1), Owner::PARENT));
    assert_eq!(house.zone().in_use(), 4);
}

#[test]
fn what_was_touched_is_used_again_before_fresh_memory() {
    let house = House::new();
    let mut search = Search::new(0);
    for _ in 0..1000 {
        let run = house.zone().claim(&mut search, 1, Owner::PARENT).unwrap();
        house.zone().release(run, Owner::PARENT);
    }
    // The search walks on for a while, and comes home.
    assert!(house.high.load(Ordering::Relaxed) <= EXTENTS as u64);
    let mut search = Search::new(0);
    let first = house.zone().claim(&mut search, 1, Owner::PARENT).unwrap();
    assert_eq!(first.first, 0);
}
