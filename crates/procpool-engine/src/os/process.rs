//! Processes: made, named, watched, killed and reaped.
//!
//! What must hold: a process is killed by its pidfd. A pid alone may belong to somebody else by now: it has to do where
//! there are no pidfds, and is used only until the process's death has been told. The pidfd and what can be asked of it may be missing (old kernels,
//! container profiles): the functions say so with an error or `None`, and callers have a second way.

use std::ffi::{CString, c_int};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus};

use super::signal;

pub use rustix::process::Signal;

#[cfg(shuttle)]
pub(crate) use crate::whole::world::{exit_now, kill_pid};

// ---------------------------------------------------------------------------------------------------------------
// Birth
// ---------------------------------------------------------------------------------------------------------------

/// On which side of a [`fork`] this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The process that called; the new child's pid.
    Parent(u32),
    /// The new process.
    Child,
}

/// Makes a copy of this process.
///
/// It is libc's `fork`, never a bare `clone`: only libc sets the allocator's locks and the cached thread id right.
///
/// # Errors
/// `EAGAIN` at a limit on processes, `ENOMEM`.
///
/// # Safety
/// The process has one thread ([`thread_count`] says `1`). A lock that any other thread holds would stay locked in
/// the child for ever, and what it guards half-changed.
pub unsafe fn fork() -> io::Result<Fork> {
    // SAFETY: with one thread, as the caller promises, the child is a whole copy and may do what its parent may.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid if pid > 0 => Ok(Fork::Parent(pid.unsigned_abs())),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many threads this process has.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn thread_count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// Ends this process at once: no destructors, no exit handlers, no buffers flushed. For processes that share these
/// with the one they were forked from.
#[cfg(not(shuttle))]
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no precondition; it runs no code of this process.
    unsafe { libc::_exit(code) }
}

/// Names the calling thread, and with it the process if it is the main one, for `ps` and `top`. The kernel keeps the
/// first 15 bytes.
pub fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        // A name is for people only; nothing depends on it.
        let _ = rustix::thread::set_name(&name);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Being a forked copy
// ---------------------------------------------------------------------------------------------------------------

static FORKS: AtomicU64 = AtomicU64::new(0);

/// A number that is another one in a forked child than it was in its parent.
///
/// Compare it with what it was when a thing was made, to know whether this process made that thing or merely
/// inherited a copy. It costs one load, where `getpid` is a system call. Only forks after the first call count.
pub fn fork_generation() -> u64 {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the handler is a plain function that lives as long as this code, and all that it does is one
        // atomic addition, which a child of a process with many threads may do.
        let _ = unsafe { pthread_atfork(None, None, Some(count_fork)) };
    });
    // ORDER: relaxed, for the value changes only where the process has one thread, the one that forked.
    FORKS.load(Ordering::Relaxed)
}

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

type ForkHandler = Option<extern "C" fn()>;

// SAFETY: the signature is that of pthread_atfork(3).
unsafe extern "C" {
    // In every libc, but missing from the libc crate for Linux.
    fn pthread_atfork(before: ForkHandler, in_parent: ForkHandler, in_child: ForkHandler) -> c_int;
}

// ---------------------------------------------------------------------------------------------------------------
// Watching and killing
// ---------------------------------------------------------------------------------------------------------------

/// Opens a descriptor that stands for a process and becomes readable when it ends.
///
/// # Errors
/// `ESRCH` if there is no such process; any other error means that there are no pidfds here.
pub fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(known(pid)?, PidfdFlags::empty())?)
}

/// Sends a signal to the process that a pidfd stands for, and to no other, whatever became of its pid.
///
/// # Errors
/// `ESRCH` if it is dead.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
}

/// Sends a signal to a process whose death nobody has told of yet: its pid has hardly passed to another.
///
/// # Errors
/// `ESRCH` if there is no such process.
#[cfg(not(shuttle))]
pub fn kill_pid(pid: u32, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process(known(pid)?, signal)?)
}

/// A pid as the kernel takes it; `0` and numbers beyond `i32` mean groups or nothing there, and never a process.
fn known(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| Errno::SRCH.into())
}

