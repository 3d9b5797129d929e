//! The one thread that starts, watches and kills workers, and keeps deadlines.
//!
//! It sleeps in one `poll`, on the eventfd that callers and workers poke, on the launcher, on a pidfd for each
//! worker, until the next deadline; an idle pool has none, and costs nothing. What to do is decided in `policy`.

mod births;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::crew::{Berth, Member};
use crate::faults::{Point, point};
use crate::launch::{ExitStatus, Launcher};
use crate::layout::Seat;
use crate::os::cpu;
use crate::os::poll::{self, PollFd, PollFlags};
use crate::outcome::{Breakdown, Death, Failure};
use crate::policy::Obituaries;
use crate::region::Phase;
use crate::seat::Status;
use crate::shared::{Counters, Requests, Shared};
use crate::submit::Door;
use crate::sync::{Instant, Ordering, fence, lock, thread};
use crate::view::View;

/// While tasks are not finished, the region is looked over this often.
const WATCH: Duration = Duration::from_secs(1);

/// After a poll that failed, so that a lasting fault does not take a whole core.
const PAUSE: Duration = Duration::from_millis(20);

/// How much of the arena stays in memory while the pool is idle, in extents of each zone.
const SPARED_EXTENTS: usize = 128;

/// How much of the rest is nobody's to take while it is given back, in bytes.
const TRIMMED_AT_ONCE: u64 = 64 << 20;

/// Where tasks are finished all the time, only every so many looks go over all of them.
const LOOKS_PER_AUDIT: u32 = 8;

/// How long workers may take to leave a pool that was closed, after the last task.
const FAREWELL: Duration = Duration::from_secs(10);

pub(crate) struct Supervisor {
    pub(crate) shared: Arc<Shared>,
    launcher: Box<dyn Launcher>,
    crew: Vec<Berth>,
    /// How many workers there should be.
    target: usize,
    obituaries: Obituaries,
    /// No launch before this: back-off.
    not_before: Option<Instant>,
    pub(crate) next_watch: Option<Instant>,
    /// What [`Shared::finished`] was at the last watch.
    finished_before: u64,
    looks: u32,
    /// When the memory of running workers is measured next.
    pub(crate) next_measure: Option<Instant>,
    /// How often launches failed since the last worker that started.
    failed_launches: usize,
}

impl Supervisor {
    /// Asks for the first workers, in the caller's thread.
    pub(crate) fn new(shared: Arc<Shared>, launcher: Box<dyn Launcher>) -> Self {
        let target = shared.config.workers;
        let mut supervisor = Self {
            shared,
            launcher,
            crew: Vec::new(),
            target,
            obituaries: Obituaries::default(),
            not_before: None,
            next_watch: None,
            finished_before: 0,
            looks: 0,
            next_measure: None,
            failed_launches: 0,
        };
        supervisor.staff();
        // Some launchers know the processes by now: then they are known before anybody can see them at work.
        supervisor.hear_launcher();
        supervisor
    }

    /// Runs until the pool has ended and the last worker is dead.
    pub(crate) fn run(mut self) {
        loop {
            self.sleep();
            poll::drain(self.shared.poke.as_fd());
            let requests = std::mem::take(&mut *lock(&self.shared.requests));
            self.obey(requests);
            self.hear_launcher();
            self.look_for_dead();
            self.enforce_limits();
            self.shared.resume_waiting(Instant::now());
            self.watch();
            self.shared.collector.stand_in(&self.shared);
            self.see_off();
            self.staff();
            if self.is_over() {
                return self.end();
            }
        }
    }

    // ---- sleeping ----

    fn sleep(&mut self) {
        let timeout = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let mut watched = vec![PollFd::new(&self.shared.poke, PollFlags::IN)];
        if let Some(launcher) = self.launcher.descriptor() {
            watched.push(PollFd::from_borrowed_fd(launcher, PollFlags::IN));
        }
        let members = self.crew.iter().filter_map(|berth| match berth {
            Berth::Taken(member) => member.watched(),
            _ => None,
        });
        watched.extend(members.map(|pidfd| PollFd::from_borrowed_fd(pidfd, PollFlags::IN)));
        self.record(|view| {
            (view.is_asleep, view.until) = (true, timeout.and_then(|span| Instant::now().checked_add(span)))
        });
        if poll::poll(&mut watched, timeout).is_err() {
            // Out of memory in the kernel, or more workers than descriptors: look at everything, a little later.
            thread::sleep(PAUSE);
        }
        drop(watched);
        self.record(|view| view.is_asleep = false);
    }

