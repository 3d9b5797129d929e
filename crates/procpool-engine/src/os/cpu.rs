//! Which CPUs a thread may run on, and which one it runs on.

#[cfg(not(shuttle))]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

#[cfg(shuttle)]
pub(crate) use crate::whole::world::{current_cpu as current, leave_cpu as leave, usable_cpus as usable};

/// How many CPUs this process may use at once: its affinity and its control group's quota count.
#[cfg(not(shuttle))]
pub fn usable() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The CPU that the calling thread is on at this moment; `None` where the system does not tell.
#[cfg(not(shuttle))]
pub(crate) fn current() -> Option<u32> {
    // SAFETY: `sched_getcpu` has no precondition.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Moves the calling thread from `cpu` to some other one that it may use, by sched_setaffinity(2). Whether it is elsewhere
/// now; it may come back at once. Who changes its affinity from outside at this moment may have done so in vain.
#[cfg(not(shuttle))]
pub(crate) fn leave(cpu: u32) -> bool {
    // The kernel or a sandbox may refuse any of this: then it stays.
    let Ok(allowed) = sched_getaffinity(None) else { return false };
    let mut others = allowed;
    if let Some(cpu) = usize::try_from(cpu).ok().filter(|&cpu| cpu < CpuSet::MAX_CPU) {
        others.unset(cpu);
    }
    if others == allowed || others.count() == 0 || sched_setaffinity(None, &others).is_err() {
        return false;
    }
    // If all means what was allowed before, nobody has bound the thread: then it is not to be bound now to the CPUs of this
    // moment, lest it miss those that come later, when one is plugged in or its control group gets more.
    if sched_setaffinity(None, &all()).is_err() || sched_getaffinity(None) != Ok(allowed) {
        let _ = sched_setaffinity(None, &allowed);
    }
    current() != Some(cpu)
}

#[cfg(not(shuttle))]
fn all() -> CpuSet {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    all
}

/// Binds the calling thread to the first CPU that it may use.
#[cfg(all(test, not(any(loom, shuttle)), not(miri)))]
pub(crate) fn bind_to_one() {
    let allowed = sched_getaffinity(None).expect("a thread has CPUs");
    let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).expect("one at least");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).expect("it may use that one");
}

#[cfg(all(test, not(any(loom, shuttle)), not(miri)))]
mod tests {
    use super::*;

    fn here() -> u32 {
        current().expect("Linux tells")
    }

    #[test]
    fn a_thread_leaves_its_cpu_and_may_use_the_same_ones_as_before() {
        let allowed = || sched_getaffinity(None).unwrap();
        let before = allowed();
        // It may be moved back before it has looked.
        assert!(before.count() == 1 || (0..1000).any(|_| leave(here())));
        assert_eq!(allowed(), before);
    }

    #[test]
    fn a_thread_that_may_use_one_cpu_stays_there_and_remains_bound() {
        let bound = || {
            bind_to_one();
            let before = here();
            assert!(!leave(before) && !leave(before + 1) && !leave(u32::MAX));
            assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
            (before, here())
        };
        let (before, after) = std::thread::spawn(bound).join().unwrap();
        assert_eq!(before, after);
    }
}
