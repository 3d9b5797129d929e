//! A cgroup whose memory is limited, so that the kernel's OOM killer picks workers.
//!
//! Only tasks that fill memory go there, with their workers: while a process that was picked is still giving its memory
//! back, the kernel may pick another, and that would be the parent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The variable that tells tasks after how many bytes the OOM killer should long have come.
pub(crate) const CAGE: &str = "PROCPOOL_CHAOS_CAGE";

/// What the cgroup has when nothing is taken away.
const ROOM: u64 = 512 << 20;

/// A cgroup of this program's own.
pub(crate) struct Cage {
    folder: PathBuf,
    files: Files,
}

/// What the files of a hierarchy are called.
#[derive(Clone, Copy)]
struct Files {
    limit: &'static str,
    events: &'static str,
}

const V1: Files = Files { limit: "memory.limit_in_bytes", events: "memory.oom_control" };
const V2: Files = Files { limit: "memory.max", events: "memory.events" };

impl Cage {
    /// Makes one, in whichever hierarchy has a memory controller that this process may use.
    pub(crate) fn make() -> io::Result<Self> {
        let name = format!("procpool-chaos-{}", std::process::id());
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let v1 = Path::new("/sys/fs/cgroup/memory").join(&name);
        // Beside this process's own: a group that has processes cannot have others below it with a controller.
        let beside = Path::new(own).parent().unwrap_or(Path::new(""));
        let v2 = Path::new("/sys/fs/cgroup").join(beside).join(&name);
        Self::make_at(v1, V1).or_else(|_| Self::make_at(v2, V2))
    }

    fn make_at(folder: PathBuf, files: Files) -> io::Result<Self> {
        fs::create_dir(&folder)?;
        let cage = Self { folder, files };
        // Without a memory controller there is no such file.
        fs::write(cage.file(files.limit), ROOM.to_string()).inspect_err(|_| cage.remove())?;
        Ok(cage)
    }

    /// The same, in a process that was told of it.
    pub(crate) fn inherited() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os(CAGE)?);
        let files = if folder.join(V1.limit).exists() { V1 } else { V2 };
        Some(Self { folder, files })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts this process into the cgroup.
    fn enter(&self) -> io::Result<()> {
        fs::write(self.file("cgroup.procs"), std::process::id().to_string())
    }

    /// Less than there is.
    pub(crate) fn narrower(rng: &mut fastrand::Rng) -> u64 {
        rng.u64(ROOM / 8..ROOM)
    }

    pub(crate) fn limit(&self, bytes: u64) {
        // Where more is in use already the kernel refuses.
        let _ = fs::write(self.file(self.files.limit), bytes.to_string());
    }

    pub(crate) fn widen(&self) {
        self.limit(ROOM);
    }

    /// How many processes the OOM killer has picked here.
    pub(crate) fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.file(self.files.events)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }

    /// When its last process is dead.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Task: takes memory until the OOM killer comes.
pub(crate) fn gorge() {
    let cage = Cage::inherited().expect("there is a cage where there are such tasks");
    cage.enter().expect("the cage takes this process");
    let mut taken = Vec::new();
    while taken.len() as u64 * PIECE < ROOM * 2 {
        taken.push(vec![1_u8; PIECE as usize]);
    }
    panic!("the OOM killer let a task take {} bytes", taken.len() as u64 * PIECE);
}

/// What a task takes at once, in bytes.
const PIECE: u64 = 8 << 20;
