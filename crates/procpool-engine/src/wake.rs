//! Sleeping and waking of workers, without a lost wake-up.
//!
//! Idle workers are of three kinds: at most one *spins* (the one that became idle first, so the one whose caches
//! are warm; it begins when it has just finished a task), others *sleep* on their own futex word, announced by a bit;
//! and those that are just looking. The order in which both sides act is what matters, and `PROTOCOL.md` (section
//! "Sleep and wake") has the proof:
//!
//! * who **pushes**: the queue's tail, then a `SeqCst` fence, then a look at spinner and sleepers;
//! * who **goes idle**: spinner or sleeper bit first, then a `SeqCst` fence, then a look at the queue;
//! * who **stops being idle** passes the wake on if the queue still has entries: a wake-up may have been meant for
//!   another task than the one that it found;
//! * who **wakes** clears the bit *before* it bumps the word, so that a bit is never cleared after the sleeper has
//!   announced itself anew.

use crate::faults::{Point, point};
use crate::queue::Queue;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence, futex};

/// The most workers that a pool can have.
#[cfg(not(any(loom, shuttle)))]
pub(crate) const SEATS: usize = 1024;
#[cfg(any(loom, shuttle))]
pub(crate) const SEATS: usize = 64;

const WORDS: usize = SEATS / 64;

/// Who idles. Lies beside the queue's tail, whose line the pusher writes and the idle read anyway.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Idlers {
    /// Seat + 1 of the worker that spins; 0 for nobody.
    spinner: AtomicU32,
    /// How many words of `sleeping` are in use: what a pusher must look at.
    words: AtomicU32,
    /// A bit for each seat.
    sleeping: [AtomicU64; WORDS],
}

/// The word that one worker sleeps on.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Bed(AtomicU32);

#[cfg(all(test, loom))]
impl Bed {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }
}

impl Bed {
    /// What `sleep` must find unchanged; read before the worker announces itself.
    pub(crate) fn read(&self) -> u32 {
        // ORDER: Acquire, partner of `ring`: who finds it rung sees what the waker did before.
        self.0.load(Ordering::Acquire)
    }

    fn sleep(&self, read: u32) {
        futex::wait(&self.0, read, None);
    }

    /// Wakes who sleeps here, now or as soon as it tries to.
    pub(crate) fn ring(&self) {
        // ORDER: Release, partner of `read`.
        self.0.fetch_add(1, Ordering::Release);
        futex::wake(&self.0, 1);
    }
}

#[cfg(all(test, loom))]
impl Idlers {
    pub(crate) fn new(words: u32) -> Self {
        let sleeping = std::array::from_fn(|_| AtomicU64::new(0));
        Self { spinner: AtomicU32::new(0), words: AtomicU32::new(words), sleeping }
    }
}

impl Idlers {
    /// Parent: how many seats there are, and so how many words of bits to look at. Never fewer than before.
    pub(crate) fn set_seats(&self, seats: usize) {
        let words = u32::try_from(seats.div_ceil(64)).expect("at most SEATS seats");
        self.words.fetch_max(words, Ordering::SeqCst);
    }

    /// Worker that is about to look at the queue, and for as long as it looks: pushers count on it for one entry, unless
    /// they count on another. Whether they do.
    pub(crate) fn begin_spinning(&self, seat: u32) -> bool {
        // ORDER: AcqRel: the fence that counts is the one in `sleep` or in `pass_on`, one of which follows.
        let begun = self.spinner.load(Ordering::Relaxed) == 0
            && self.spinner.compare_exchange(0, seat + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if begun {
            point(Point::Spins);
        }
        begun
    }

    /// Who stops must look at the queue once more, behind a fence: a pusher may have counted on it.
    pub(crate) fn stop_spinning(&self, seat: u32) {
        let _ = self.spinner.compare_exchange(seat + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Worker: sleeps until its `bed` is rung, unless there is something to do: `must_look` is asked after the
    /// announcement. May return for no reason.
    pub(crate) fn sleep(&self, seat: u32, bed: &Bed, must_look: impl FnOnce() -> bool) {
        let read = bed.read();
        self.announce(seat);
        if !must_look() {
            point(Point::Announced);
            bed.sleep(read);
            point(Point::Roused);
        }
        self.withdraw(seat);
    }

    fn announce(&self, seat: u32) {
        let (word, bit) = place(seat);
        self.sleeping[word].fetch_or(bit, Ordering::AcqRel);
        // ORDER: SeqCst, partner of the fence in `someone_to_wake`: either the pusher sees the bit, or the look that
        // follows here sees the push.
        fence(Ordering::SeqCst);
    }

    /// Worker that took up work after it had idled: whom to wake for what is left in the queue. The wake-up that it
    /// consumed, or that was spared since it spun, may have been meant for another task than the one it found.
    pub(crate) fn pass_on(&self, queue: &Queue<'_>) -> Option<u32> {
        // ORDER: SeqCst, partner of the fence in `someone_to_wake`: a pusher that still saw this worker spin has its
        // push seen here.
        fence(Ordering::SeqCst);
        if queue.is_empty() { None } else { self.someone_to_wake(|| queue.length()) }
    }

    /// Takes the announcement back; also done for the dead.
    pub(crate) fn withdraw(&self, seat: u32) {
        let (word, bit) = place(seat);
        self.sleeping[word].fetch_and(!bit, Ordering::AcqRel);
    }

    /// After a push of `queued` entries, or when a worker takes up work: whom to wake, if anybody. Their bit is
    /// cleared; the caller must ring their [`Bed`].
    pub(crate) fn someone_to_wake(&self, queued: impl FnOnce() -> u64) -> Option<u32> {
        // ORDER: SeqCst, partner of the fences in `announce` and `pass_on`: either this sees the bit, and that nobody
        // spins, or they see the push.
        fence(Ordering::SeqCst);
        let words = (self.words.load(Ordering::Relaxed) as usize).min(WORDS);
        if self.sleeping[..words].iter().all(|word| word.load(Ordering::Relaxed) == 0) {
            return None;
        }
        // The spinner will take one entry. It is looked at only where somebody could be woken instead.
        if self.spinner.load(Ordering::Relaxed) != 0 && queued() <= 1 {
            return None;
        }
        self.take_sleeper(words)
    }

    /// Anybody who sleeps, the lowest seat first: so the same few stay warm, and the others stay asleep.
    fn take_sleeper(&self, words: usize) -> Option<u32> {
        for (index, word) in self.sleeping[..words].iter().enumerate() {
            let mut seen = word.load(Ordering::Relaxed);
            while seen != 0 {
                let bit = seen & seen.wrapping_neg();
                let before = word.fetch_and(!bit, Ordering::AcqRel);
                if before & bit != 0 {
                    point(Point::Chose);
                    return Some(index as u32 * 64 + bit.trailing_zeros());
                }
                seen = before & !bit;
            }
        }
        None
    }

    /// Supervisor: undoes what a worker may have scribbled here (*I4*). A spinner that is forgotten spins on, and is
    /// merely not counted on.
    pub(crate) fn mend(&self, seats: usize) {
        self.spinner.store(0, Ordering::Release);
        self.set_seats(seats);
    }

    /// Forgets a dead worker.
    pub(crate) fn bury(&self, seat: u32) {
        self.stop_spinning(seat);
        self.withdraw(seat);
    }
}

fn place(seat: u32) -> (usize, u64) {
    ((seat as usize / 64).min(WORDS - 1), 1 << (seat % 64))
}
