//! A worker reads a request, and its parent the reply: whatever was asked, the reply is one that can be read.

use std::fmt::Debug;

use procpool::fuzzing::Message;
use procpool::{Buffer, Error};
use serde::de::DeserializeOwned;

use crate::message::message;
use crate::value::Value;

/// Tasks by name: a name may be any bytes, while a function that goes by its place is jumped to.
mod tasks {
    use procpool::Buffer;

    use crate::value::Value;

    #[procpool::task(name = "same")]
    pub(super) fn same(value: Value) -> Value {
        value
    }

    #[procpool::task(name = "add")]
    pub(super) fn add((one, other): (u64, u64)) -> u64 {
        one.wrapping_add(other)
    }

    #[procpool::task(name = "sum")]
    pub(super) fn sum(numbers: Buffer<u32>) -> Buffer<u64> {
        numbers.iter().map(|&number| u64::from(number)).collect()
    }
}

/// Chunks of more items than that are read no further.
const ITEMS: u32 = 4096;

/// Answers a request, and reads the reply.
pub fn requests(data: &[u8]) {
    let Some(message) = message(data) else { return };
    let Some((returned, reply)) = message.answer() else { return };
    if !returned {
        let error = reply.take::<()>(false).expect_err("an account of what went wrong");
        assert!(is_account(&error), "{error:?}");
        return;
    }
    let [kind, length, rest @ ..] = message.head.as_slice() else { panic!("answered without a name") };
    let (name, arguments) = rest.split_at(usize::from(*length));
    let items = (*kind == CHUNK).then(|| count(arguments));
    match name {
        b"same" => read::<Value>(&reply, items),
        b"add" => read::<u64>(&reply, items),
        b"sum" => read::<Buffer<u64>>(&reply, items),
        other => panic!("there is no task {other:?}"),
    }
}

/// The byte that begins a request for a chunk by a name.
const CHUNK: u8 = 2;

/// How many items a chunk has: what the parent knows by itself.
fn count(arguments: &[u8]) -> usize {
    arguments.first_chunk().map_or(0, |count| u32::from_le_bytes(*count).min(ITEMS) as usize)
}

fn read<R: DeserializeOwned + Debug>(reply: &Message, items: Option<usize>) {
    let Some(items) = items else { return drop(reply.take::<R>(true).expect("the result")) };
    let results = reply.take_items::<R>(items);
    assert_eq!(results.len(), items);
    let mut errors = results.into_iter().filter_map(Result::err);
    assert!(errors.all(|error| is_account(&error)), "an item's reply cannot be read");
}

/// Whether the worker said what was wrong: its parent could read all that it wrote, and no task panicked.
fn is_account(error: &Error) -> bool {
    matches!(error, Error::Argument { .. } | Error::ResultNotSent { .. })
}
