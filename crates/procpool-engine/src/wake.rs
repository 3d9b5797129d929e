//! Sleeping and waking of workers, without a lost wake-up.
//!
//! Idle workers are of three kinds: at most one *spins*, which is to say that it looks at the queue and everybody
//! counts on that; others *sleep* on their own futex word, announced by a bit; and those that are just looking. Who
//! spins is the one that became idle first, so the one whose caches are warm (it begins when it has just finished a
//! task), or one that was woken and is on its way to the queue. The order in which both sides act is what matters, and
//! `PROTOCOL.md` (section "Sleep and wake") has the proof:
//!
//! * who **pushes**: the queue's tail, then a `SeqCst` fence, then a look at spinner and sleepers;
//! * who **goes idle**: spinner or sleeper bit first, then a `SeqCst` fence, then a look at the queue;
//! * who **stops being idle** passes the wake on if the queue still has entries. So one wake-up is under way at a time,
//!   however many tasks are pushed meanwhile, and they still find as many workers as they need;
//! * who **wakes** makes the sleeper the spinner, then clears its bit, *then* bumps its word: so the sleeper that finds
//!   its bit cleared knows that it is counted on, and a bit is never cleared after the sleeper has announced itself anew.

use crate::faults::{Point, point};
use crate::queue::Queue;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence, futex};

/// The most workers that a pool can have.
#[cfg(not(any(loom, shuttle)))]
pub(crate) const SEATS: usize = 1024;
#[cfg(any(loom, shuttle))]
pub(crate) const SEATS: usize = 64;

const WORDS: usize = SEATS / 64;

/// The spinner looks only now and then: it gives way to whoever becomes idle.
const NAPS: u32 = 1 << 31;

/// Who idles. Lies beside the queue's tail, whose line the pusher writes and the idle read anyway.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Idlers {
    /// Seat + 1 of the worker that spins, perhaps with `NAPS`; 0 for nobody.
    spinner: AtomicU32,
    /// How many words of `sleeping` are in use: what a pusher must look at.
    words: AtomicU32,
    /// A bit for each seat.
    sleeping: [AtomicU64; WORDS],
    /// How many workers there should be, and how many CPUs they have.
    workers: AtomicU32,
    cpus: AtomicU32,
    /// 1 where tasks were short of late.
    short: AtomicU32,
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

#[cfg(all(test, not(any(shuttle, miri))))]
impl Idlers {
    pub(crate) fn new(words: u32) -> Self {
        let sleeping = std::array::from_fn(|_| AtomicU64::new(0));
        let [spinner, workers, cpus, short] = [0, 0, 0, 0].map(AtomicU32::new);
        Self { spinner, words: AtomicU32::new(words), sleeping, workers, cpus, short }
    }
}

impl Idlers {
    /// Parent: how many seats there are, and so how many words of bits to look at. Never fewer than before.
    fn set_seats(&self, seats: usize) {
        let words = u32::try_from(seats.div_ceil(64)).expect("at most SEATS seats");
        self.words.fetch_max(words, Ordering::SeqCst);
    }

    /// Parent: how many workers there should be, and how many CPUs they have.
    pub(crate) fn set_workers(&self, workers: usize, cpus: usize) {
        self.set_seats(workers);
        let stored = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.workers.store(stored(workers), Ordering::Relaxed);
        self.cpus.store(stored(cpus), Ordering::Relaxed);
    }

    /// How many workers are awake, the one that asks included, and those that are not there yet. A guess, that nothing
    /// rests on.
    fn awake(&self) -> u32 {
        let asleep: u32 = self.words().iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
        self.workers.load(Ordering::Relaxed).saturating_sub(asleep)
    }

    /// Whether as many workers are awake as there are CPUs, besides the one that asks.
    pub(crate) fn are_enough(&self) -> bool {
        self.awake() > self.cpus.load(Ordering::Relaxed)
    }

    /// Whether the pool leaves a CPU free, if each worker that is awake has a caller that is awake as well.
    pub(crate) fn is_a_cpu_free(&self) -> bool {
        self.awake() <= self.cpus.load(Ordering::Relaxed) / 2
    }

