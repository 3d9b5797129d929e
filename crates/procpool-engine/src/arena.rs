//! Memory for payloads that do not fit into a slot: blocks made of *extents*, each with its owner's name on it.
//!
//! An extent belongs to whoever is written in its owner word, and it changes hands by compare-and-swap on that
//! word alone: free → owner ([`Zone::claim`]), owner → parent ([`Zone::adopt`], when the parent takes a reply), owner
//! → free ([`Zone::release`]). There is no list and no header that a dying process could leave half-changed. When
//! a worker dies, [`Zone::recover`] frees what still bears its name; nothing else does, since the parent first
//! adopts the replies that the worker had finished. Giving back what is not one's own changes nothing.
//!
//! A *block* is a run of whole extents. There are two zones, which differ in the size of their extents only: small
//! ones for what is a little larger than a slot, large ones for buffers, so that neither wastes memory nor takes
//! many words to claim. Pages exist where they were touched; each owner searches from its own *home* upwards
//! and starts there again and again, so that pages which were touched are used first: touching a fresh page costs
//! several times what copying into it does.

use crate::faults::{Point, point};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Who an extent belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Owner(u32);

impl Owner {
    const NOBODY: Self = Self(0);
    /// The process that made the pool.
    pub(crate) const PARENT: Self = Self(1);

    /// The worker in a seat. A seat is taken again only after [`Zone::recover`].
    pub(crate) fn worker(seat: u32) -> Self {
        Self(seat + 2)
    }
}

/// A run of extents of one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// The owner words of the extents of one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zone<'r> {
    pub(crate) owners: &'r [AtomicU32],
    /// One beyond the highest extent that was ever claimed: how far pages may have been touched.
    pub(crate) high: &'r AtomicU64,
}

/// One process's way of searching a zone. Private: it only says where to look first.
#[derive(Debug)]
pub(crate) struct Search {
    home: usize,
    next: usize,
    /// Extents left to claim before the search begins at home again.
    credit: usize,
}

impl Search {
    pub(crate) fn new(home: usize) -> Self {
        Self { home, next: home, credit: 0 }
    }
}

/// In the models of the whole none, so that what is given back is soon another's.
const LEAST_CREDIT: usize = if cfg!(shuttle) { 0 } else { 64 };

impl Zone<'_> {
    /// Takes `count` extents in a row for `owner`; `None` when there is no such run.
    pub(crate) fn claim(&self, search: &mut Search, count: usize, owner: Owner) -> Option<Run> {
        let from_home = search.credit == 0;
        if from_home {
            search.next = search.home;
        }
        let first = self
            .claim_between(search.next, self.owners.len(), count, owner)
            .or_else(|| self.claim_between(0, (search.next + count).min(self.owners.len()), count, owner))?;
        if from_home {
            // What was skipped is paid for by as many claims as make the walk cheap.
            search.credit = LEAST_CREDIT.max(first.saturating_sub(search.home) / 16);
        }
        search.credit = search.credit.saturating_sub(count);
        search.next = first + count;
        Some(Run { first, count })
    }

    fn claim_between(&self, from: usize, to: usize, count: usize, owner: Owner) -> Option<usize> {
        let mut first = from;
        while first + count <= to {
            match self.claim_run(first, count, owner) {
                Ok(()) => return Some(first),
                Err(taken) => first = taken + 1,
            }
        }
        None
    }

    /// All extents of the run, or none; where not, the index of one that belongs to somebody.
    fn claim_run(&self, first: usize, count: usize, owner: Owner) -> Result<(), usize> {
        let end = first + count;
        if self.is_free(end - 1) && self.high.load(Ordering::Relaxed) < end as u64 {
            // First the mark, then the claim: if this process dies in between, `recover` looks far enough.
            self.high.fetch_max(end as u64, Ordering::Relaxed);
            point(Point::Marked);
        }
        // From the end, so that a run which is too short is given up after one look and the search skips most.
        for index in (first..end).rev() {
            if !self.change(index, Owner::NOBODY, owner) {
                self.release(Run { first: index + 1, count: end - index - 1 }, owner);
                return Err(index);
            }
            point(Point::TookExtent);
        }
        Ok(())
    }

    /// Parent: takes over what a worker finished. False when a part of it is not that worker's (*I4*).
    pub(crate) fn adopt(&self, run: Run, from: Owner, to: Owner) -> bool {
        // All are tried, also after one that is not `from`'s.
        let adopt = |index| {
            let adopted = self.change(index, from, to);
            point(Point::Adopts);
            adopted
        };
        self.indices(run).filter(|&index| !adopt(index)).count() == 0
    }

    /// Gives back what of the run is `owner`'s.
    pub(crate) fn release(&self, run: Run, owner: Owner) {
        for index in self.indices(run) {
            self.change(index, owner, Owner::NOBODY);
            point(Point::GivesBack);
        }
    }

    /// Supervisor: frees all that a dead worker left, after its finished replies were adopted. Gives how many
    /// extents that were.
    pub(crate) fn recover(&self, dead: Owner) -> usize {
        let touched = self.touched();
        (0..touched).filter(|&index| self.change(index, dead, Owner::NOBODY)).count()
    }

    /// Supervisor: calls `discard` with runs of free extents, which are the parent's own meanwhile, sparing the
    /// first `spared` free ones. A run has `most` extents at most: others may want them at that moment.
    pub(crate) fn trim(&self, spared: usize, most: usize, mut discard: impl FnMut(Run)) {
        let mut spare = spared;
        let mut run = Run { first: 0, count: 0 };
        for index in 0..self.touched() {
            if !self.change(index, Owner::NOBODY, Owner::PARENT) {
                self.discard_run(run, &mut discard);
                run = Run { first: index + 1, count: 0 };
            } else if spare > 0 {
                spare -= 1;
                self.change(index, Owner::PARENT, Owner::NOBODY);
                run = Run { first: index + 1, count: 0 };
            } else {
                run.count += 1;
                if run.count == most {
                    self.discard_run(run, &mut discard);
                    run = Run { first: index + 1, count: 0 };
                }
            }
        }
        self.discard_run(run, &mut discard);
    }

    fn discard_run(&self, run: Run, discard: &mut impl FnMut(Run)) {
        if run.count > 0 {
            discard(run);
            self.release(run, Owner::PARENT);
        }
    }

    /// How many extents belong to somebody: for tests and statistics.
    pub(crate) fn in_use(&self) -> usize {
        self.owners[..self.touched()].iter().filter(|word| word.load(Ordering::Relaxed) != 0).count()
    }

    fn touched(&self) -> usize {
        usize::try_from(self.high.load(Ordering::Relaxed)).unwrap_or(usize::MAX).min(self.owners.len())
    }

    fn is_free(&self, index: usize) -> bool {
        self.owners[index].load(Ordering::Relaxed) == Owner::NOBODY.0
    }

    fn indices(&self, run: Run) -> std::ops::Range<usize> {
        let end = run.first.saturating_add(run.count).min(self.owners.len());
        run.first.min(end)..end
    }

    fn change(&self, index: usize, from: Owner, to: Owner) -> bool {
        let word = &self.owners[index];
        // ORDER: AcqRel: Release when it is given back, partner of the Acquire of whoever takes it next: what the
        // old owner wrote there is over. The relaxed look first keeps a search from dirtying every line.
        word.load(Ordering::Relaxed) == from.0
            && word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
