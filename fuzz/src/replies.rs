//! The parent reads what a worker gave for a reply: a result for each item, or an error that can be shown.

use procpool::{Error, Result};

use crate::memory;
use crate::message::message;
use crate::value::Value;

/// Much, but nothing that grows faster than the reply and the number of items do.
const BYTES_OF_A_BYTE: usize = 4 << 10;
const BYTES_OF_AN_ITEM: usize = 4 << 10;

/// Reads a reply to one call, and to a chunk: the first two bytes say whether it returned, and how many items it has.
pub fn replies(data: &[u8]) {
    let [returned, items, rest @ ..] = data else { return };
    let Some(reply) = message(rest) else { return };
    let items = usize::from(*items);
    let (results, most) = memory::most(|| {
        let one = reply.take::<Value>(returned & 1 == 1);
        (one, reply.take_items::<Value>(items))
    });
    // An error that holds for many items is cloned for each.
    let bound = data.len() * (BYTES_OF_A_BYTE + items) + items * BYTES_OF_AN_ITEM + 2 * reply.area.len();
    assert!(most <= bound, "{most} bytes of memory for {} bytes of head", reply.head.len());
    let (one, many) = results;
    assert_eq!(many.len(), items);
    std::iter::once(one).chain(many).for_each(show);
}

fn show(result: Result<Value>) {
    match result {
        Ok(value) => drop(format!("{value:?}")),
        Err(error) => {
            assert!(!matches!(error, Error::WorkerDied(_)), "a reply says nothing of deaths");
            drop(error.to_string());
        }
    }
}
