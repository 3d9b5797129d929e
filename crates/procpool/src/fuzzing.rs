//! For the fuzz targets in `fuzz/`: both ends of what travels between processes, without the processes.

use procpool_engine::Reply;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::area::{Area, area_of};
use crate::codec::{self, Buffers, CodecError, Encoded};
use crate::error::Result;
use crate::{function, task, worker};

/// A payload: its head, and the area of its buffers.
#[derive(Debug)]
pub struct Message {
    /// Encoded values.
    pub head: Vec<u8>,
    /// What the head refers to.
    pub area: Vec<u8>,
}

impl Message {
    fn of(encoded: &Encoded) -> Self {
        Self { head: encoded.head.clone(), area: area_of(encoded) }
    }

    fn buffers(&self) -> Buffers {
        if self.area.is_empty() { Buffers::NONE } else { Buffers::new(Area::shifted(&self.area, 0)) }
    }

    /// Encodes a value.
    pub fn encode<T: Serialize>(value: &T) -> std::result::Result<Self, CodecError> {
        let mut encoded = Encoded::default();
        codec::encode(value, &mut encoded).map(|()| Self::of(&encoded))
    }

    /// Decodes a value, and says how many bytes of the head it took.
    pub fn decode<T: DeserializeOwned>(&self) -> std::result::Result<(T, usize), CodecError> {
        codec::decode(&self.head, &self.buffers())
    }

    /// The worker's side: does what this request asks for. Gives whether it returned, and the reply; `None` for a
    /// function that goes by its place in the program: a worker believes the place, as far as it lies in the program's
    /// text, since this program's memory is all that a request could spoil.
    pub fn answer(&self) -> Option<(bool, Self)> {
        let mut out = Encoded::default();
        if function::is_by_offset(&self.head) {
            let _ = function::read(&self.head);
            return None;
        }
        let reply = worker::run_request(&self.head, &self.buffers(), &mut out);
        Some((reply == Reply::Returned, Self::of(&out)))
    }

    /// The parent's side: the reply to one call.
    pub fn take<R: DeserializeOwned>(&self, returned: bool) -> Result<R> {
        if returned {
            return Ok(codec::decode_whole(&self.head, &self.buffers())?);
        }
        Err(task::read_raised(&self.head, &self.buffers()))
    }

    /// The parent's side: the reply to a chunk of so many items.
    pub fn take_items<R: DeserializeOwned>(&self, items: usize) -> Vec<Result<R>> {
        let mut results = Vec::with_capacity(items);
        task::read_items(items, &self.head, &self.buffers(), &mut |result| results.push(result));
        results
    }
}
