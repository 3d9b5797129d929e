//! A payload made of a fuzzer's bytes.

use procpool::fuzzing::Message;

/// Two bytes say how long the head is; what follows that is the area of the buffers. Of its bytes there are sixteen times
/// as many, so that few make a buffer that is long enough to travel beside the head.
pub(crate) fn message(data: &[u8]) -> Option<Message> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (head, area) = rest.split_at(length);
    Some(Message { head: head.to_vec(), area: area.repeat(16) })
}
