//! How a buffer passes between [`Buffer`](crate::Buffer) and the codec, through serde, which has no room for
//! it.
//!
//! A buffer shows itself as a newtype struct of a certain name. Other formats see what is inside: a sequence.
//! The codec knows the name, and asks for the buffer itself, which is laid into a place of this thread:
//!
//! ```text
//! sending:    codec  request(..)  ──►  buffer  offer(..)      ──►  codec takes it from the place
//! receiving:  codec  deliver(..)  ──►  buffer  collect()
//! ```
//!
//! The place is in use only while the buffer's own code runs, never while a user's code does. So it does not
//! matter that a user's `Serialize` may write JSON or submit another task in the midst of an encoding.

use std::cell::Cell;

use super::Lent;

/// The name of the newtype struct as which a buffer shows itself.
pub(crate) const BUFFER_NAME: &str = "procpool::Buffer";

enum Place {
    Empty,
    Requested,
    Holds(Lent),
}

thread_local! {
    static PLACE: Cell<Place> = const { Cell::new(Place::Empty) };
}

/// Runs a buffer's `serialize` and returns what it offered: nothing, if it is no buffer but has the name of
/// one.
pub(super) fn request<E>(serialize: impl FnOnce() -> Result<(), E>) -> Result<Option<Lent>, E> {
    PLACE.set(Place::Requested);
    let outcome = serialize();
    let place = PLACE.replace(Place::Empty);
    outcome.map(|()| if let Place::Holds(lent) = place { Some(lent) } else { None })
}

/// Hands a buffer to the codec, if the codec asked for it just now.
pub(crate) fn offer(lend: impl FnOnce() -> Lent) -> bool {
    let requested = matches!(PLACE.replace(Place::Empty), Place::Requested);
    if requested {
        PLACE.set(Place::Holds(lend()));
    }
    requested
}

/// Hands a buffer to the `visit` that builds a [`Buffer`](crate::Buffer).
pub(super) fn deliver<R>(lent: Lent, visit: impl FnOnce() -> R) -> R {
    PLACE.set(Place::Holds(lent));
    let result = visit();
    PLACE.set(Place::Empty);
    result
}

/// Takes what the codec delivered.
pub(crate) fn collect() -> Option<Lent> {
    match PLACE.replace(Place::Empty) {
        Place::Holds(lent) => Some(lent),
        Place::Empty | Place::Requested => None,
    }
}
