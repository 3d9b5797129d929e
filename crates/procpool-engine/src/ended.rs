//! Which slots have listeners whose task has ended, and the sleep of the collector that looks at them.
//!
//! Whoever ends a task that is listened to sets the slot's bit, then the bit of that word in a summary, and then tells
//! the collector. Bits may be set again at will (*I5*): the collector believes only the slot's word. Its sleep needs
//! no fence: both sides swap one word, so either the collector finds that it was told, or the teller finds that it
//! sleeps.

use std::time::Duration;

use crate::faults::{Point, point};
use crate::sync::{AtomicU32, AtomicU64, Ordering, futex};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// The shared words, as one process sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'r> {
    /// One bit for each slot.
    pub(crate) slots: &'r [AtomicU64],
    /// One bit for each word of `slots`.
    pub(crate) summary: &'r [AtomicU64],
    /// What the collector sleeps on.
    pub(crate) bed: &'r AtomicU32,
}

impl Ended<'_> {
    /// Anybody: the collector is to look at `slot`.
    pub(crate) fn tell(&self, slot: u32) {
        let word = slot as usize / 64;
        let (Some(bits), Some(summary)) = (self.slots.get(word), self.summary.get(word / 64)) else { return };
        // ORDER: AcqRel, partner of the swap in `bits`: who finds the bit sees the slot's word as ended.
        bits.fetch_or(1 << (slot % 64), Ordering::AcqRel);
        point(Point::BitSet);
        summary.fetch_or(1 << (word % 64), Ordering::AcqRel);
        point(Point::Summarised);
        self.rouse();
    }

    /// Wakes the collector, if it sleeps.
    pub(crate) fn rouse(&self) {
        // ORDER: AcqRel, partner of the swap in `sleep`: if that came first it is seen here, else it sees the bits.
        if self.bed.swap(AWAKE, Ordering::AcqRel) == ASLEEP {
            point(Point::Called);
            futex::wake(self.bed, 1);
        }
    }

    /// As [`Ended::rouse`], also where the collector sleeps on a bed that says otherwise: somebody died in `rouse` between
    /// its two steps, or wrote over the bed (*I4*).
    pub(crate) fn shake(&self) {
        self.bed.swap(AWAKE, Ordering::AcqRel);
        futex::wake(self.bed, 1);
    }

    /// Collector: calls `serve` with all slots that it was told of; false if there were none.
    pub(crate) fn take(&self, mut serve: impl FnMut(u32)) -> bool {
        let mut any = false;
        for word in bits(self.summary) {
            let slots = self.slots.get(word..=word).unwrap_or_default();
            for bit in bits(slots) {
                any = true;
                serve((word * 64 + bit) as u32);
            }
        }
        any
    }

    /// Collector: sleeps until it is told of something, unless `look` finds that it was just now; not for longer than
    /// `most`. May return for no reason.
    pub(crate) fn sleep(&self, most: Option<Duration>, look: impl FnOnce() -> bool) {
        // ORDER: AcqRel, partner of the swap in `rouse`.
        self.bed.swap(ASLEEP, Ordering::AcqRel);
        point(Point::Dozes);
        if !look() {
            futex::wait(self.bed, ASLEEP, most);
        }
    }
}

/// The bits that are set in `words`, by their index in the whole; each word's are taken away before they are given.
fn bits(words: &[AtomicU64]) -> impl Iterator<Item = usize> {
    let set = words.iter().enumerate().filter(|(_, word)| word.load(Ordering::Relaxed) != 0);
    set.flat_map(|(index, word)| {
        // ORDER: AcqRel, partner of `tell`.
        let taken = word.swap(0, Ordering::AcqRel);
        point(Point::TookBits);
        (0..64).filter(move |bit| taken >> bit & 1 == 1).map(move |bit| index * 64 + bit)
    })
}
