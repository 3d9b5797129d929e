//! What the parent, and a worker, of a Python program read before the interpreter sees any of it.

// The crate that has it is an extension module, which no other crate can use; this file of it knows nothing of Python.
#[path = "../../crates/procpool-python/src/frame.rs"]
#[allow(dead_code, reason = "not all of it is read here")]
mod read;

use self::read::{ALIGNMENT, Frame};

/// Takes a head apart: the first two bytes say how long the area of the buffers is.
pub fn frames(data: &[u8]) {
    let Some((area, head)) = data.split_first_chunk::<2>() else { return };
    let area = usize::from(u16::from_le_bytes(*area));
    let Some(frame) = Frame::read(head) else { return };
    let pickle = &head[frame.start..];
    let mut lengths = Vec::new();
    let mut end = 0_usize;
    for place in frame.buffers(area) {
        let Some(place) = place else { return };
        assert_eq!(place.start, end.next_multiple_of(ALIGNMENT), "where the sender put it");
        assert!(place.start <= place.end && place.end <= area, "outside of the area");
        end = place.end;
        lengths.push(place.len());
    }
    assert_eq!(frame.has_no_buffers(), lengths.is_empty());
    let mut again = read::begin(frame.call, frame.cacheable, lengths.into_iter(), frame.function);
    again.extend(pickle);
    // Two bytes mean nothing, and of one only whether it is zero.
    assert!(again.len() == head.len() && again[4..] == head[4..], "it is not what would have been sent");
}
