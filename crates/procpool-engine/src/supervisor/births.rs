//! How workers come to be: who is missing, how they are asked for, what the launcher says of them.

use std::sync::Arc;

use super::Supervisor;
use crate::crew::{Berth, Member};
use crate::faults::{Point, point};
use crate::launch::LaunchEvent;
use crate::outcome::Breakdown;
use crate::policy;
use crate::region::Phase;
use crate::shared::Counters;
use crate::sync::{Instant, lock};

impl Supervisor {
    /// Launches what is missing.
    pub(super) fn staff(&mut self) {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| now < at) {
            return;
        }
        self.not_before = None;
        for _ in 0..self.vacancies() {
            let Some(seat) =
                (0..self.target).find(|&seat| matches!(self.crew.get(seat), None | Some(Berth::Empty)))
            else {
                return;
            };
            if !self.launch(seat) {
                return;
            }
        }
    }

    pub(super) fn vacancies(&self) -> usize {
        let phase = self.shared.phase();
        let present =
            self.crew.iter().take(self.target).filter(|berth| !matches!(berth, Berth::Empty)).count();
        if phase == Phase::Running {
            return self.target.saturating_sub(present);
        }
        let unfinished = if phase == Phase::Closed && present < self.target {
            // Whoever came for a task that still waits would find nothing to do, and leave.
            self.unfinished().saturating_sub(self.shared.waiting())
        } else {
            0
        };
        policy::staff(phase, self.target, unfinished).saturating_sub(present)
    }

    pub(super) fn unfinished(&self) -> usize {
        let books = lock(&self.shared.books);
        self.shared.unfinished(&books)
    }

    fn launch(&mut self, seat: usize) -> bool {
        let is_successor = self.crew.len() > seat;
        if !is_successor {
            self.crew.resize_with(seat + 1, || Berth::Empty);
        }
        self.shared.restate();
        if let Some(words) = self.shared.region.seat(seat as u32) {
            words.vacate();
        }
        point(Point::Vacated);
        match self.launcher.launch(seat as u32) {
            Ok(()) => {
                point(Point::Launched);
                self.crew[seat] = Berth::Awaited;
                if is_successor {
                    Counters::add(&self.shared.counters.restarts, 1);
                }
                true
            }
            Err(error) => {
                self.launch_failed(error);
                false
            }
        }
    }

    pub(super) fn launch_failed(&mut self, error: std::io::Error) {
        if self.not_before.is_some() {
            // Of several that failed together one counts.
            return;
        }
        self.failed_launches += 1;
        if self.failed_launches > policy::FAILED_LAUNCHES && self.members().next().is_none() {
            self.break_down(Breakdown::Launch { error: Arc::new(error) });
        } else {
            self.not_before = Instant::now().checked_add(policy::back_off(self.failed_launches));
        }
    }

    pub(super) fn hear_launcher(&mut self) {
        for event in self.launcher.events() {
            match event {
                LaunchEvent::Started { seat, pid, pidfd } => self.started(seat, Member::new(pid, pidfd)),
                LaunchEvent::Failed { seat, error } => {
                    if let Some(berth @ Berth::Awaited) = self.crew.get_mut(seat as usize) {
                        *berth = Berth::Empty;
                        self.launch_failed(error);
                    }
                }
                LaunchEvent::Exited { seat, pid, status } => {
                    let known = matches!(self.crew.get(seat as usize), Some(Berth::Taken(member)) if member.pid == pid);
                    if known {
                        self.died(seat as usize, status);
                    }
                }
                LaunchEvent::Gone => self.members_mut().for_each(Member::orphan),
            }
        }
    }

    fn started(&mut self, seat: u32, mut member: Member) {
        if self.shared.phase() == Phase::Stopped {
            member.ask_to_end(*lock(&self.shared.grace));
        }
        if let Some(berth @ Berth::Awaited) = self.crew.get_mut(seat as usize) {
            self.failed_launches = 0;
            lock(&self.shared.pids).insert(seat, member.pid);
            *berth = Berth::Taken(member);
        }
    }
}
