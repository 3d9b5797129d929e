//! What travels in a request and in a reply, beside the function's name.
//!
//! * A request for one call: the function, the argument. Its reply, returned: the result; raised: a [`Raised`].
//! * A request for a chunk: the function, a count of four bytes, so many arguments. Its reply: for each argument a
//!   byte that says whether a result or a [`Raised`] follows. So one item's panic does not cost the others. A reply
//!   that ends early ends with an error that holds for the rest as well.

use std::sync::Arc;

use procpool_engine::{Lease, Payload};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{self, Buffers, Encoded};
use crate::error::{Error, Result};

/// A worker's account of what went wrong with a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Raised {
    Panicked(Panic),
    /// The argument could not be decoded, or the function not found.
    Argument(String),
    /// The result could not be encoded.
    Result(String),
}

/// A panic, as its hook saw it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Panic {
    pub(crate) message: String,
    /// File, line and column.
    pub(crate) location: Option<String>,
    pub(crate) backtrace: Option<String>,
}

/// In a chunk's reply: a result follows.
pub(crate) const ITEM_RETURNED: u8 = 0;
/// In a chunk's reply: a [`Raised`] follows.
pub(crate) const ITEM_RAISED: u8 = 1;

/// The engine's memory, as the codec borrows it.
struct Area(Arc<Lease>);

impl codec::Lease for Area {
    fn bytes(&self) -> &[u8] {
        self.0.buffers()
    }
}

/// The buffers that came with a payload.
pub(crate) fn buffers(lease: Option<&Arc<Lease>>) -> Buffers {
    match lease {
        Some(lease) if !lease.buffers().is_empty() => Buffers::new(Arc::new(Area(lease.clone()))),
        _ => Buffers::NONE,
    }
}

/// Lends the head of a payload that arrived, in memory of this process's own: a worker out of its mind may write over the
/// shared one while it is read, and a string that was looked at must stay one (*I4*). Buffers stay where they are: of
/// plain numbers any bytes will do.
pub(crate) fn with_head<T>(payload: &Payload, read: impl FnOnce(&[u8]) -> T) -> T {
    Encoded::with_spare(|own| {
        own.head.extend_from_slice(payload.head());
        read(&own.head)
    })
}

/// The buffers of a payload that arrived.
pub(crate) fn buffers_of(payload: &Payload) -> Buffers {
    buffers(payload.lease())
}

/// What a worker says of the call that a task was.
pub(crate) fn read_raised(head: &[u8], buffers: &Buffers) -> Error {
    codec::decode_whole::<Raised>(head, buffers).map_or_else(Error::from, Error::from)
}

/// Reads the reply to a chunk of so many items, and gives each item's result, in order, to `give`. Where the reply ends
/// early, or makes no sense, the rest have the error that says so.
pub(crate) fn read_items<R: DeserializeOwned>(
    items: usize,
    mut head: &[u8],
    buffers: &Buffers,
    give: &mut impl FnMut(Result<R>),
) {
    for given in 0..items {
        match read_item(&mut head, buffers) {
            Ok(item) => give(item),
            Err(error) => return (given..items).for_each(|_| give(Err(error.clone()))),
        }
    }
}

/// The next item of a chunk's reply. The outer error is that of the rest as well: where the next one begins is not
/// known, here or, where the reply ends, in the worker.
fn read_item<R: DeserializeOwned>(rest: &mut &[u8], buffers: &Buffers) -> Result<Result<R>> {
    let (&kind, item) = rest.split_first().ok_or(Error::Corrupt)?;
    if kind == ITEM_RETURNED {
        let (value, used) = codec::decode::<R>(item, buffers)?;
        *rest = &item[used..];
        return Ok(Ok(value));
    }
    let (raised, used) = codec::decode::<Raised>(item, buffers)?;
    *rest = &item[used..];
    if rest.is_empty() { Err(raised.into()) } else { Ok(Err(raised.into())) }
}
