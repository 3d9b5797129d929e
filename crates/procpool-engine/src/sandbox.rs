//! What workers may do: a plain list ([`Sandbox`]), made into something that can be entered ([`Confinement`]).
//!
//! What must hold:
//!
//! - What is asked for and cannot be had is an error of [`Sandbox::confine`], in the parent, before there are workers.
//!   Nothing is left out in silence.
//! - A worker enters before it has a second thread, before it looks at the region, and before it runs anything of the
//!   host's: threads that exist already would stay outside.
//! - Nothing of it lies in the region, where another worker could change it: it comes with the process.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::os::rights::Limit;
use crate::os::{landlock, process, rights, seccomp, signal};

/// What a pool's workers may do. Made with nothing allowed, and then opened where it must be.
///
/// Whatever it says, workers may read files, compute, use shared memory, start threads, fork, and write into what was
/// open already, as standard output is; and they may not gain privileges. What is refused is an error of the call
/// ([`io::ErrorKind::PermissionDenied`]), not a death.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it holds for the pools that are built with it"]
#[non_exhaustive]
pub struct Sandbox {
    /// Files and folders that may be changed, with all that is below them. `/dev/null` is always among them.
    pub write: Vec<PathBuf>,
    /// Whether sockets may be made and connected. Those of the Unix family count.
    pub network: bool,
    /// Whether programs may be started. They are under the same limits.
    pub programs: bool,
    /// How much memory of its own a worker may have, in bytes: data and stacks of threads. Beyond, none can be had.
    pub memory: Option<u64>,
    /// How many descriptors a worker may have open.
    pub open_files: Option<u64>,
    /// How long a file that a worker writes may become, in bytes.
    pub file_size: Option<u64>,
}

impl Sandbox {
    /// Nothing is allowed, and nothing limited.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows to change this file, or all in this folder, and to make and remove files there. It has to exist when the
    /// pool is built, and is known from then on by what it is, whatever lies at its path later.
    pub fn write(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    /// Whether sockets may be made and connected, by default not. Those of the Unix family count, since services of
    /// this machine listen there; pairs do not.
    pub fn network(mut self, allowed: bool) -> Self {
        self.network = allowed;
        self
    }

    /// Whether programs may be started, by default not. They are under the same limits, and so are their children.
    pub fn programs(mut self, allowed: bool) -> Self {
        self.programs = allowed;
        self
    }

    /// How much memory of its own a worker may have, in bytes: data and stacks of threads, not the program and not
    /// what is shared (`RLIMIT_DATA`). Beyond, an allocation fails: in Rust that is usually the worker's death.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// How many descriptors a worker may have open (`RLIMIT_NOFILE`). Its pool needs about ten of them.
    pub fn open_files(mut self, count: u64) -> Self {
        self.open_files = Some(count);
        self
    }

    /// How long a file that a worker writes may become, in bytes (`RLIMIT_FSIZE`).
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    /// For the engine: makes this into something that workers can enter.
    ///
    /// # Errors
    /// [`SandboxError::Missing`] where this system cannot enforce it, [`SandboxError::Path`] where a path cannot be
    /// opened.
    #[doc(hidden)]
    pub fn confine(&self) -> Result<Confinement, SandboxError> {
        use Mechanism::{Landlock, NoNewPrivileges, Seccomp};
        let lacking = |mechanism| move |error| SandboxError::Missing { mechanism, error };
        rights::check().map_err(lacking(NoNewPrivileges))?;
        seccomp::check().map_err(lacking(Seccomp))?;
        landlock::check().map_err(lacking(Landlock))?;
        let open = |path: &PathBuf| {
            rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| SandboxError::Path { path: path.clone(), error: error.into() })
        };
        let mut writable = self.write.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        // Programs throw away there what they do not want to see. It is missing only where nothing works.
        writable.extend(open(&"/dev/null".into()));
        let ruleset = landlock::ruleset(&writable).map_err(lacking(Landlock))?;
        Ok(Confinement { ruleset, rules: self.rules() })
    }

    /// For hosts: the same for a worker that was handed its ruleset ([`Confinement::ruleset`]).
    #[doc(hidden)]
    pub fn confinement(&self, ruleset: OwnedFd) -> Confinement {
        Confinement { ruleset, rules: self.rules() }
    }

    fn rules(&self) -> Rules {
        let Self { write: _, network, programs, memory, open_files, file_size } = *self;
        Rules { network, programs, memory, open_files, file_size }
    }
}

/// What is refused beside files, as it travels to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    network: bool,
    programs: bool,
    memory: Option<u64>,
    open_files: Option<u64>,
    file_size: Option<u64>,
}

const NETWORK: u64 = 1;
const PROGRAMS: u64 = 2;

impl Rules {
    /// As numbers, for a message. No limit is the number that means so to the kernel as well.
    pub(crate) fn encode(self) -> [u64; 4] {
        let Self { network, programs, memory, open_files, file_size } = self;
        let [memory, open_files, file_size] =
            [memory, open_files, file_size].map(|most| most.unwrap_or(u64::MAX));
        let allowed = if network { NETWORK } else { 0 } | if programs { PROGRAMS } else { 0 };
        [allowed, memory, open_files, file_size]
    }

