//! Points in a worker's path at which a test makes it kill itself, one after the other.
//!
//! With the feature `faults` the header has a word that names the point at which the next worker to pass dies by
//! `SIGKILL`; without it, as in every user's build, a point is nothing.

/// Where a worker can be made to die: each is just before or just after a change that others can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Point {
    /// Mapped the region, said nothing yet.
    Attached = 1,
    /// Said that it is ready.
    Ready,
    /// Announced that it sleeps, looked at the queue, sleeps next.
    Announced,
    /// Was woken, or found work while it spun.
    Woken,
    /// Wrote down which task it is about to claim.
    Intends,
    /// Claimed a slot; the queue's head still points to it.
    Claimed,
    /// Claimed, and helped the head past it.
    Helped,
    /// About to write the reply.
    Replies,
    /// Took a block for the reply.
    Allocated,
    /// Wrote the reply; the state still says that it runs.
    Written,
    /// The slot is done; nobody has been told.
    Done,
    /// Told those who wait.
    Told,
    /// Counted the task.
    Counted,
    /// Used up its quota; about to leave.
    Retires,
}

impl Point {
    /// All of them, in the order in which a worker passes them.
    pub const ALL: [Self; 14] = [
        Self::Attached,
        Self::Ready,
        Self::Announced,
        Self::Woken,
        Self::Intends,
        Self::Claimed,
        Self::Helped,
        Self::Replies,
        Self::Allocated,
        Self::Written,
        Self::Done,
        Self::Told,
        Self::Counted,
        Self::Retires,
    ];
}

#[cfg(not(any(all(feature = "faults", not(any(loom, shuttle))), all(test, any(loom, shuttle)))))]
#[inline(always)]
pub(crate) fn point(_: Point) {}

#[cfg(all(test, loom))]
pub(crate) use crate::models::pass as point;
#[cfg(all(test, shuttle))]
pub(crate) use crate::whole::world::pass as point;

#[cfg(all(feature = "faults", not(any(loom, shuttle))))]
pub(crate) use armed::{arm, point, watch};

#[cfg(all(feature = "faults", not(any(loom, shuttle))))]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Point;
    use crate::region::Region;

    static REGION: OnceLock<std::sync::Arc<Region>> = OnceLock::new();

    /// Worker: from now on looks at this region's word.
    pub(crate) fn watch(region: &std::sync::Arc<Region>) {
        let _ = REGION.set(region.clone());
    }

    /// Parent: the next `deaths` workers that pass `point` die there.
    pub(crate) fn arm(word: &AtomicU32, point: Point, deaths: u16) {
        word.store((point as u32) << 16 | u32::from(deaths), Ordering::SeqCst);
    }

    pub(crate) fn point(point: Point) {
        let Some(region) = REGION.get() else { return };
        let word = region.fault();
        let taken = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |armed| {
            (armed >> 16 == point as u32 && armed & 0xffff > 0).then(|| armed - 1)
        });
        if taken.is_ok() {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}
