//! The cases, one file per family.

pub(crate) mod buffers;
pub(crate) mod calls;
pub(crate) mod many;
pub(crate) mod pending;
pub(crate) mod start;

use crate::case::Case;

/// All cases, in the order in which they run.
pub(crate) const ALL: &[&Case] = &[
    &calls::ROUNDTRIP_EMPTY,
    &calls::ROUNDTRIP_PARKED,
    &many::THROUGHPUT_EMPTY,
    &many::MAP_U64,
    &start::START_TO_FIRST_RESULT,
    &start::REPLACE_DEAD_WORKER,
    &buffers::ARGUMENT,
    &buffers::RESULT,
    &pending::PENDING_MILLION,
    &pending::PENDING_MILLION_DESCRIPTORS,
];