    pub(crate) fn decode([allowed, memory, open_files, file_size]: [u64; 4]) -> Option<Self> {
        let [memory, open_files, file_size] =
            [memory, open_files, file_size].map(|most| Some(most).filter(|&most| most != u64::MAX));
        let (network, programs) = (allowed & NETWORK != 0, allowed & PROGRAMS != 0);
        (allowed <= NETWORK | PROGRAMS).then_some(Self { network, programs, memory, open_files, file_size })
    }
}

/// A sandbox that this system can enforce: made once in the parent, entered by every worker.
#[derive(Debug)]
pub struct Confinement {
    ruleset: OwnedFd,
    rules: Rules,
}

static WITHOUT_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// Whether this process has entered a sandbox, or was forked in one, that lets it start no programs.
pub(crate) fn forbids_programs() -> bool {
    WITHOUT_PROGRAMS.load(Ordering::Relaxed)
}

impl Confinement {
    pub(crate) fn new(ruleset: OwnedFd, rules: Rules) -> Self {
        Self { ruleset, rules }
    }

    /// What a worker has to be handed.
    pub fn ruleset(&self) -> BorrowedFd<'_> {
        self.ruleset.as_fd()
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { ruleset: self.ruleset.try_clone()?, rules: self.rules })
    }

    /// Shuts this process in, for good.
    ///
    /// # Errors
    /// Where it has more than one thread; what the system reports, though the parent found that it could.
    pub(crate) fn enter(self) -> io::Result<()> {
        // Landlock and capabilities are each thread's own.
        let threads = process::thread_count()?;
        if threads != 1 {
            return Err(io::Error::other(format!(
                "the process has {threads} threads already, which would stay outside: let modules that start threads \
                 be imported later (by the initializer or a task), or choose another start method"
            )));
        }
        let Rules { network, programs, memory, open_files, file_size } = self.rules;
        let limits = [(Limit::Memory, memory), (Limit::OpenFiles, open_files), (Limit::FileSize, file_size)];
        for (what, most) in limits {
            most.map_or(Ok(()), |most| rights::limit(what, most))?;
        }
        if file_size.is_some() {
            signal::survive_large_files()?;
        }
        rights::give_up_privileges()?;
        landlock::enter(self.ruleset())?;
        seccomp::enter(network, programs)?;
        WITHOUT_PROGRAMS.fetch_or(!programs, Ordering::Relaxed);
        Ok(())
    }
}

/// What a sandbox is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mechanism {
    /// Keeps files from being changed.
    Landlock,
    /// Refuses system calls: network, programs, privileges.
    Seccomp,
    /// Keeps programs from having more rights than who starts them.
    NoNewPrivileges,
}

impl Mechanism {
    /// Its name: `landlock`, `seccomp` or `no_new_privs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::NoNewPrivileges => "no_new_privs",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Landlock => {
                "Landlock, which keeps files from being changed (Linux 6.2 or later, with `landlock` among the \
                 security modules of the kernel's `lsm=`, and no container that forbids it)"
            }
            Self::Seccomp => {
                "seccomp, which refuses system calls (Linux 4.14 or later with CONFIG_SECCOMP_FILTER, on x86-64, \
                 ARM64 or RISC-V)"
            }
            Self::NoNewPrivileges => "no_new_privs, without which nothing else holds (Linux 3.5 or later)",
        })
    }
}

/// Why workers cannot be shut in as they should.
#[derive(Debug)]
#[non_exhaustive]
pub enum SandboxError {
    /// This system lacks what the sandbox is made of, or forbids it.
    Missing {
        /// What is missing.
        mechanism: Mechanism,
        /// What the system said.
        error: io::Error,
    },
    /// A file or folder that workers are to write cannot be opened.
    Path {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A worker could not enter its sandbox, and ended before it did anything else.
    NotEntered {
        /// What it said.
        message: String,
    },
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { mechanism, error } => {
                write!(f, "no worker was started: this system has no {mechanism}: {error}")
            }
            Self::Path { path, error } => {
                write!(
                    f,
                    "no worker was started: {}, which the sandbox lets them write: {error}",
                    path.display()
                )
            }
            Self::NotEntered { message } => write!(f, "a worker could not enter its sandbox: {message}"),
        }
    }
}

impl std::error::Error for SandboxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing { error, .. } | Self::Path { error, .. } => Some(error),
            Self::NotEntered { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_is_what_was_asked_for() {
        let some = Sandbox::new().network(true).memory(1 << 30).file_size(0);
        let others = [Sandbox::new(), Sandbox::new().programs(true).open_files(32)];
        for sandbox in [some].into_iter().chain(others) {
            assert_eq!(Rules::decode(sandbox.rules().encode()), Some(sandbox.rules()));
        }
    }

    #[test]
    fn an_allowance_that_nobody_knows_is_none() {
        assert_eq!(Rules::decode([4, u64::MAX, u64::MAX, u64::MAX]), None);
    }

    #[test]
    #[cfg_attr(miri, ignore)]
    fn a_process_with_several_threads_stays_as_it_is() {
        let Ok(confinement) = Sandbox::new().confine() else { return };
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || is_over.recv());
            assert!(confinement.enter().unwrap_err().to_string().contains("threads"));
            drop(over);
        });
        assert!(!forbids_programs());
        assert!(std::process::Command::new("true").status().unwrap().success());
    }
}
