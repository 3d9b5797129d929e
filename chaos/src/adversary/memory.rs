//! A cgroup whose memory is limited, so that the kernel's OOM killer picks among this program's processes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The variable that tells tasks after how many bytes the OOM killer should long have come.
pub(crate) const CAGE: &str = "PROCPOOL_CHAOS_CAGE";

/// What the cgroup has when nothing is taken away.
const ROOM: u64 = 1 << 30;

/// A cgroup of this program's own.
pub(crate) struct Cage {
    folder: PathBuf,
    limit: &'static str,
    usage: &'static str,
    events: &'static str,
}

impl Cage {
    /// Makes one, in whichever hierarchy has a memory controller that this process may use.
    pub(crate) fn make() -> io::Result<Self> {
        let name = format!("procpool-chaos-{}", std::process::id());
        Self::make_v1(&name).or_else(|_| Self::make_v2(&name))
    }

    fn make_v1(name: &str) -> io::Result<Self> {
        let folder = Path::new("/sys/fs/cgroup/memory").join(name);
        let (limit, usage) = ("memory.limit_in_bytes", "memory.usage_in_bytes");
        Self::prepare(Self { folder, limit, usage, events: "memory.oom_control" })
    }

    fn make_v2(name: &str) -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let folder = Path::new("/sys/fs/cgroup").join(own).parent().unwrap_or(Path::new("/")).join(name);
        Self::prepare(Self { folder, limit: "memory.max", usage: "memory.current", events: "memory.events" })
    }

    fn prepare(self) -> io::Result<Self> {
        fs::create_dir(&self.folder)?;
        // Removed again where it has no limit.
        fs::write(self.folder.join(self.limit), ROOM.to_string()).inspect_err(|_| self.remove())?;
        Ok(self)
    }

    /// The same, in a process that was told of it.
    pub(crate) fn inherited() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os(CAGE)?);
        let v1 = folder.join("memory.limit_in_bytes").exists();
        Some(if v1 {
            let (limit, usage) = ("memory.limit_in_bytes", "memory.usage_in_bytes");
            Self { folder, limit, usage, events: "memory.oom_control" }
        } else {
            Self { folder, limit: "memory.max", usage: "memory.current", events: "memory.events" }
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts this process, and all that it will start, into the cgroup.
    pub(crate) fn enter(&self) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), std::process::id().to_string())
    }

    /// Less than there is, and more than what is in use: only a task that fills memory comes to the limit.
    pub(crate) fn narrower(&self, rng: &mut fastrand::Rng) -> u64 {
        let used = fs::read_to_string(self.folder.join(self.usage)).ok();
        let used = used.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(ROOM);
        (used + (256 << 20) + rng.u64(..256 << 20)).min(ROOM)
    }

    pub(crate) fn limit(&self, bytes: u64) {
        // Where memory grew meanwhile the kernel refuses.
        let _ = fs::write(self.folder.join(self.limit), bytes.to_string());
    }

    pub(crate) fn widen(&self) {
        self.limit(ROOM);
    }

    /// How many processes the OOM killer has picked here.
    pub(crate) fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.events)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }

    /// When its last process is dead.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Task: takes memory until the OOM killer comes, which prefers this process.
pub(crate) fn gorge() {
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let mut taken = Vec::new();
    while taken.len() as u64 * PIECE < ROOM * 2 {
        taken.push(vec![1_u8; PIECE as usize]);
    }
    panic!("the OOM killer let a task take {} bytes", taken.len() as u64 * PIECE);
}

/// What a task takes at once, in bytes.
const PIECE: u64 = 8 << 20;
