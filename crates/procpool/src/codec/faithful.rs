//! Trying out, in debug builds, whether a type arrives as it was sent.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Fault, Reason};
use super::{Buffers, Encoded, decode_whole, encode};

/// How many values of a type a thread tries: the first may be one whose variant or fields happen to be well.
const TRIED_VALUES: u8 = 16;

thread_local! {
    static TRIED: RefCell<HashMap<TypeId, u8>> = RefCell::default();
}

/// Whether another value of this type is to be tried, which is then counted.
pub(super) fn is_due<T: 'static>() -> bool {
    let count = |tried: &RefCell<HashMap<TypeId, u8>>| {
        let mut tried = tried.borrow_mut();
        let values = tried.entry(TypeId::of::<T>()).or_default();
        let due = *values < TRIED_VALUES;
        *values += u8::from(due);
        due
    };
    // Nothing is tried on a thread that is ending.
    TRIED.try_with(count).unwrap_or(false)
}

/// Decodes what was sent, encodes that again, and compares.
pub(super) fn try_out<T: Serialize + DeserializeOwned>(sent: &[u8]) -> Result<(), Fault> {
    let arrived: T = decode_whole(sent, &Buffers::NONE).map_err(unfaithful)?;
    let again = encode_alone(&arrived)?;
    // A type that is encoded in another way each time, such as the time left until a deadline, cannot be
    // judged.
    if same_in_some_order(sent, &again) || !same_in_some_order(&again, &encode_alone(&arrived)?) {
        return Ok(());
    }
    Err(unfaithful(format_args!(
        "{} bytes were sent, and encoding what arrived gives other ones",
        sent.len()
    )))
}

fn encode_alone<T: Serialize>(value: &T) -> Result<Vec<u8>, Fault> {
    let mut encoded = Encoded::default();
    encode(value, &mut encoded).map_err(unfaithful)?;
    Ok(encoded.head)
}

fn unfaithful(what: impl Display) -> Fault {
    Reason::Unfaithful(what.to_string()).into()
}

fn same_in_some_order(one: &[u8], other: &[u8]) -> bool {
    let counts = |bytes: &[u8]| {
        let mut counts = [0_usize; 256];
        bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        counts
    };
    one == other || counts(one) == counts(other)
}
