//! How deep values may lie in one another before serde's recursion would run out of stack.
//!
//! Two things are counted. *Levels* are the contract: up to [`NESTING_LIMIT`] of them can be sent, in debug
//! and in release builds alike. *Stack* is what in truth runs out: measured with debug builds, a level of a
//! linked list takes 0.5 KiB, of a struct with a handful of fields 1 KiB, but of an enum with 36 variants of
//! five fields, or of a struct with an array of 4 KiB, 13 KiB. Such types end in the same error, at fewer
//! levels. Threads have 2 MiB if nobody asked for less, so there is as much left for the caller as is used
//! here.

use super::error::Reason;

/// How deep values may lie in one another: each struct, tuple, sequence, map, option and variant with content
/// is a level.
pub(super) const NESTING_LIMIT: u32 = 512;

/// How much stack one encoding or decoding may take.
const STACK_LIMIT: usize = 1024 * 1024;

/// Up to here the stack is not looked at. Ordinary data is never deeper, and under the address sanitizer
/// locals do not lie on the stack, so that there the measure is wrong and the error comes here.
const SHALLOW: u32 = 32;

/// Where on the stack a walk began.
pub(super) struct Nesting {
    stack_at_start: usize,
}

impl Nesting {
    pub(super) fn begin() -> Nesting {
        Nesting { stack_at_start: stack_address() }
    }

    /// Whether a walk may go on at this depth.
    #[inline]
    pub(super) fn check(&self, depth: u32) -> Result<(), Reason> {
        if depth <= SHALLOW { Ok(()) } else { self.check_deep(depth) }
    }

    #[cold]
    fn check_deep(&self, depth: u32) -> Result<(), Reason> {
        let used = self.stack_at_start.abs_diff(stack_address());
        if depth > NESTING_LIMIT || used > STACK_LIMIT { Err(Reason::TooDeep(depth)) } else { Ok(()) }
    }
}

fn stack_address() -> usize {
    let here = 0_u8;
    (&raw const here).addr()
}
