//! What a worker says of itself in its seat: status, present task, last words; and how it is woken there.

use crate::faults::{Point, point};
use crate::layout::{NOTE, Seat};
use crate::os::clock;
use crate::queue::Entry;
use crate::sync::Ordering;

/// What a worker has to say of itself. The parent believes it only where it does no harm (*I4*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    /// Nobody sits here, or the process has not attached.
    Absent = 0,
    /// Attached; setting up.
    Starting = 1,
    /// Takes tasks.
    Ready = 2,
    /// The host's set-up failed; the note says why.
    SetupFailed = 3,
    /// Leaves in good order: quota used up, dismissed, or pool closed.
    Leaving = 4,
    /// It could not enter its sandbox; the note says why.
    NotConfined = 5,
}

const NOTHING: u64 = u64::MAX;

impl Seat {
    /// Parent: for a new process.
    pub(crate) fn vacate(&self) {
        self.status.store(Status::Absent as u32, Ordering::Relaxed);
        self.dismissed.store(0, Ordering::Relaxed);
        self.note_length.store(0, Ordering::Relaxed);
        self.current.store(NOTHING, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
        self.raised.store(0, Ordering::Relaxed);
        self.finished.store(0, Ordering::Release);
    }

    pub(crate) fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            1 => Status::Starting,
            2 => Status::Ready,
            3 => Status::SetupFailed,
            4 => Status::Leaving,
            5 => Status::NotConfined,
            _ => Status::Absent,
        }
    }

    pub(crate) fn set_status(&self, status: Status) {
        self.status.store(status as u32, Ordering::Release);
    }

    /// Worker: which entry it is about to claim. Before the claim, so that a slot which is claimed by a worker
    /// whose seat names another task is known to be rubbish.
    pub(crate) fn intend(&self, entry: Entry) {
        self.current.store(u64::from(entry.slot) << 32 | u64::from(entry.tag), Ordering::Release);
    }

    /// Worker: the task is over.
    pub(crate) fn finish(&self, raised: bool) {
        self.current.store(NOTHING, Ordering::Release);
        point(Point::Cleared);
        // ORDER: before the next `intend`: who sees the next task never sees this one's beginning.
        self.since.store(0, Ordering::Relaxed);
        // Only this worker writes the counts, so no read-modify-write is needed; and whoever wrote over them has spoilt
        // some numbers, not this worker.
        if raised {
            self.raised.store(self.raised.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        self.finished.store(self.finished.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Whoever appointed this worker, which sleeps: wakes it.
    pub(crate) fn wake(&self) {
        self.rung.note();
        self.bed.ring();
    }

    /// What the worker runs or is about to claim.
    pub(crate) fn current(&self) -> Option<Entry> {
        let current = self.current.load(Ordering::Acquire);
        (current != NOTHING).then_some(Entry { slot: (current >> 32) as u32, tag: current as u32 })
    }

    /// Whether the worker waits for tasks, or leaves.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.status(), Status::Ready | Status::Leaving) && self.current().is_none()
    }

    /// Worker: the present task began now. Exactly where somebody counts the time, else by the cheap clock.
    pub(crate) fn start_clock(&self, exact: bool) {
        let now = if exact { clock::now() } else { clock::now_coarse() };
        self.since.store(now, Ordering::Release);
    }

    /// Parent: when the task began that `current` named before, in nanoseconds; `None` where it has only just begun.
    pub(crate) fn began(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Acquire)).filter(|&since| since != 0)
    }

    /// Worker: leaves `text` behind; cut to what there is room for.
    pub(crate) fn write_note(&self, text: &str) {
        let end = text.floor_char_boundary(NOTE);
        for (cell, byte) in self.note.iter().zip(text[..end].bytes()) {
            cell.store(byte, Ordering::Relaxed);
        }
        self.note_length.store(end as u32, Ordering::Release);
    }

    /// Parent: what the worker left behind, made printable.
    pub(crate) fn read_note(&self) -> Option<String> {
        let length = (self.note_length.load(Ordering::Acquire) as usize).min(NOTE);
        let bytes: Vec<u8> = self.note[..length].iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        (length > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}
