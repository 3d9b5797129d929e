//! The worker's side: claim, run, finish; sleep when there is nothing; leave when told.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::arena::Owner;
use crate::block::{Allocator, Block, Lease};
use crate::faults::{Point, point, watch};
use crate::launch::Attachment;
use crate::layout::{Seat, Slot};
use crate::os::poll::{self, PollFd, PollFlags};
use crate::os::{clock, process, signal};
use crate::payload::{self, KEPT, NO_ROOM, Parts, Place, RAISED, RETURNED, TIMED};
use crate::queue::{Cursor, Queue};
use crate::region::{Phase, Region};
use crate::reserve::{Reserve, Stretch};
use crate::sandbox::Confinement;
use crate::seat::Status;
use crate::slot::Ticket;
use crate::spin::Spin;
use crate::sync::{Ordering, fence, thread};
use crate::wakeup::Wakeups;

/// How often a worker whose descriptor of the parent was closed asks whether its zygote lives.
const SECOND_LOOK: Duration = Duration::from_millis(250);

/// How often, and after what time, a worker looks again for room for a reply before it says that there is none.
const LOOKS_FOR_ROOM: u32 = 100;
const LOOK_FOR_ROOM_AGAIN: Duration = Duration::from_millis(1);

/// A reply of so many bytes is freed in no time.
const LIGHT: u64 = 64 << 10;

/// A worker process's hold on its pool.
pub struct Worker {
    region: Arc<Region>,
    seat: u32,
    poke: OwnedFd,
    cursor: Cursor,
    allocator: Allocator,
    rules: Rules,
    spin: Spin,
    /// Pushers count on this worker to look at the queue.
    spinning: bool,
    wakeups: Wakeups,
    stretch: Stretch,
    /// It was woken, and leaves the queue to others for now.
    reserve: Option<Reserve>,
    finished: u64,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("seat", &self.seat).finish_non_exhaustive()
    }
}

/// What a worker keeps to, read once.
#[derive(Clone, Copy, Debug)]
struct Rules {
    tasks: u64,
    memory: u64,
}

/// A task that this worker has claimed. It is finished by [`Call::reply`]; a worker that lets go of it otherwise
/// dies, since nobody else could end the task.
#[derive(Debug)]
pub struct Call<'w> {
    worker: &'w mut Worker,
    slot: u32,
    ticket: Ticket,
    place: Place,
    lease: Option<Arc<Lease>>,
}

/// What the host's function came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A value.
    Returned,
    /// The host's account of an error.
    Raised,
}

