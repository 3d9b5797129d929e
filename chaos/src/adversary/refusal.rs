//! System calls that the kernel refuses, by a seccomp filter: for good, since a filter cannot be taken back.

use std::collections::BTreeMap;
use std::fmt;

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Ge, MaskedEq};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule};

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `memfd_create`, as where there is no memory for it.
    Memfd,
    /// Shared mappings of 16 MiB and more.
    Mmap,
    /// `pidfd_open`, as on old kernels and in some containers.
    Pidfd,
    /// `clone` as libc's `fork` calls it: no zygote can have workers.
    Fork,
    /// `clone` as `posix_spawn` calls it: no program can be started.
    Spawn,
    /// `clone` for threads.
    Thread,
}

impl Refusal {
    pub(crate) const ALL: [Self; 6] =
        [Self::Memfd, Self::Mmap, Self::Pidfd, Self::Fork, Self::Spawn, Self::Thread];

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.to_string() == name)
    }

    /// In this thread, and in all threads and processes that come from it.
    pub(crate) fn here(self) {
        self.programs()
            .iter()
            .for_each(|program| seccompiler::apply_filter(program).expect("seccomp is permitted"));
    }

    /// In all threads of this process, but not in processes that are there already.
    pub(crate) fn in_all_threads(self) {
        for program in self.programs() {
            seccompiler::apply_filter_all_threads(&program).expect("seccomp is permitted");
        }
    }

    fn programs(self) -> Vec<BpfProgram> {
        let has_flag = |flag: i32| condition(0, Qword, MaskedEq(flag as u64), flag as u64);
        let (vm, vfork, thread) = (libc::CLONE_VM, libc::CLONE_VFORK, libc::CLONE_THREAD);
        // The flags of `clone3` lie in memory, where a filter cannot look; without it libc calls `clone`.
        let no_clone3 = || filter(libc::SYS_clone3, vec![], libc::ENOSYS);
        let clone = |condition| filter(libc::SYS_clone, vec![condition], libc::EAGAIN);
        match self {
            Self::Memfd => vec![filter(libc::SYS_memfd_create, vec![], libc::ENOMEM)],
            Self::Mmap => {
                let shared = condition(3, Dword, MaskedEq(libc::MAP_SHARED as u64), libc::MAP_SHARED as u64);
                vec![filter(libc::SYS_mmap, vec![shared, condition(1, Qword, Ge, 16 << 20)], libc::ENOMEM)]
            }
            Self::Pidfd => vec![filter(libc::SYS_pidfd_open, vec![], libc::ENOSYS)],
            Self::Fork => vec![no_clone3(), clone(condition(0, Qword, MaskedEq(vm as u64), 0))],
            Self::Spawn => vec![no_clone3(), clone(has_flag(vfork))],
            Self::Thread => vec![no_clone3(), clone(has_flag(thread))],
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memfd => "memfd_create",
            Self::Mmap => "mmap",
            Self::Pidfd => "pidfd_open",
            Self::Fork => "fork",
            Self::Spawn => "spawn",
            Self::Thread => "thread",
        })
    }
}

fn condition(
    argument: u8,
    length: seccompiler::SeccompCmpArgLen,
    operator: seccompiler::SeccompCmpOp,
    value: u64,
) -> SeccompCondition {
    SeccompCondition::new(argument, length, operator, value).expect("a system call has six arguments")
}

/// A call that fails with `errno` where all conditions hold; all others go through.
fn filter(call: libc::c_long, conditions: Vec<SeccompCondition>, errno: i32) -> BpfProgram {
    let rules = if conditions.is_empty() {
        Vec::new()
    } else {
        vec![SeccompRule::new(conditions).expect("there are conditions")]
    };
    let architecture = std::env::consts::ARCH.try_into().expect("seccomp knows this processor");
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        architecture,
    );
    filter.and_then(TryInto::try_into).expect("a filter of one rule")
}
