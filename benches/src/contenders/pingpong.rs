//! The limit of a round trip: two processes, two cache lines of shared memory, and nothing else.
//!
//! The asker writes a turn into one line, the partner answers with the same turn in the other. No payload, no queue, no
//! claim, nobody who could die: what a process pool needs beyond this is its own. The partner is forked for a
//! measurement and killed after it, so that a spinning one takes no CPU from the other contenders.

use std::hint;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_parent_process_death_signal, waitpid,
};
use rustix::thread::futex;

/// How both sides wait for their turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// They look at the line until it changes.
    Spinning,
    /// They sleep in the kernel at once, and are woken for every turn.
    Futex,
}

/// A word with the cache line that its writer invalidates, and the next one, which the processor may fetch along.
#[repr(C, align(128))]
struct Line(AtomicU32);

/// What is shared. Zeroes, as the kernel gives them, are its valid first state: no turn was taken.
#[repr(C)]
struct Lines {
    question: Line,
    answer: Line,
}

pub(crate) struct PingPong {
    lines: NonNull<Lines>,
    partner: Pid,
    waiting: Waiting,
    turn: u32,
}

impl PingPong {
    /// Forks the partner and plays a few turns with it, so that both run on a CPU of their own when it counts.
    pub(crate) fn start(waiting: Waiting) -> io::Result<Self> {
        if waiting == Waiting::Spinning && thread::available_parallelism()?.get() < 2 {
            return Err(io::Error::other("two processes can spin only on two CPUs"));
        }
        let lines = map()?;
        let partner = match fork_partner(lines, waiting) {
            Ok(partner) => partner,
            Err(error) => {
                unmap(lines);
                return Err(error);
            }
        };
        let mut pingpong = PingPong { lines, partner, waiting, turn: 0 };
        for _ in 0..1000 {
            pingpong.exchange();
        }
        Ok(pingpong)
    }

    /// One round trip.
    pub(crate) fn exchange(&mut self) {
        // SAFETY: the mapping is as large as `Lines`, valid as such, and stays until `self` is dropped.
        let lines = unsafe { self.lines.as_ref() };
        self.turn = self.turn.wrapping_add(1);
        self.waiting.publish(&lines.question.0, self.turn);
        self.waiting.await_change(&lines.answer.0, self.turn.wrapping_sub(1));
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        let _ = kill_process(self.partner, Signal::KILL);
        while matches!(waitpid(Some(self.partner), WaitOptions::empty()), Err(Errno::INTR)) {}
        unmap(self.lines);
    }
}

impl Waiting {
    fn publish(self, word: &AtomicU32, turn: u32) {
        // ORDER: Release, pairs with the Acquire in `await_change`, as it would if a payload went with the turn.
        word.store(turn, Ordering::Release);
        if self == Waiting::Futex {
            // Fails only for arguments that are wrong, and then the other side would not answer: visible at once.
            let _ = futex::wake(word, futex::Flags::empty(), 1);
        }
    }

    /// Returns the word's value once it is another than `seen`.
    fn await_change(self, word: &AtomicU32, seen: u32) -> u32 {
        loop {
            // ORDER: Acquire, pairs with the Release in `publish`.
            let value = word.load(Ordering::Acquire);
            if value != seen {
                return value;
            }
            match self {
                Waiting::Spinning => hint::spin_loop(),
                // Returns early if the word changed meanwhile, or for a signal: the loop looks again.
                Waiting::Futex => drop(futex::wait(word, futex::Flags::empty(), seen, None)),
            }
        }
    }
}

fn map() -> io::Result<NonNull<Lines>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
    let address = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            size_of::<Lines>(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
        )?
    };
    NonNull::new(address.cast()).ok_or(io::Error::other("the kernel mapped address zero"))
}

fn unmap(lines: NonNull<Lines>) {
    // SAFETY: `lines` came from `map` with this size, and its only owner is on its way out.
    let _ = unsafe { munmap(lines.as_ptr().cast(), size_of::<Lines>()) };
}

fn fork_partner(lines: NonNull<Lines>, waiting: Waiting) -> io::Result<Pid> {
    let asker = getpid();
    // SAFETY: this process has threads, so the child may do only what a signal handler may: `answer_for_ever` makes
    // plain system calls and touches the shared page; it takes no lock, allocates nothing and never returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: the child has inherited the mapping, and nobody unmaps it there.
            answer_for_ever(unsafe { lines.as_ref() }, waiting, asker)
        }
        child => Pid::from_raw(child).ok_or(io::Error::other("fork returned no process id")),
    }
}

/// The partner's whole life. It ends with the thread that forked it, which here is the program's first.
fn answer_for_ever(lines: &Lines, waiting: Waiting, asker: Pid) -> ! {
    let watched = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    if !watched || getppid() != Some(asker) {
        // SAFETY: ends the process without running anything that it inherited.
        unsafe { libc::_exit(1) }
    }
    let mut turn = 0;
    loop {
        turn = waiting.await_change(&lines.question.0, turn);
        waiting.publish(&lines.answer.0, turn);
    }
}
