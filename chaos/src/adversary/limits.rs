//! Resource limits of this process, or of a zygote, which are lowered for a while.

use super::Deed;

/// A limit that is to be lowered, and what it was.
pub(crate) struct Limit {
    /// 0 for this process.
    pid: u32,
    pool: Option<u32>,
    resource: libc::__rlimit_resource_t,
    name: &'static str,
    before: libc::rlimit,
    to: u64,
}

/// The limit under which programs abort.
pub(crate) const ADDRESS_SPACE: &str = "RLIMIT_AS";

/// Address space that this process is left with beyond what it has: it must go on.
const SLACK: u64 = 4 << 30;

impl Limit {
    /// Descriptors: a few more than are open. Address space: enough for this program, too little for big regions.
    pub(crate) fn of_this_process(rng: &mut fastrand::Rng) -> Option<Self> {
        if rng.bool() {
            let open = descriptors()?;
            Self::new(0, None, libc::RLIMIT_NOFILE, "RLIMIT_NOFILE", open + rng.u64(..8))
        } else {
            Self::new(0, None, libc::RLIMIT_AS, ADDRESS_SPACE, address_space()? + SLACK + rng.u64(..SLACK))
        }
    }

    /// Too few descriptors to fork, or too little address space for a worker.
    pub(crate) fn of_zygote(rng: &mut fastrand::Rng, pid: u32, pool: u32) -> Option<Self> {
        if rng.bool() {
            Self::new(pid, Some(pool), libc::RLIMIT_NOFILE, "RLIMIT_NOFILE", rng.u64(4..16))
        } else {
            Self::new(pid, Some(pool), libc::RLIMIT_AS, ADDRESS_SPACE, 64 << 20)
        }
    }

    fn new(
        pid: u32,
        pool: Option<u32>,
        resource: libc::__rlimit_resource_t,
        name: &'static str,
        to: u64,
    ) -> Option<Self> {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `before` is whole and outlives the call.
        let read = unsafe { libc::prlimit(pid.cast_signed(), resource, std::ptr::null(), &raw mut before) };
        (read == 0 && before.rlim_cur > to).then_some(Self { pid, pool, resource, name, before, to })
    }

    /// Whether both are about one resource of one process.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.resource) == (other.pid, other.resource)
    }

    pub(crate) fn deed(&self) -> Deed {
        match self.pool {
            None => Deed::Limit { resource: self.name, to: self.to },
            Some(pool) => Deed::LimitOfZygote { pool, resource: self.name, to: self.to },
        }
    }

    pub(crate) fn lower(&self) {
        self.set(libc::rlimit { rlim_cur: self.to, ..self.before });
    }

    pub(crate) fn restore(&self) {
        self.set(self.before);
    }

    fn set(&self, limit: libc::rlimit) {
        // SAFETY: `limit` is whole and outlives the call. A zygote may be dead by now: then it fails.
        unsafe {
            libc::prlimit(self.pid.cast_signed(), self.resource, &raw const limit, std::ptr::null_mut());
        }
    }
}

/// One more than the highest descriptor that is open.
fn descriptors() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.flatten();
    open.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()).max().map(|highest| highest + 1)
}

fn address_space() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').next()?.parse().ok()?;
    Some(pages * 4096)
}