impl Worker {
    /// Enters the sandbox, maps the region, and from now on ends this process when the parent dies.
    ///
    /// # Errors
    /// Where the sandbox cannot be entered, which the parent is told as well; where the memory cannot be mapped or is
    /// not a region of this version; where no thread can be had.
    pub fn attach(attachment: Attachment) -> io::Result<Self> {
        let Attachment { seat, region, parent, poke, sandbox } = attachment;
        // First of all: before there is another thread, and before anything is read that other workers can write.
        let confined = sandbox.map_or(Ok(()), Confinement::enter);
        watch(region.as_fd());
        let region = Arc::new(Region::attach(region.as_fd())?);
        if region.seat(seat).is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no seat {seat}")));
        }
        if let Err(error) = confined {
            let words = region.seat(seat).expect("looked at above");
            words.write_note(&error.to_string());
            point(Point::Refused);
            words.set_status(Status::NotConfined);
            point(Point::NotConfined);
            return Err(io::Error::new(error.kind(), format!("it cannot enter its sandbox: {error}")));
        }
        #[cfg(not(shuttle))]
        watch_parent(parent)?;
        point(Point::Mapped);
        let words = &region.header().rules;
        let rules = Rules {
            tasks: words.tasks.load(Ordering::Relaxed),
            memory: words.memory.load(Ordering::Relaxed),
        };
        let spin = Spin::new(words.spin.load(Ordering::Relaxed) != 0);
        let allocator = Allocator::worker(&region, seat);
        let worker = Self {
            region,
            seat,
            poke,
            cursor: Cursor::default(),
            allocator,
            rules,
            spin,
            spinning: false,
            wakeups: Wakeups::default(),
            stretch: Stretch::default(),
            reserve: None,
            finished: 0,
        };
        worker.words().set_status(Status::Starting);
        point(Point::Attached);
        Ok(worker)
    }

    /// The host's set-up data, to be kept for as long as its buffers are used.
    pub fn setup(&self) -> Arc<Lease> {
        setup(&self.region, self.allocator.owner())
    }

    /// Says that the host's set-up is done.
    pub fn ready(&self) {
        self.words().set_status(Status::Ready);
        point(Point::Ready);
    }

    /// Says that the host's set-up failed, and why; the pool gives up. The worker is to leave.
    pub fn setup_failed(&self, message: &str) {
        self.last_words(message);
        point(Point::Excused);
        self.words().set_status(Status::SetupFailed);
        point(Point::SetupFailed);
    }

    /// Leaves behind what is told with this worker's death, should it die now.
    pub fn last_words(&self, text: &str) {
        self.words().write_note(text);
    }

    /// A handle for [`Worker::last_words`] that may be used from anywhere in the process, as from a panic's hook.
    pub fn notebook(&self) -> Notebook {
        Notebook { region: self.region.clone(), seat: self.seat }
    }

    /// The next task; waits for one. `None` when the worker is to leave.
    #[allow(clippy::should_implement_trait, reason = "the call borrows the worker: an iterator cannot lend")]
    pub fn next(&mut self) -> Option<Call<'_>> {
        self.next_unless(|| false)
    }

    /// As [`Worker::next`], for hosts that must look after signals: `leave` is asked before each sleep, which a signal
    /// ends, and where it says yes there is no task.
    pub fn next_unless(&mut self, leave: impl FnMut() -> bool) -> Option<Call<'_>> {
        let (slot, ticket) = self.claim_or_sleep(leave)?;
        point(Point::Helped);
        let words = self.region.slot(slot)?;
        let timed = words.kind.load(Ordering::Relaxed) & TIMED != 0;
        self.words().start_clock(timed);
        point(Point::Began);
        if timed {
            poll::signal(self.poke.as_fd());
        }
        // A payload that cannot be is another worker's scribble; as an empty one the host will report it.
        let place = payload::read(&self.region, words).unwrap_or(Place::Inline { head: 0 });
        let lease = match place {
            Place::Inline { .. } => None,
            Place::Block { block, head, .. } => {
                Some(Arc::new(Lease::borrowed(self.region.clone(), block, self.allocator.owner(), head)))
            }
        };
        Some(Call { slot, ticket, place, lease, worker: self })
    }

    fn claim_or_sleep(&mut self, mut leave: impl FnMut() -> bool) -> Option<(u32, Ticket)> {
        if self.is_dismissed() || self.is_exhausted() {
            return None;
        }
        let mut has_idled = self.spinning;
        loop {
            if !self.is_spared()
                && let Some(claimed) = self.claim()
            {
                if has_idled {
                    self.stop_spinning();
                    point(Point::TakesUp);
                    self.pass_on();
                    self.stretch.end();
                } else if let Some(are_short) = self.stretch.go_on() {
                    self.region.idlers().note_tasks(are_short);
                }
                return Some(claimed);
            }
            if has_idled && self.region.phase() == Phase::Closed && self.queue().is_empty() {
                return None;
            }
            let leaves = self.idle(&mut leave);
            has_idled = true;
            if leaves || self.is_dismissed() {
                return None;
            }
        }
    }

    fn claim(&mut self) -> Option<(u32, Ticket)> {
        let Self { region, seat, cursor, .. } = self;
        let words = region.seat(*seat)?;
        let word = |slot| region.slot(slot).map(|slot: &Slot| &slot.word);
        let intend = |entry| {
            words.intend(entry);
            point(Point::Intends);
        };
        let (slot, seen) = region.queue().claim(cursor, *seat, word, intend)?;
        Some((slot, seen.ticket()))
    }

    /// Comes back when there may be work. Whether the host wants to leave.
    fn idle(&mut self, leave: &mut impl FnMut() -> bool) -> bool {
        if self.reserve.is_some() {
            return self.hold_back(leave);
        }
        if !self.look() {
            self.look_away();
            // Not before: a signal that came while this looked has interrupted no sleep.
            if leave() {
                return true;
            }
            self.sleep();
        }
        point(Point::Woken);
        false
    }

    /// Looks for work for a while, unless another worker does. Whether there is some.
    fn look(&mut self) -> bool {
        self.begin_spinning();
        let queue = self.queue();
        let found = || !queue.is_empty();
        let looks = || self.spin.look(|| self.region.wakeup().worth(), found, || true);
        self.spinning && if self.wakeups.is_beside_waker() { found() } else { looks() }
    }

    /// Nobody is to count on this worker: the host may take its time.
    fn look_away(&mut self) {
        if self.spinning {
            self.stop_spinning();
            point(Point::LooksAway);
            self.pass_on();
        }
    }

    fn sleep(&mut self) {
        let began = clock::now();
        let queue = self.queue();
        let must_look = || !queue.is_empty() || self.is_dismissed() || self.region.phase() != Phase::Running;
        let idlers = self.region.idlers();
        let is_counted_on = idlers.sleep(self.seat, &self.words().bed, must_look);
        if is_counted_on
            && !self.spin.is_off()
            && let Some(words) = self.region.seat(self.seat)
        {
            self.wakeups.note(began, &words.rung, self.region.wakeup(), idlers);
        }
        self.reserve = if is_counted_on { Reserve::of(idlers, &self.queue()) } else { None };
        self.spinning = is_counted_on;
    }

    /// Whether it leaves the queue to others still.
    fn is_spared(&mut self) -> bool {
        let Self { region, reserve, .. } = self;
        let spared = reserve.as_mut().is_some_and(|it| it.is_spared(region.idlers(), &region.queue()));
        if !spared {
            *reserve = None;
        }
        spared
    }

    /// Lets others take the tasks for a while. Whether the host wants to leave.
    fn hold_back(&mut self, leave: &mut impl FnMut() -> bool) -> bool {
        let mut leaves = false;
        let nap = || {
            self.reserve.iter_mut().for_each(Reserve::nap);
            leaves = leave();
        };
        self.spinning = self.region.idlers().nap(self.seat, nap);
        leaves
    }

    fn begin_spinning(&mut self) {
        self.spinning = self.spinning || self.region.idlers().begin_spinning(self.seat);
    }

    fn stop_spinning(&mut self) {
        if std::mem::take(&mut self.spinning) {
            self.region.idlers().stop_spinning(self.seat);
        }
    }

    /// A worker that takes up work lets another look too, if there is more.
    fn pass_on(&self) {
        if let Some(seat) = self.region.idlers().pass_on(&self.queue())
            && let Some(words) = self.region.seat(seat)
        {
            words.wake();
        }
    }

    fn is_dismissed(&self) -> bool {
        self.words().dismissed.load(Ordering::Acquire) != 0 || self.region.phase() == Phase::Stopped
    }

    fn is_exhausted(&self) -> bool {
        let tasks = self.rules.tasks != 0 && self.finished >= self.rules.tasks;
        let memory = self.rules.memory != 0
            && self.finished > 0
            && process::own_resident_bytes().is_some_and(|bytes| bytes > self.rules.memory);
        if tasks || memory {
            point(Point::Retires);
        }
        tasks || memory
    }

    /// Leaves in good order. The host ends the process after that, with status 0.
    pub fn leave(mut self) {
        self.look_away();
        if self.words().status() != Status::SetupFailed {
            self.words().set_status(Status::Leaving);
            point(Point::Leaves);
        }
    }

    fn queue(&self) -> Queue<'_> {
        self.region.queue()
    }

    fn words(&self) -> &Seat {
        self.region.seat(self.seat).expect("attach checked the seat")
    }
}

