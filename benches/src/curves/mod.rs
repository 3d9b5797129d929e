//! The curves, one file each.

mod callers;
mod idle;
mod length;
mod load;
mod long_run;
mod payload;
mod pending;
mod workers;

use crate::curve::Curve;

/// All curves, in the order in which they are measured.
pub(crate) const ALL: &[&Curve] = &[
    &pending::PENDING,
    &payload::PAYLOAD,
    &workers::WORKERS,
    &callers::CALLERS,
    &length::LENGTH,
    &load::LOAD,
    &idle::IDLE,
    &long_run::LONG_RUN,
];
