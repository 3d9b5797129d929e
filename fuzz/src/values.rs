//! Decoding: a value or an error, in memory that its bytes account for; and whatever is a value is the same one when it
//! was sent on.

use std::collections::HashMap;
use std::fmt::Debug;

use procpool::Buffer;
use procpool::fuzzing::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::memory;
use crate::message::message;
use crate::value::Value;

/// What a byte may become: a node of a map with room for eleven values, twice where a list grows.
const BYTES_OF_A_BYTE: usize = 4 << 10;

/// Reads a payload as values of many types.
pub fn values(data: &[u8]) {
    let Some(message) = message(data) else { return };
    check::<Value>(&message);
    check::<Vec<Value>>(&message);
    check::<(Buffer<u32>, Buffer<[u64; 3]>, Buffer<u8>)>(&message);
    check::<HashMap<String, Vec<Option<u64>>>>(&message);
    check::<Vec<Vec<Vec<u64>>>>(&message);
    check::<Vec<()>>(&message);
}

fn check<T: Serialize + DeserializeOwned + Debug + PartialEq>(message: &Message) {
    let (decoded, most) = memory::most(|| message.decode::<T>());
    let bound = (message.head.len() + 1) * BYTES_OF_A_BYTE + 2 * message.area.len();
    assert!(most <= bound, "{most} bytes of memory for {} bytes of head", message.head.len());
    let Ok((value, used)) = decoded.inspect_err(|error| drop(error.to_string())) else { return };
    assert!(used <= message.head.len());
    let sent = Message::encode(&value).expect("what was decoded can be encoded");
    let (again, used) = sent.decode::<T>().expect("what was encoded can be decoded");
    assert_eq!(used, sent.head.len());
    assert_eq!(again, value);
}
