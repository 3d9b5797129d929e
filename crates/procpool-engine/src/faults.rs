//! Points at which tests make a process die or stand still, one after the other.
//!
//! Each is just before or just after a change that others can see; `PROTOCOL.md` has the steps that they lie between.
//! With the feature `faults` a worker or zygote that passes one looks at a word of the region's header, which says at
//! which point the next one dies by `SIGKILL`; and the parent looks whether a test gave it something to do there: to kill
//! itself, or to kill its workers while it stands between two steps. Without the feature, as in every user's build, a
//! point is nothing.

/// The points by whose path they are on, in the order in which they are passed.
macro_rules! points {
    ($($(#[doc = $path:literal])+ $group:ident { $($(#[doc = $doc:literal])+ $point:ident,)+ })+) => {
        /// Where a process can be made to die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Point { $($($(#[doc = $doc])+ $point,)+)+ }

        impl Point {
            $($(#[doc = $path])+ pub const $group: &[Self] = &[$(Self::$point),+];)+
        }
    };
}

points! {
    /// A zygote starts workers, and reaps them.
    FORKS {
        /// Was asked for a worker, and has not forked it.
        Asked,
        /// Forked a worker, which may have told of itself or not.
        Forked,
        /// Reaped a worker; the parent has not been told how it ended.
        Reaped,
    }
    /// A worker begins, and leaves.
    COMES_AND_GOES {
        /// Was forked; nobody has been told.
        Born,
        /// Told of itself; has not seen the region.
        Introduced,
        /// Mapped the region, said nothing yet.
        Mapped,
        /// Said that it sets itself up.
        Attached,
        /// Said that it is ready.
        Ready,
        /// Used up its quota; about to leave.
        Retires,
        /// Said that it leaves.
        Leaves,
    }
    /// A worker fails to set itself up.
    FAILS {
        /// Left behind why; not said yet that the set-up failed.
        Excused,
        /// Said that the set-up failed.
        SetupFailed,
    }
    /// A worker fails to enter its sandbox.
    STAYS_OUT {
        /// Left behind why; not said yet that it is not confined.
        Refused,
        /// Said that it is not confined.
        NotConfined,
    }
    /// A worker waits for work.
    IDLES {
        /// Is the spinner.
        Spins,
        /// Is the spinner no more; has not looked at the queue since, nor announced that it sleeps.
        LooksAway,
        /// Announced that it sleeps, looked at the queue, sleeps next.
        Announced,
        /// Was woken; its bit may be set again.
        Roused,
        /// Was woken, or found work while it spun.
        Woken,
    }
    /// A worker takes up a task.
    CLAIMS {
        /// Wrote down which task it is about to claim.
        Intends,
        /// Claimed a slot; the queue's head still points to it.
        Claimed,
        /// Claimed after it had idled; woke nobody yet for what else is in the queue.
        TakesUp,
        /// Claimed, and helped the head past it.
        Helped,
        /// Wrote down when it began; nobody counts the time yet.
        Began,
    }
    /// A worker writes its reply.
    REPLIES {
        /// About to write the reply.
        Replies,
        /// Keeps the argument's block, which somebody still holds.
        Kept,
        /// Has room for the reply.
        Allocated,
        /// Wrote the reply; the state still says that it runs.
        Written,
    }
    /// A worker ends its task.
    FINISHES {
        /// The slot is done; nobody has been told.
        Done,
        /// Told those who wait.
        Told,
        /// Runs nothing any more; the task is not counted.
        Cleared,
        /// Counted the task.
        Counted,
    }
    /// A worker or the parent takes a block, fills it, and gives it back or hands it over.
    BLOCKS {
        /// Raised the mark of how far memory is in use; nothing is claimed there yet.
        Marked,
        /// Took an extent of a block, perhaps not all.
        TookExtent,
        /// Filled the block; no slot knows of it.
        Filled,
        /// Wrote what the slot's payload is, and not where.
        HalfWritten,
        /// Took over an extent of somebody else's block, perhaps not all.
        Adopts,
        /// Gave back an extent of a block, perhaps not all.
        GivesBack,
    }
    /// A worker or the parent wakes, and tells of an end.
    TELLS {
        /// Made a sleeper the spinner, and has not taken away its bit.
        Appointed,
        /// Chose whom to wake: took away a bit, and has not rung the bed.
        Chose,
        /// Counted the end of a task; woke nobody yet.
        Ended,
        /// Set the slot's bit for the collector, and not the summary's.
        BitSet,
        /// Set both bits; the collector may sleep.
        Summarised,
        /// Found the collector asleep, and has not woken it.
        Called,
    }
    /// The parent accepts a task.
    SUBMITS {
        /// Found room for the argument.
        Reserved,
        /// Wrote slot and books; the task is not ready.
        Noted,
        /// The task is ready, and not in the queue.
        Published,
        /// Wrote the queue's cell, and not its tail.
        CellWritten,
        /// The task is in the queue; nobody was woken.
        Pushed,
        /// Woke a worker, if one slept; the supervisor may not watch.
        Rang,
    }
    /// The parent waits for a task, and takes its outcome.
    TAKES {
        /// Registered a waiter; has not looked whether the task has ended.
        Waits,
        /// Registered a listener; has not looked whether the task has ended.
        Listens,
        /// The collector said that it sleeps; has not looked once more.
        Dozes,
        /// The collector took away the bits of a word; has not called the listeners.
        TookBits,
        /// The slot is free; the books have the task still.
        Freed,
    }
    /// The parent cancels a task, or ends it for its time.
    CANCELS {
        /// Found that a task has run for too long; has not doomed it.
        Overran,
        /// Took a deadline that has come off the agenda; the task has not ended.
        Due,
        /// Cancelled the task; nobody has been told.
        Cancelled,
        /// Doomed the task; its worker lives.
        Doomed,
        /// Killed the worker of a doomed task.
        Killed,
    }
    /// The parent settles a death, and starts a successor.
    SETTLES {
        /// Heard of the death.
        Settles,
        /// Adopted the reply of a task that the dead worker had finished.
        Rescued,
        /// Lost the task that the dead worker had; nobody has been told.
        Lost,
        /// Freed the dead worker's extents.
        Recovered,
        /// Forgot that the dead worker idled; woke nobody.
        Buried,
        /// Settled all; the seat has the dead worker's words still.
        Settled,
        /// Made the seat ready for another.
        Vacated,
        /// Asked for another.
        Launched,
    }
    /// The parent gives a lost task another attempt.
    TRIES_AGAIN {
        /// Doomed the task of a dead worker, so that nobody else does.
        Seals,
        /// Made the task ready; it is not in the queue.
        ReadyAgain,
        /// Made the task ready, and keeps it off the queue for a while.
        Postponed,
        /// That while is over; the task is not in the queue.
        Resumes,
        /// Put the task on the queue; woke nobody.
        Resumed,
    }
    /// The parent resizes the pool, or ends it.
    GOVERNS {
        /// Dismissed a worker, and has not woken it.
        Dismissed,
        /// Closed the pool; woke nobody.
        Closes,
        /// Stopped the pool; no task was ended.
        Stops,
        /// Ended the tasks that waited, and doomed those that ran; woke nobody.
        Emptied,
        /// Lets a worker leave that has no task.
        LetsLeave,
        /// Asked a worker to end.
        AskedToEnd,
        /// No worker is left; tasks may be without an end.
        Deserted,
        /// Said that every task has ended; listeners may not have been called.
        Over,
    }
}

#[cfg(not(any(all(feature = "faults", not(any(loom, shuttle))), all(test, any(loom, shuttle)))))]
#[inline(always)]
pub(crate) fn point(_: Point) {}

#[cfg(not(all(feature = "faults", not(any(loom, shuttle)))))]
pub(crate) fn watch(_: std::os::fd::BorrowedFd<'_>) {}

#[cfg(all(test, loom))]
pub(crate) use crate::models::pass as point;
#[cfg(all(test, shuttle))]
pub(crate) use crate::whole::world::pass as point;

#[cfg(all(feature = "faults", not(any(loom, shuttle))))]
pub use armed::at;
#[cfg(all(feature = "faults", not(any(loom, shuttle))))]
pub(crate) use armed::{arm, point, watch};

#[cfg(all(feature = "faults", not(any(loom, shuttle))))]
mod armed {
    use std::os::fd::BorrowedFd;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Mutex, OnceLock};

    use super::Point;
    use crate::os::process;
    use crate::region::Region;
    use crate::sync::lock;

    /// What this process looks at, where it is a zygote or a worker.
    static WORD: OnceLock<&AtomicU32> = OnceLock::new();

    type Act = Box<dyn FnOnce() + Send>;

    /// What the parent does at a point.
    static ACT: Mutex<Option<(Point, Act)>> = Mutex::new(None);

    /// Zygote, worker: from now on looks at this region's word, if it does not since its zygote does.
    pub(crate) fn watch(region: BorrowedFd<'_>) {
        WORD.get_or_init(|| Region::map_fault(region).expect("a page of memory for a test"));
    }

    /// Parent: the next `deaths` workers or zygotes that pass `point` die there.
    pub(crate) fn arm(word: &AtomicU32, point: Point, deaths: u16) {
        word.store((point as u32) << 16 | u32::from(deaths), Ordering::SeqCst);
    }

    /// Parent: the next of its threads that comes to `point`, in any pool, first does `act`; once.
    pub fn at(point: Point, act: impl FnOnce() + Send + 'static) {
        *lock(&ACT) = Some((point, Box::new(act)));
    }

    pub(crate) fn point(point: Point) {
        let Some(word) = WORD.get() else { return act(point) };
        let taken = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |armed| {
            (armed >> 16 == point as u32 && armed & 0xffff > 0).then(|| armed - 1)
        });
        if taken.is_ok() {
            let _ = process::kill_pid(std::process::id(), process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }

    fn act(point: Point) {
        let due = lock(&ACT).take_if(|(at, _)| *at == point);
        if let Some((_, act)) = due {
            act();
        }
    }
}
