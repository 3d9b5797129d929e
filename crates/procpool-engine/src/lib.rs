//! The engine of procpool: tasks as bytes, run by worker processes over one region of shared memory.
//!
//! # The way of a task
//!
//! [`Pool::submit`] writes the payload into a slot of the region (or into a block of its arena), puts the slot on the
//! queue and wakes a worker, if one sleeps. A [`Worker`] claims the slot, hands the payload to its host, writes the
//! reply into the same slot, marks it done and wakes whoever waits. [`Task::take`] reads it. No thread stands
//! between the two, in either direction. The *supervisor*, one thread of the parent, starts workers through the
//! host's [`launch::Launcher`], hears of their deaths, and settles what they left; the *collector*, another, exists in
//! pools that have listeners.
//!
//! The engine knows nothing of what a task means: hosts encode functions and arguments, and account for errors, in
//! bytes of their own. `slot` has the table of states, `PROTOCOL.md` the argument why nothing is lost.
#![cfg_attr(loom, allow(dead_code, unreachable_pub, unused_imports))]
#![cfg_attr(
    shuttle,
    allow(dead_code, private_interfaces, unreachable_code, unused_imports, unused_variables)
)]

mod arena;
mod ended;
mod faults;
#[cfg(all(test, loom))]
mod models;
mod queue;
mod slot;
mod sync;
mod wake;

#[cfg(not(loom))]
mod agenda;
#[cfg(not(loom))]
mod attempts;
#[cfg(not(loom))]
mod block;
#[cfg(not(loom))]
mod collect;
#[cfg(not(loom))]
mod crew;
#[cfg(not(loom))]
mod dump;
#[cfg(not(loom))]
mod extras;
#[cfg(not(loom))]
pub mod launch;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod limits;
#[cfg(not(loom))]
pub mod os;
#[cfg(not(loom))]
mod outcome;
#[cfg(not(loom))]
mod payload;
#[cfg(not(loom))]
mod policy;
#[cfg(not(loom))]
mod pool;
#[cfg(not(loom))]
mod region;
#[cfg(not(loom))]
mod reserve;
#[cfg(all(any(test, feature = "fuzzing"), not(any(loom, shuttle))))]
mod rubbish;
#[cfg(not(loom))]
mod sandbox;
#[cfg(not(loom))]
mod seat;
#[cfg(not(loom))]
mod settle;
#[cfg(not(loom))]
mod shared;
#[cfg(not(loom))]
mod spin;
#[cfg(not(loom))]
mod stats;
#[cfg(not(loom))]
mod submit;
#[cfg(not(loom))]
mod supervisor;
#[cfg(not(loom))]
mod task;
#[cfg(not(loom))]
mod view;
#[cfg(not(loom))]
mod wakeup;
#[cfg(all(test, shuttle))]
mod whole;
#[cfg(not(loom))]
mod worker;

#[cfg(not(loom))]
pub use crate::{
    block::{ALIGNMENT, Lease},
    dump::{Dump, TaskDump},
    outcome::{Breakdown, Death, Failure, Outcome, Refusal, TimeLimit},
    payload::{Parts, Payload},
    policy::RestartIntensity,
    pool::{Config, MAX_WORKERS, Pool, PoolError},
    sandbox::{Confinement, Mechanism, Sandbox, SandboxError},
    slot::Ticket,
    stats::{Stats, WorkerStats},
    submit::{Deadline, Limits},
    task::Task,
    worker::{Call, Notebook, Reply, Worker},
};

#[doc(hidden)]
pub use faults::Point;
#[cfg(all(feature = "faults", not(any(loom, shuttle))))]
#[doc(hidden)]
pub use faults::at;

/// For the fuzz targets in `fuzz/`: what the engine reads that others wrote, as functions of bytes.
#[cfg(all(feature = "fuzzing", not(loom)))]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::launch::zygote::hostile::{converse, decode};
    pub use crate::rubbish::script::live;
}
