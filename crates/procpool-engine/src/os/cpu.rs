//! Which CPUs a thread may run on, and which one it runs on.

#[cfg(shuttle)]
pub(crate) use crate::whole::world::{current_cpu as current, leave_cpu as leave, usable_cpus as usable};

/// How many CPUs this process may use at once: its affinity and its control group's quota count.
#[cfg(not(shuttle))]
pub fn usable() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The CPU that the calling thread is on at this moment.
#[cfg(not(shuttle))]
pub(crate) fn current() -> u32 {
    u32::try_from(rustix::thread::sched_getcpu()).expect("CPUs are numbered from 0")
}

/// Moves the calling thread from `cpu` to another one, if it may use any. It may come back at once. It goes by
/// sched_setaffinity(2): who changes the thread's affinity from outside at this moment has done so in vain.
#[cfg(not(shuttle))]
pub(crate) fn leave(cpu: u32) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Some(cpu) = usize::try_from(cpu).ok().filter(|&cpu| cpu < CpuSet::MAX_CPU) else { return };
    // The kernel or a sandbox may refuse: then it stays.
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut others = allowed;
    others.unset(cpu);
    if others.count() > 0 && sched_setaffinity(None, &others).is_ok() {
        let _ = sched_setaffinity(None, &allowed);
    }
}

/// Binds the calling thread to the first CPU that it may use.
#[cfg(all(test, not(any(loom, shuttle)), not(miri)))]
pub(crate) fn bind_to_one() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None).expect("a thread has CPUs");
    let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).expect("one at least");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).expect("it may use that one");
}

#[cfg(all(test, not(any(loom, shuttle)), not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_leaves_its_cpu_and_may_use_the_same_ones_as_before() {
        let allowed = || rustix::thread::sched_getaffinity(None).unwrap();
        let before = allowed();
        let leaves = || {
            let here = current();
            leave(here);
            current() != here
        };
        // It may be moved back before it has looked.
        assert!(before.count() == 1 || (0..1000).any(|_| leaves()));
        assert_eq!(allowed(), before);
    }

    #[test]
    fn a_thread_that_may_use_one_cpu_stays_there() {
        let bound = || {
            bind_to_one();
            let here = current();
            leave(here);
            leave(u32::MAX);
            (here, current())
        };
        let (before, after) = std::thread::spawn(bound).join().unwrap();
        assert_eq!(before, after);
    }
}