// ---------------------------------------------------------------------------------------------------------------
// Death
// ---------------------------------------------------------------------------------------------------------------

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It ended itself with this status.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
    /// It is dead, but who could have said how is dead as well.
    Unknown,
}

impl ExitStatus {
    fn from_wait(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(code),
            (_, Some(signal)) => Self::Signaled(signal),
            _ => Self::Unknown,
        }
    }

    /// Takes apart the number that wait(2) writes: the signal in the low seven bits, or else the status above them.
    fn from_raw(raw: i32) -> Self {
        match raw & 0x7f {
            0 => Self::Exited((raw >> 8) & 0xff),
            0x7f => Self::Unknown,
            signal => Self::Signaled(signal),
        }
    }
}

impl From<std::process::ExitStatus> for ExitStatus {
    fn from(status: std::process::ExitStatus) -> Self {
        Self::from_raw(std::os::unix::process::ExitStatusExt::into_raw(status))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exited with status {code}"),
            Self::Signaled(signal) => write!(f, "killed by signal {signal} ({})", signal::name(signal)),
            Self::Unknown => f.write_str("died of an unknown cause"),
        }
    }
}

/// Reaps one dead child, if there is one; never waits.
pub fn reap_any() -> Option<(u32, ExitStatus)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok()??;
    Some((pid.as_raw_pid().unsigned_abs(), ExitStatus::from_wait(status)))
}

/// Reaps all children, waiting for each to die.
pub fn reap_all() {
    while !matches!(rustix::process::wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
}

/// Whether no process with this pid is alive: for where there are no pidfds. False where nobody can tell.
pub fn is_gone(pid: u32) -> bool {
    match stat(pid) {
        Ok(fields) => fields.starts_with(['Z', 'X']),
        Err(error) => matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::SRCH)),
    }
}

/// How a process ended that is dead and waits to be reaped by whoever adopted it. `None` where it is none, and where the
/// kernel keeps that to itself.
pub fn exit_status_of_zombie(pid: u32) -> Option<ExitStatus> {
    const STATUS: usize = 49;
    let fields = stat(pid).ok().filter(|fields| fields.starts_with('Z'))?;
    let raw: i32 = fields.split_ascii_whitespace().nth(STATUS)?.parse().ok()?;
    // It says zero also to those who may not know.
    (raw != 0).then(|| ExitStatus::from_raw(raw))
}

/// What `/proc` says of a process, from its state on: the name before that may hold anything.
fn stat(pid: u32) -> io::Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(text.rsplit_once(") ").map_or_else(String::new, |(_, fields)| fields.to_owned()))
}

/// How a process ended, asked of its pidfd by one who need not be its parent (Linux 6.15).
///
/// `None` where the kernel does not tell, and while the process is not yet reaped by its parent.
pub fn exit_status_from_pidfd(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    const GET_INFO: Opcode = opcode::read_write::<libc::pidfd_info>(0xff, 11);
    // SAFETY: all fields are integers, for which zero is a value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = libc::PIDFD_INFO_EXIT.into();
    // SAFETY: `GET_INFO` is `PIDFD_GET_INFO`, which reads and writes a `pidfd_info` of the size that it names.
    unsafe { ioctl(pidfd, Updater::<GET_INFO, _>::new(&mut info)) }.ok()?;
    let told = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    told.then(|| ExitStatus::from_raw(info.exit_code))
}

// ---------------------------------------------------------------------------------------------------------------
// Measuring
// ---------------------------------------------------------------------------------------------------------------

/// How much memory of its own a process has: resident pages less those that are shared or come from files, so that
/// the region counts for nobody. `None` if it is gone or `/proc` hides it.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    own_memory(&format!("/proc/{pid}/statm"))
}

/// The most memory that a process ever had resident, shared memory and files included. `None` if it is gone or `/proc`
/// hides it.
pub fn peak_bytes(pid: u32) -> Option<u64> {
    let kibibytes = status_field(pid, "VmHWM")?;
    kibibytes.trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What `/proc` says of a process under this name.
fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
    status.lines().find_map(field)
}

/// A process's state, by the letter that `/proc` has for it. `None` if it is gone.
pub fn state(pid: u32) -> Option<char> {
    status_field(pid, "State")?.chars().next()
}