/// What [`Worker::setup`] gives; nothing where somebody wrote over the words that say where it lies.
pub(crate) fn setup(region: &Arc<Region>, reader: Owner) -> Arc<Lease> {
    let rules = &region.header().rules;
    let offset = rules.setup.load(Ordering::Relaxed);
    let block = Block::checked(region, offset, rules.setup_length.load(Ordering::Relaxed));
    let block = block.unwrap_or(Block { offset: region.layout().small, length: 0 });
    // The parent wrote the block before there were workers, and keeps it as it is.
    Arc::new(Lease::borrowed(region.clone(), block, reader, rules.setup_head.load(Ordering::Relaxed)))
}

impl Call<'_> {
    /// The task's number.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The head of what the caller sent.
    pub fn head(&self) -> &[u8] {
        match (&self.lease, self.place, self.worker.region.slot(self.slot)) {
            (Some(lease), ..) => lease.head(),
            // SAFETY: this worker has claimed the slot and writes there only in `reply`, which consumes the call.
            (None, Place::Inline { head }, Some(slot)) => unsafe { slot.inline_bytes(head) },
            _ => &[],
        }
    }

    /// The memory of the caller's buffers, to be held for as long as they are used; `None` where there are none.
    pub fn lease(&self) -> Option<&Arc<Lease>> {
        self.lease.as_ref()
    }

    /// Ends the task. Does not return if the task was doomed meanwhile: then this process is about to be killed.
    pub fn reply(self, reply: Reply, parts: &Parts<'_>) {
        let Self { worker, slot, ticket, lease, .. } = self;
        if worker.region.is_inherited() {
            // The task forked, and this is its child, which came back like its parent: the reply is the parent's.
            process::exit_now(0);
        }
        point(Point::Replies);
        // Somebody may still hold the argument's buffers, a static for instance. The parent frees what is its own.
        let kept = lease.filter(|lease| Arc::strong_count(lease) > 1);
        // ORDER: Acquire, partner of the Release by which other threads let go of it: they have done reading there.
        fence(Ordering::Acquire);
        if let Some(lease) = &kept {
            lease.keep();
            point(Point::Kept);
        }
        let fits = worker.write_reply(slot, reply, parts, kept.is_some());
        point(Point::Written);
        let is_light = parts.fits_into_slot() || parts.head_length() + parts.buffers_length() <= LIGHT;
        worker.finish(slot, ticket, reply == Reply::Raised || !fits, is_light);
        // Not before: until the task has ended, another attempt may need it.
        drop(kept);
    }
}