    /// Writes down what it does now, for who wants to know why nothing happens.
    fn record(&self, change: impl FnOnce(&mut View)) {
        let awaited = self.crew.iter().enumerate().filter(|(_, berth)| matches!(berth, Berth::Awaited));
        let mut view = lock(&self.shared.view);
        view.since = Instant::now();
        view.target = self.target;
        view.awaited = awaited.map(|(seat, _)| seat).collect();
        view.launches_from = self.not_before;
        view.deaths = self.obituaries.count();
        change(&mut view);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let awaited = self.crew.iter().any(|berth| matches!(berth, Berth::Awaited));
        let answer = awaited.then(|| now + WATCH);
        let members = self.members().filter_map(|(_, member)| member.next_look(now));
        let launch = self.not_before.filter(|_| self.vacancies() > 0);
        let stranded = self.shared.collector.is_stranded().then(|| now + PAUSE);
        let tasks = [self.next_time_limit(), self.next_of_tasks()];
        let fixed = [self.next_watch, self.next_measure, launch, answer, stranded];
        fixed.into_iter().chain(tasks).flatten().chain(members).min()
    }

    // ---- what others want ----

    pub(crate) fn obey(&mut self, requests: Requests) {
        if let Some(target) = requests.target {
            self.resize(target);
        }
        for (slot, ticket) in requests.kills {
            let Some(seat) = self.shared.doomed_seat(slot, ticket) else { continue };
            match self.crew.get_mut(seat as usize) {
                Some(Berth::Taken(member)) => {
                    member.kill();
                    point(Point::Killed);
                }
                // It has a task before its start was told: once it is told, the request is looked at again.
                Some(Berth::Awaited) => lock(&self.shared.requests).kills.push((slot, ticket)),
                Some(Berth::Empty) | None => {}
            }
        }
        for seat in requests.suspects {
            if let Some(Berth::Taken(member)) = self.crew.get_mut(seat as usize) {
                member.kill();
            }
        }
        if self.shared.phase() == Phase::Stopped {
            self.dismiss_all();
        }
    }

    /// The pool was stopped: no task can be claimed any more.
    fn dismiss_all(&mut self) {
        self.launcher.call_off();
        let grace = *lock(&self.shared.grace);
        for (seat, berth) in self.crew.iter_mut().enumerate() {
            let Berth::Taken(member) = berth else { continue };
            let idle = self.shared.region.seat(seat as u32).is_some_and(Seat::is_idle);
            if idle {
                member.let_leave(grace);
                point(Point::LetsLeave);
            } else {
                member.ask_to_end(grace);
                point(Point::AskedToEnd);
            }
        }
    }

    fn resize(&mut self, target: usize) {
        self.target = target;
        self.shared.seats.fetch_max(target as u32, Ordering::SeqCst);
        self.shared.region.idlers().set_workers(target, cpu::usable());
        for seat in target..self.crew.len() {
            if let Some(seat) = self.shared.region.seat(seat as u32) {
                seat.dismissed.store(1, Ordering::SeqCst);
                point(Point::Dismissed);
                seat.bed.ring();
            }
        }
    }

    // ---- deaths ----

    fn look_for_dead(&mut self) {
        let now = Instant::now();
        for seat in 0..self.crew.len() {
            let Berth::Taken(member) = &mut self.crew[seat] else { continue };
            // The launcher knows how it ended and usually says so at once; it may be dead itself.
            if let Some(status) = member.ended_unreported(now) {
                self.died(seat, status);
            }
        }
    }

    fn died(&mut self, seat: usize, status: ExitStatus) {
        let Berth::Taken(member) = std::mem::replace(&mut self.crew[seat], Berth::Empty) else { return };
        let Some(words) = self.shared.region.seat(seat as u32) else { return };
        lock(&self.shared.pids).remove(&(seat as u32));
        let death = Death { pid: member.pid, status, ticket: None, note: words.read_note() };
        let said = words.status();
        let lost = self.shared.settle_death(seat as u32, &death);
        point(Point::Settled);
        Counters::add(&self.shared.counters.finished_by_dead, words.finished.load(Ordering::Relaxed));
        Counters::add(&self.shared.counters.raised_by_dead, words.raised.load(Ordering::Relaxed));
        words.vacate();
        let orderly = member.expected || (said == Status::Leaving && status == ExitStatus::Exited(0));
        if matches!(said, Status::SetupFailed | Status::NotConfined) {
            let message = death.note.unwrap_or_else(|| "it did not say why".to_owned());
            self.break_down(match said {
                Status::NotConfined => Breakdown::Sandbox { message },
                _ => Breakdown::Setup { message },
            });
        } else if !orderly {
            self.shared.audit(|seat| is_taken(&self.crew, seat));
            if lost == 0 {
                self.died_idle(death);
            }
        }
    }

    /// A death that ended no task: counted, so that workers are not started for ever.
    fn died_idle(&mut self, last: Death) {
        let limit = self.shared.config.restart;
        if self.obituaries.note(Instant::now(), self.finished(), limit) {
            let deaths = self.obituaries.count();
            self.break_down(Breakdown::Restarts { deaths, within: limit.within, last });
        } else {
            self.not_before = Instant::now().checked_add(self.obituaries.back_off());
        }
    }

    /// Gives up: says why, to every task that has not ended and to all who come later.
    fn break_down(&mut self, why: Breakdown) {
        let why = Arc::new(why);
        if !self.shared.stop(Door::Broken(why.clone()), &Failure::Broken(why.clone())) {
            return;
        }
        lock(&self.shared.life).broken = Some(why);
        let grace = *lock(&self.shared.grace);
        self.members_mut().for_each(|member| member.ask_to_end(grace));
    }