/// What a letter of [`state`] means.
pub fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "runs",
        'S' => "sleeps",
        'D' => "waits for the disk or a driver",
        'T' => "is stopped",
        't' => "is stopped by a debugger",
        'Z' | 'X' => "is dead",
        _ => "in another state",
    }
}

/// As [`resident_bytes`], of this process.
pub fn own_resident_bytes() -> Option<u64> {
    own_memory("/proc/self/statm")
}

fn own_memory(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let mut pages = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared) * page_size() as u64)
}

/// How many bytes a page of memory has.
pub(crate) fn page_size() -> usize {
    // SAFETY: `sysconf` has no precondition.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

// ---------------------------------------------------------------------------------------------------------------
// Standard streams
// ---------------------------------------------------------------------------------------------------------------

/// Takes standard input's descriptor out of the way: returns a copy of it that programs do not inherit, and puts
/// `/dev/null` in its place.
///
/// Also opens `/dev/null` for each of the three standard streams that is closed, as Rust's own start-up does:
/// otherwise the next descriptor, say the region's, would get its number, and a `println!` would write into it.
///
/// # Errors
/// What open(2) and dup(2) report; standard input is then as it was.
pub fn take_standard_input() -> io::Result<OwnedFd> {
    let taken = fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let null = loop {
        // The lowest free number is given, so the holes below 3 fill up before the loop ends.
        let null = fs::File::options().read(true).write(true).open("/dev/null")?;
        let number = null.as_raw_fd();
        if number > 2 {
            break null;
        }
        fcntl_setfd(&null, FdFlags::empty())?;
        std::mem::forget(null);
    };
    // SAFETY: nobody owns the three standard numbers; `dup2` replaces the one below with no moment in between in
    // which it is closed.
    match unsafe { libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(taken),
    }
}

/// Which file a descriptor refers to: device and inode; `None` if it is not open.
pub fn descriptor_identity(descriptor: BorrowedFd<'_>) -> Option<(u64, u64)> {
    rustix::fs::fstat(descriptor).ok().map(|file| (file.st_dev, file.st_ino))
}

/// The process that started this one, or whoever adopted it since.
pub fn parent_pid() -> u32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_status_reads_as_a_sentence() {
        assert_eq!(ExitStatus::from_raw(3 << 8).to_string(), "exited with status 3");
        assert_eq!(ExitStatus::from_raw(11 | 0x80).to_string(), "killed by signal 11 (SIGSEGV)");
        assert_eq!(ExitStatus::from_raw(0x7f), ExitStatus::Unknown);
    }

    #[test]
    fn a_pid_of_zero_or_beyond_the_kernels_range_is_no_process() {
        for pid in [0, u32::MAX] {
            let refused = kill_pid(pid, Signal::KILL).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::ESRCH));
        }
    }

    #[test]
    fn this_process_can_be_measured() {
        let resident = own_resident_bytes();
        assert!(resident.is_some_and(|bytes| bytes > 0));
        assert!(peak_bytes(std::process::id()) >= resident);
        assert!(matches!(state(std::process::id()).map(state_name), Some("runs" | "sleeps")));
        assert!(thread_count().unwrap() >= 1);
    }

    #[test]
    fn the_end_of_a_child_is_told_before_it_is_reaped() {
        for (script, status) in [("exit 7", ExitStatus::Exited(7)), ("kill -9 $$", ExitStatus::Signaled(9))] {
            let mut child = std::process::Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
            let told = std::iter::repeat_with(|| exit_status_of_zombie(child.id())).find_map(|told| told);
            assert_eq!(told, Some(status));
            assert!(is_gone(child.id()));
            child.wait().unwrap();
            assert!(is_gone(child.id()) && exit_status_of_zombie(child.id()).is_none());
        }
        assert!(!is_gone(std::process::id()));
    }

    #[test]
    fn the_end_of_a_child_is_told_by_its_pidfd_where_the_kernel_can() {
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pidfd = open_pidfd(child.id());
        child.wait().unwrap();
        let told = pidfd.ok().and_then(|pidfd| exit_status_from_pidfd(pidfd.as_fd()));
        assert!(matches!(told, Some(ExitStatus::Exited(7)) | None));
    }
}
