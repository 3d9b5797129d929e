//! Seccomp: which system calls are answered with an error before the kernel looks at them.
//!
//! Whatever is not named here is allowed: tasks are any code, and nobody can list what that needs. What is named is
//! refused with `EPERM`, as if by a file's rights, and kills nobody.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction,
    SeccompCmpArgLen::{Dword, Qword},
    SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, sock_filter,
};

/// `ioctl`s that put letters into a terminal's input, or may.
const TYPE_INTO: u64 = 0x5412;
const CONSOLE: u64 = 0x541c;

/// Calls by number; each is refused where any of its rules applies, or always where it has none.
type Calls = BTreeMap<i64, Vec<SeccompRule>>;

/// Whether calls can be refused here.
///
/// # Errors
/// `ENOSYS` or `EINVAL` where the kernel has no seccomp; an error that names the processor where that is not known.
pub fn check() -> io::Result<()> {
    filters(false, false)?;
    let refuse = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the call reads one `u32`, and changes nothing.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const refuse) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Refuses, to all threads of this process and all that it starts, for good: to gain privileges, to go round this, and
/// what is not allowed of the network and of starting programs.
///
/// # Errors
/// What seccomp(2) reports: `EACCES` unless privileges cannot be gained any more.
pub fn enter(network: bool, programs: bool) -> io::Result<()> {
    for filter in filters(network, programs)? {
        seccompiler::apply_filter_all_threads(&filter).map_err(|error| match error {
            seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error) => error,
            other => io::Error::other(other),
        })?;
    }
    Ok(())
}

fn filters(network: bool, programs: bool) -> io::Result<Vec<BpfProgram>> {
    let make = || {
        let mut refused = privileges()?;
        if !network {
            refused.extend(sockets()?);
        }
        if !programs {
            refused.extend([libc::SYS_execve, libc::SYS_execveat].map(always));
        }
        // Its flags lie in memory, where no filter can see them. As on an older kernel, libc calls `clone` instead.
        let unseen = [libc::SYS_clone3].map(always).into();
        Ok(vec![foreign(), answer(refused, libc::EPERM)?, answer(unseen, libc::ENOSYS)?])
    };
    make().map_err(|error: BackendError| io::Error::new(io::ErrorKind::Unsupported, error))
}

/// What gives more rights than the process has, or lets it act through others.
fn privileges() -> Result<Calls, BackendError> {
    // In a user namespace of its own any process may do much of what root may.
    let user = libc::CLONE_NEWUSER as u64;
    let new_user = SeccompCmpOp::MaskedEq(user);
    Ok([
        (libc::SYS_unshare, vec![when(&[(0, Qword, new_user.clone(), user)])?]),
        (libc::SYS_clone, vec![when(&[(0, Qword, new_user, user)])?]),
        always(libc::SYS_setns),
        // The kernel does on its behalf what no filter sees.
        always(libc::SYS_io_uring_setup),
        always(libc::SYS_io_uring_enter),
        always(libc::SYS_io_uring_register),
        // Types into the terminal, as if the user did.
        (libc::SYS_ioctl, vec![ioctl_is(TYPE_INTO)?, ioctl_is(CONSOLE)?]),
        // Limits of other processes: little CPU time is as good as a signal.
        (
            libc::SYS_prlimit64,
            vec![when(&[(0, Dword, SeccompCmpOp::Ne, 0), (2, Qword, SeccompCmpOp::Ne, 0)])?],
        ),
    ]
    .into())
}

/// What makes sockets, or connects them. A connected pair is no network.
fn sockets() -> Result<Calls, BackendError> {
    // Ends of a pair of these could still be connected elsewhere.
    let datagram = |kind: i32| when(&[(1, Dword, SeccompCmpOp::MaskedEq(0xf), kind as u64)]);
    let mut calls = Calls::from(
        [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_accept,
            libc::SYS_accept4,
        ]
        .map(always),
    );
    calls.insert(libc::SYS_socketpair, vec![datagram(libc::SOCK_DGRAM)?, datagram(libc::SOCK_RAW)?]);
    Ok(calls)
}

fn always(call: i64) -> (i64, Vec<SeccompRule>) {
    (call, Vec::new())
}

fn ioctl_is(which: u64) -> Result<SeccompRule, BackendError> {
    when(&[(1, Dword, SeccompCmpOp::Eq, which)])
}

/// All of these hold of the call's arguments.
fn when(
    conditions: &[(u8, seccompiler::SeccompCmpArgLen, SeccompCmpOp, u64)],
) -> Result<SeccompRule, BackendError> {
    let conditions = conditions
        .iter()
        .map(|(index, length, operator, value)| {
            SeccompCondition::new(*index, length.clone(), operator.clone(), *value)
        })
        .collect::<Result<_, _>>()?;
    SeccompRule::new(conditions)
}

fn answer(calls: Calls, errno: i32) -> Result<BpfProgram, BackendError> {
    let refusal = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(calls, SeccompAction::Allow, refusal, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// A 64-bit PC has a second set of numbers for its calls (x32), which would slip past the first. Nobody uses it. Other
/// processors have no numbers so high.
fn foreign() -> BpfProgram {
    const FIRST: u32 = 0x4000_0000;
    let statement = |code: u32, k| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    let compare = sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, FIRST) };
    let end = |action| statement(libc::BPF_RET | libc::BPF_K, action);
    vec![
        number,
        compare,
        end(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        end(libc::SECCOMP_RET_ALLOW),
    ]
}
