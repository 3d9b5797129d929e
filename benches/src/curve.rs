//! How cost grows: a curve, and the contenders whose points are compared in it.

use crate::case::Failure;

/// Measures one point of a curve: a figure for each of its measures, or none where the machine has no room for it.
pub(crate) type Trace = Box<dyn FnMut(u64) -> Result<Option<Vec<f64>>, Failure>>;

/// One comparison over a range.
pub(crate) struct Curve {
    /// Names its files.
    pub(crate) name: &'static str,
    /// What a point is, with its unit.
    pub(crate) axis: &'static str,
    /// What is measured at each point, with the units.
    pub(crate) measures: &'static [&'static str],
    /// In ascending order.
    pub(crate) points: &'static [u64],
    /// Where a quick run ends.
    pub(crate) last_when_quick: u64,
    pub(crate) processes: Processes,
    /// How often all of it is measured; each point is the median.
    pub(crate) rounds: usize,
    pub(crate) contenders: &'static [Tracer],
}

/// Whether points share a process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processes {
    /// Each is measured in a process where nothing happened before.
    OneForEachPoint,
    /// A contender's points are measured one after the other in one process.
    OneForAllPoints,
}

/// One who takes part in a curve.
pub(crate) struct Tracer {
    pub(crate) name: &'static str,
    pub(crate) prepare: fn() -> Result<Trace, Failure>,
}

impl Curve {
    pub(crate) fn points(&self, quick: bool) -> &'static [u64] {
        let last = if quick { self.last_when_quick } else { u64::MAX };
        &self.points[..self.points.partition_point(|point| *point <= last)]
    }
}
