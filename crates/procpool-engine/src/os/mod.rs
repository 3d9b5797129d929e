//! The seam to the operating system: every system call of the engine is made below this module.
//!
//! One small file per family of calls. Linux only as yet; a port replaces these files and nothing else. What a
//! kernel or a sandbox may lack is asked for at run time and has a fallback; `EPERM` counts as missing, since
//! that is what old container profiles answer for calls that they do not know.

pub mod clock;
pub mod cpu;
pub mod futex;
pub mod landlock;
pub mod memory;
pub mod poll;
pub mod process;
pub mod rights;
#[cfg(all(
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
pub mod seccomp;
#[cfg(not(all(
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
)))]
#[path = "seccomp_unknown.rs"]
pub mod seccomp;
pub mod signal;
pub mod socket;