    // ---- watching ----

    /// Once a second while tasks are not finished: repeats hints that may have been lost, and mends what cannot be.
    fn watch(&mut self) {
        let now = Instant::now();
        if !self.shared.watched.load(Ordering::Acquire) {
            return;
        }
        match self.next_watch {
            None => self.next_watch = Some(now + WATCH),
            Some(at) if at <= now => self.look_over(now),
            Some(_) => {}
        }
    }

    fn look_over(&mut self, now: Instant) {
        self.next_watch = Some(now + WATCH);
        let finished = self.finished();
        let progress = std::mem::replace(&mut self.finished_before, finished) != finished;
        {
            let mut books = lock(&self.shared.books);
            self.shared.reclaim(&mut books, usize::MAX);
            lock(&self.shared.view).note_accepted(books.accepted());
        }
        // Also in a pool that is never idle, where other tasks make progress.
        self.looks = self.looks.wrapping_add(1);
        if progress && !self.looks.is_multiple_of(LOOKS_PER_AUDIT) {
            return;
        }
        if self.shared.audit(|seat| is_taken(&self.crew, seat)) == 0 {
            self.stop_watching();
        }
    }

    fn stop_watching(&mut self) {
        self.shared.watched.store(false, Ordering::SeqCst);
        // ORDER: partner of the fence in `wake_for_push`: either a task that was pushed meanwhile is seen here, or
        // whoever pushed it sees that nobody watches.
        fence(Ordering::SeqCst);
        let is_awaited = self.unfinished() > 0 || !lock(&self.shared.books).abandoned.is_empty();
        if is_awaited || self.shared.collector.has_listeners() {
            self.shared.watched.store(true, Ordering::SeqCst);
            return;
        }
        self.next_watch = None;
        self.next_measure = None;
        self.trim(SPARED_EXTENTS);
    }

    /// Gives the memory of free extents back to the system, but for so many of each zone.
    fn trim(&self, spared: usize) {
        let region = &self.shared.region;
        let layout = region.layout();
        for (zone, start, extent) in [
            (region.small(), layout.small, crate::layout::SMALL_EXTENT),
            (region.large(), layout.large, crate::layout::LARGE_EXTENT),
        ] {
            zone.trim(spared, (TRIMMED_AT_ONCE / extent) as usize, |run| {
                region.discard(start + run.first as u64 * extent, run.count as u64 * extent);
            });
        }
    }

    // ---- the end ----

    /// In a closed pool, when all is done: a worker that does not leave by itself is out of its mind, and is killed.
    fn see_off(&mut self) {
        let stays = |member: &Member| member.kill_at.is_none();
        // While there are entries there may be tasks. Once nobody watches there are none, and old entries may stay.
        let may_have_tasks =
            !self.shared.region.queue().is_empty() && self.shared.watched.load(Ordering::Acquire);
        if self.shared.phase() != Phase::Closed
            || may_have_tasks
            || !self.members().any(|(_, member)| stays(member))
        {
            return;
        }
        if self.unfinished() == 0 {
            let at = Instant::now().checked_add(FAREWELL);
            self.members_mut().filter(|member| stays(member)).for_each(|member| member.kill_at = at);
        }
    }

    fn is_over(&self) -> bool {
        let phase = self.shared.phase();
        let empty = self.crew.iter().all(|berth| matches!(berth, Berth::Empty));
        empty && (phase == Phase::Stopped || (phase == Phase::Closed && self.unfinished() == 0))
    }

    fn end(mut self) {
        self.launcher.shut_down();
        point(Point::Deserted);
        let broken = lock(&self.shared.life).broken.clone();
        let failure = broken.map_or(Failure::Terminated, Failure::Broken);
        self.shared.end_rest(&failure);
        lock(&self.shared.life).settled = true;
        self.shared.life_changed.notify_all();
        point(Point::Over);
        self.shared.collector.finish(&self.shared);
        // What outcomes and their buffers still hold stays until they are dropped.
        self.trim(0);
        lock(&self.shared.life).ended = true;
        self.shared.life_changed.notify_all();
        self.shared.collector.call_rest(&self.shared);
    }

    // ---- the crew ----

    pub(crate) fn members(&self) -> impl Iterator<Item = (u32, &Member)> {
        self.crew.iter().zip(0..).filter_map(|(berth, seat)| match berth {
            Berth::Taken(member) => Some((seat, member)),
            _ => None,
        })
    }

    pub(crate) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.crew.iter_mut().filter_map(|berth| match berth {
            Berth::Taken(member) => Some(member),
            _ => None,
        })
    }

    fn finished(&self) -> u64 {
        self.shared.finished(self.members().map(|(seat, _)| seat))
    }
}

/// Whether a process sits in a seat, or may by now: one that was asked for can work before its start is told.
fn is_taken(crew: &[Berth], seat: u32) -> bool {
    matches!(crew.get(seat as usize), Some(Berth::Taken(_) | Berth::Awaited))
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
