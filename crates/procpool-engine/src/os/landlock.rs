//! Landlock: which files a process may change.
//!
//! A *ruleset* names files by what they are, not by their paths: it is made once, in the parent, and whoever is handed
//! its descriptor can enter it. So no path is looked up in a process that somebody else may have got hold of.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};
use rustix::fs::FileType;

/// Before this version files could be cut short, whatever the rules said (Linux 6.2).
const NEEDED: libc::c_long = 3;

/// `LANDLOCK_CREATE_RULESET_VERSION`: no ruleset, only which version this is.
const VERSION: libc::c_uint = 1;

/// Whether rulesets can be had here that keep all files from being changed.
///
/// # Errors
/// `ENOSYS` where the kernel has no Landlock, `EOPNOTSUPP` where it was not switched on at boot; an error that names
/// the version, where that is too old.
pub fn check() -> io::Result<()> {
    // SAFETY: with this flag the call takes no pointer and only tells the version.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION)
    };
    match version {
        NEEDED.. => Ok(()),
        0.. => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("its version here is {version}, and {NEEDED} is needed"),
        )),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A ruleset by which no file can be changed but `writable` and what lies below them, and, from Linux 6.12 on, no
/// process outside gets a signal.
///
/// # Errors
/// What the kernel reports.
pub fn ruleset(writable: &[OwnedFd]) -> io::Result<OwnedFd> {
    let ruleset: Option<OwnedFd> = build(writable).map_err(io::Error::other)?.into();
    ruleset.ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn build(writable: &[OwnedFd]) -> Result<landlock::RulesetCreated, RulesetError> {
    // What later versions of Landlock know besides is no change of a file.
    let rights = AccessFs::from_write(ABI::V3);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(rights)?
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::Signal)?
        .create()?;
    for file in writable {
        let here = if is_folder(file) { rights } else { rights & AccessFs::from_file(ABI::V3) };
        ruleset = ruleset.add_rule(PathBeneath::new(file, here))?;
    }
    Ok(ruleset)
}

fn is_folder(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|file| FileType::from_raw_mode(file.st_mode) == FileType::Directory)
}

/// Puts the calling thread, and all that it starts from now on, under a ruleset for good.
///
/// # Errors
/// `EPERM` unless privileges cannot be gained any more; `E2BIG` within 16 others.
pub fn enter(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes a descriptor and no pointer.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
