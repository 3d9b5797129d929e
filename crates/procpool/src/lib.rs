//! A process pool that loses no task: one crash costs one task, and nothing is left behind.
//!
//! ```
//! use procpool::Pool;
//!
//! fn main() -> procpool::Result<()> {
//!     let pool = Pool::new(2)?;
//!     let squares = pool.map(|x: u64| x * x, 0..10)?;
//!     assert_eq!(squares[9], 81);
//!     let one = pool.apply_async(|(a, b): (u32, u32)| a + b, (2, 3))?;
//!     assert_eq!(one.get()?, 5);
//!     pool.close();
//!     pool.join()
//! }
//! ```
//!
//! Functions are `fn` items or closures that capture nothing; they take one argument, a tuple where they need more.
//! Arguments and results are whatever serde can carry; [`Buffer`]s of plain numbers travel without being copied at
//! the receiver.
//!
//! Workers are this program, run again: before `main` the crate looks whether this process is to be one. Nothing is
//! needed in `main`, in tests, or in examples. See [`init`] for where that cannot work. Linux only.

mod buffer;
mod chunks;
mod codec;
mod entry;
mod error;
mod function;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod imap;
mod map;
mod options;
mod panic;
mod pool;
mod task;
mod worker;

pub use procpool_engine::{
    Dump, Mechanism, RestartIntensity, Sandbox, SandboxError, Stats, TaskDump, TimeLimit, WorkerStats,
};
pub use procpool_macros::task;

pub use self::buffer::Buffer;
pub use self::codec::CodecError;
pub use self::entry::init;
pub use self::error::{Error, Result, WorkerDeath};
pub use self::handle::AsyncResult;
pub use self::imap::{Imap, ImapUnordered};
pub use self::map::MapResult;
pub use self::options::Options;
pub use self::pool::{Builder, Pool};

/// For the code that [`macro@task`] writes.
#[doc(hidden)]
pub mod __private {
    pub use linkme;

    pub use crate::function::{NamedTask, TASKS};
}