    /// Worker: whether tasks were short of late. As [`Idlers::are_enough`] it is but a guess.
    pub(crate) fn note_tasks(&self, are_short: bool) {
        if self.are_tasks_short() != are_short {
            self.short.store(are_short.into(), Ordering::Relaxed);
        }
    }

    pub(crate) fn are_tasks_short(&self) -> bool {
        self.short.load(Ordering::Relaxed) != 0
    }

    /// The words in use.
    fn words(&self) -> &[AtomicU64] {
        &self.sleeping[..(self.words.load(Ordering::Relaxed) as usize).min(WORDS)]
    }

    /// Worker that is about to look at the queue, and for as long as it looks: pushers count on it, unless they count on
    /// another that does not nap. Whether they do.
    pub(crate) fn begin_spinning(&self, seat: u32) -> bool {
        let seen = self.spinner.load(Ordering::Relaxed);
        // ORDER: AcqRel: the fence that counts is the one in `sleep` or in `pass_on`, one of which follows.
        let begun = (seen == 0 || seen & NAPS != 0)
            && self.spinner.compare_exchange(seen, seat + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if begun {
            point(Point::Spins);
        }
        begun
    }

    /// Who stops must look at the queue once more, behind a fence: a pusher may have counted on it.
    pub(crate) fn stop_spinning(&self, seat: u32) {
        let _ = self.spinner.compare_exchange(seat + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The spinner looks away for the time of `nap`. Whether pushers still count on it, or on another since.
    pub(crate) fn nap(&self, seat: u32, nap: impl FnOnce()) -> bool {
        let (awake, napping) = (seat + 1, (seat + 1) | NAPS);
        let swap =
            |from, to| self.spinner.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let naps = swap(awake, napping);
        nap();
        naps && swap(napping, awake)
    }

    /// Worker: sleeps until its `bed` is rung, unless there is something to do: `must_look` is asked after the
    /// announcement. May return for no reason. Whether pushers count on this worker now, which woke it.
    pub(crate) fn sleep(&self, seat: u32, bed: &Bed, must_look: impl FnOnce() -> bool) -> bool {
        let read = bed.read();
        self.announce(seat);
        if !must_look() {
            point(Point::Announced);
            bed.sleep(read);
            point(Point::Roused);
        }
        self.withdraw(seat);
        // ORDER: Acquire: `withdraw` comes after whoever cleared the bit, and so sees whom it made the spinner before.
        self.spinner.load(Ordering::Acquire) == seat + 1
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
        if queue.is_empty() { None } else { self.someone_to_wake() }
    }

    /// Takes the announcement back, by whoever wakes or is woken, and for the dead. Whether there was one.
    fn withdraw(&self, seat: u32) -> bool {
        let (word, bit) = place(seat);
        self.sleeping[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// After a push, or when a worker takes up work: whom to wake, if anybody. It is the spinner now, and its bit is
    /// cleared; the caller must ring its [`Bed`].
    pub(crate) fn someone_to_wake(&self) -> Option<u32> {
        loop {
            // ORDER: SeqCst, partner of the fences in `announce` and `pass_on`: either this sees the bit, and that nobody
            // spins, or they see the push.
            fence(Ordering::SeqCst);
            if self.spinner.load(Ordering::Relaxed) != 0 {
                return None;
            }
            let seat = self.lowest_sleeper()?;
            if self.appoint(seat) {
                return Some(seat);
            }
        }
    }

    /// So the same few stay warm, and the others stay asleep.
    fn lowest_sleeper(&self) -> Option<u32> {
        let mut words = self.words().iter().map(|word| word.load(Ordering::Relaxed)).zip(0_u32..);
        words.find_map(|(word, index)| (word != 0).then(|| index * 64 + word.trailing_zeros()))
    }

    /// Makes a sleeper the spinner; false when it is none any more, or somebody else spins: then look again.
    fn appoint(&self, seat: u32) -> bool {
        if self.spinner.compare_exchange(0, seat + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        point(Point::Appointed);
        let is_taken = self.withdraw(seat);
        if is_taken {
            point(Point::Chose);
        } else {
            // Others may have counted on it meanwhile: whoever takes that back looks for another.
            self.stop_spinning(seat);
        }
        is_taken
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