impl Worker {
    /// False where there is no room for the reply; then the slot says so.
    fn write_reply(&mut self, slot: u32, reply: Reply, parts: &Parts<'_>, kept: bool) -> bool {
        let room = self.find_room(parts);
        let Some(words) = self.region.slot(slot) else { return false };
        let kept = if kept { KEPT } else { 0 };
        let kind = match reply {
            Reply::Returned => RETURNED,
            Reply::Raised => RAISED,
        };
        match room {
            Ok(place) => {
                point(Point::Allocated);
                payload::fill(&self.region, &place, parts);
                payload::write(words, kind | kept, &place, parts.head);
                true
            }
            Err(payload::NoRoom(bytes)) => {
                payload::write(words, NO_ROOM | kept, &Place::Inline { head: 0 }, &[]);
                words.buffers.store(bytes, Ordering::Relaxed);
                false
            }
        }
    }

    /// Looks more than once: for moments free memory is somebody's who gives it back, to the system or for want of more.
    fn find_room(&mut self, parts: &Parts<'_>) -> Result<Place, payload::NoRoom> {
        for _ in 0..LOOKS_FOR_ROOM {
            if let Ok(place) = payload::prepare(&self.region, &mut self.allocator, parts) {
                return Ok(place);
            }
            thread::sleep(LOOK_FOR_ROOM_AGAIN);
        }
        payload::prepare(&self.region, &mut self.allocator, parts)
    }

    /// `is_light`: whether what was replied is freed in no time.
    fn finish(&mut self, slot: u32, ticket: Ticket, failed: bool, is_light: bool) {
        let Some(words) = self.region.slot(slot) else { return };
        if !words.word.finish(ticket, self.seat) {
            self.wait_for_death();
        }
        point(Point::Done);
        // Everybody counts on the spinner: it must not be busy with anything else.
        self.spinning |= is_light
            && self.queue().seems_empty(&self.cursor)
            && self.region.idlers().begin_spinning(self.seat);
        if words.event.end() {
            self.region.ended().tell(slot);
        }
        point(Point::Told);
        self.words().finish(failed);
        point(Point::Counted);
        self.finished += 1;
    }

    /// The task was doomed: the supervisor kills this process, and until then it touches nothing (*I3*). Where the
    /// slot merely says so, since somebody wrote over it, nobody comes: then this process ends itself.
    fn wait_for_death(&self) -> ! {
        thread::sleep(Duration::from_secs(1));
        process::exit_now(1);
    }
}

/// The right to write a worker's last words.
#[derive(Clone)]
pub struct Notebook {
    region: Arc<Region>,
    seat: u32,
}

impl std::fmt::Debug for Notebook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notebook").field("seat", &self.seat).finish_non_exhaustive()
    }
}

impl Notebook {
    /// Leaves behind what is told with the worker's death, should it die now; replaces what was written before.
    pub fn write(&self, text: &str) {
        if let Some(seat) = self.region.seat(self.seat) {
            seat.write_note(text);
        }
    }
}

/// Ends this process as soon as the parent is dead, whatever else it does then.
///
/// A thread, since only that notices while a task runs; not `PR_SET_PDEATHSIG`, which would follow the thread of the
/// parent that happened to start the zygote.
fn watch_parent(parent: OwnedFd) -> io::Result<()> {
    let identity = process::descriptor_identity(parent.as_fd());
    let starter = process::parent_pid();
    let watch = move || {
        let mut descriptors = [PollFd::new(&parent, PollFlags::IN)];
        while !poll::poll(&mut descriptors, None).is_ok_and(|ready| ready > 0) {}
        // A task may have closed descriptors that are not its own, and a signal made this look again at what is none
        // or another file now. Then the end of the zygote, which ends with the parent, has to do.
        while process::descriptor_identity(parent.as_fd()) != identity && process::parent_pid() == starter {
            thread::sleep(SECOND_LOOK);
        }
        process::exit_now(1);
    };
    let thread = thread::Builder::new().name("procpool-parent".to_owned()).stack_size(64 << 10);
    signal::without_signals(|| thread.spawn(watch)).map(drop)
}
