//! *I4*, tested: whatever a worker writes over the region, the parent does not panic, crash or hang, touches nothing
//! outside of the region, and ends every task that it accepted.
//!
//! The scribbling worker is a second mapping of the same memory; the honest ones are played by the test, with the real
//! code of queue, slots and arena.

mod house;
mod scribble;
#[cfg(feature = "fuzzing")]
pub(crate) mod script;
#[cfg(test)]
mod tests;

const SEATS: u32 = 4;
