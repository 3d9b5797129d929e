//! What procpool reads that others wrote, fed with bytes that nobody wrote.
//!
//! A target is a function of bytes that panics where something does not hold which should. libFuzzer makes the bytes up
//! (`make fuzz`); the bytes that once led somewhere new are kept in `corpus/`, and every test run reads them again.

mod frame;
mod memory;
mod message;
mod replies;
mod requests;
mod value;
mod values;

pub use procpool_engine::fuzzing::{converse as conversation, decode as messages, live as region};

pub use self::frame::frames;
pub use self::replies::replies;
pub use self::requests::requests;
pub use self::values::values;

/// Reads some bytes as another process's.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 7] = [
    ("region", region),
    ("messages", messages),
    ("conversation", conversation),
    ("values", values),
    ("requests", requests),
    ("replies", replies),
    ("frames", frames),
];
