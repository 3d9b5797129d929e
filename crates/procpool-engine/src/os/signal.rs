//! Signals: who handles them, and what becomes of those that would end a worker.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;

/// Runs `start` with all signals blocked: threads that it starts never handle one, since the host has its own idea of
/// which thread does.
pub fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: the sets are initialised by the calls that are given them; the mask is this thread's own.
    unsafe {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let started = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        started
    }
}

/// Lets all signals come through again which whoever started this process had blocked.
pub fn unblock_signals() {
    // SAFETY: the set is initialised by the call that is given it; the mask is this thread's own.
    unsafe {
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Ctrl-C is the foreground program's affair, so from here on `SIGINT` runs a handler that does nothing.
///
/// Not `SIG_IGN`: that would pass to every program which this process starts, and those could not be interrupted.
///
/// # Errors
/// None that is known.
pub fn ignore_interrupts() -> io::Result<()> {
    do_nothing_on(libc::SIGINT)
}

/// To write more into a file than `RLIMIT_FSIZE` allows becomes an error instead of a death. As for
/// [`ignore_interrupts`], programs do not inherit it.
///
/// # Errors
/// None that is known.
pub fn survive_large_files() -> io::Result<()> {
    do_nothing_on(libc::SIGXFSZ)
}

fn do_nothing_on(signal: c_int) -> io::Result<()> {
    extern "C" fn nothing(_signal: c_int) {}
    set_handler(signal, nothing as extern "C" fn(c_int) as libc::sighandler_t)
}

/// Writing to a closed pipe becomes an error instead of a death, as Rust's own start-up sets it before `main`.
///
/// # Errors
/// None that is known.
pub fn ignore_broken_pipes() -> io::Result<()> {
    set_handler(libc::SIGPIPE, libc::SIG_IGN)
}

/// Makes dead children wait to be reaped, also where the process was started with `SIGCHLD` ignored.
///
/// # Errors
/// None that is known.
pub fn keep_dead_children() -> io::Result<()> {
    set_handler(libc::SIGCHLD, libc::SIG_DFL)
}

fn set_handler(signal: c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all zeroes is a `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is whole, and the handlers that this file passes are `SIG_IGN`, `SIG_DFL`, and a function
    // that does nothing, which is safe at any instruction.
    match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A signal's name: `SIGSEGV` for `11`.
pub fn name(signal: i32) -> &'static str {
    const NAMES: &[(c_int, &str)] = &[
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGCHLD, "SIGCHLD"),
        (libc::SIGCONT, "SIGCONT"),
        (libc::SIGSTOP, "SIGSTOP"),
        (libc::SIGTSTP, "SIGTSTP"),
        (libc::SIGTTIN, "SIGTTIN"),
        (libc::SIGTTOU, "SIGTTOU"),
        (libc::SIGURG, "SIGURG"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGXFSZ, "SIGXFSZ"),
        (libc::SIGVTALRM, "SIGVTALRM"),
        (libc::SIGPROF, "SIGPROF"),
        (libc::SIGWINCH, "SIGWINCH"),
        (libc::SIGIO, "SIGIO"),
        (libc::SIGPWR, "SIGPWR"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    NAMES.iter().find(|(number, _)| *number == signal).map_or("a real-time signal", |(_, name)| name)
}
