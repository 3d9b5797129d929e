//! How a re-run of this program becomes a worker: before `main`, or at the start of it.

use procpool_engine::launch;

/// Becomes a worker, if this process was started to be one; otherwise returns at once.
///
/// Needed only where the crate's own hook before `main` is switched off (`default-features = false`) or cannot work,
/// with a libc other than glibc. Then call it first thing in `main`, before threads are started, files opened or
/// arguments read. Elsewhere it does nothing, and does no harm.
///
/// Without either, [`Pool::new`](crate::Pool::new) succeeds, and every task ends with an error that says so.
///
/// ```
/// procpool::init();
/// let pool = procpool::Pool::new(1)?;
/// assert_eq!(pool.apply(|x: i32| -x, 5)?, -5);
/// # Ok::<(), procpool::Error>(())
/// ```
pub fn init() {
    if let Some(attachment) = launch::become_zygote() {
        crate::worker::run(attachment);
    }
}

#[cfg(all(feature = "hook", target_os = "linux", target_env = "gnu"))]
mod hook {
    /// Called by the dynamic linker's start-up before `main`, in every program that links this crate.
    ///
    /// std is not set up yet, but what a zygote and its workers need works: environment, threads, output, unwinding
    /// (see CONTRIBUTING.md, "The hook", for what was tried).
    extern "C" fn before_main() {
        crate::entry::init();
    }

    // SAFETY: `.init_array` holds pointers to functions that take what libc passes (argc, argv, envp), or nothing, and
    // return nothing. The pointer is `#[used]`, so that linkers keep it.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static BEFORE_MAIN: extern "C" fn() = before_main;
}
