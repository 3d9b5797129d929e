//! Buffers travel beside the head: where they lie, what may refer to them, and whose they are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{arrived, encoded, error_text, send};
use crate::Buffer;
use crate::codec::area::{Area, area_of};
use crate::codec::{Buffers, Encoded, INLINE_BYTES, Lease, decode_whole, encode};

#[test]
fn buffers_on_either_side_of_the_inline_limit_arrive() {
    for length in [0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1] {
        let buffer = Buffer::from(vec![5_u8; length]);
        assert_eq!(encoded(&buffer).unwrap().buffers.len(), usize::from(length > INLINE_BYTES));
        assert_eq!(send(&buffer).unwrap(), buffer);
    }
}

#[test]
fn a_buffer_that_is_sent_twice_is_copied_once() {
    let table = Buffer::from(vec![1.5_f64; 1000]);
    let out = encoded(&vec![table.clone(); 20]).unwrap();
    assert_eq!(out.buffers.len(), 1);
    let tables: Vec<Buffer<f64>> = decode_whole(&out.head, &arrived(&out)).unwrap();
    assert!(tables.len() == 20 && tables.iter().all(|one| *one == table));
}

/// A head that refers to a buffer.
fn reference(length: u64, offset: u64) -> Vec<u8> {
    postcard::to_stdvec(&(length, offset)).unwrap()
}

#[test]
fn references_that_are_no_buffers_place_are_errors() {
    let buffers = Buffers::new(Area::shifted(&[0; 4096], 0));
    assert!(decode_whole::<Buffer<u64>>(&reference(4032, 64), &buffers).is_ok());
    for (length, offset) in [
        (4040, 64),
        (4097, 0),
        (2000, 4096),
        (2000, 1 << 40),
        (2000, u64::MAX - 63),
        (u64::MAX, 64),
        (2000, 8),
    ] {
        let text = error_text(decode_whole::<Buffer<u64>>(&reference(length, offset), &buffers));
        assert!(text.contains("not the place of a buffer"), "{text}");
    }
    assert!(decode_whole::<Buffer<u64>>(&reference(2000, 0), &Buffers::NONE).is_err());
}

#[test]
fn a_buffer_that_is_no_whole_number_of_elements_is_an_error() {
    let buffers = Buffers::new(Area::shifted(&[0; 4096], 0));
    assert!(
        error_text(decode_whole::<Buffer<u64>>(&reference(2001, 0), &buffers)).contains("buffer of `u64`")
    );
    assert!(decode_whole::<Buffer<u64>>(&[3, 1, 2, 3], &buffers).is_err());
}

#[test]
fn buffers_of_elements_without_size_have_a_length_only() {
    let units = Buffer::from(vec![(); 5000]);
    assert_eq!(encoded(&units).unwrap().head.len(), 2);
    assert_eq!(send(&units).unwrap(), units);
}

#[test]
fn a_received_buffer_is_read_where_it_lies_and_given_back_with_its_last_clone() {
    let sent = Buffer::from((0..1000).collect::<Vec<u32>>());
    let out = encoded(&sent).unwrap();
    let area = Area::shifted(&area_of(&out), 0);
    let received: Buffer<u32> = decode_whole(&out.head, &Buffers::new(area.clone())).unwrap();
    assert_eq!(received.as_ptr().addr(), area.bytes().as_ptr().addr());
    let clone = received.clone();
    drop(received);
    assert_eq!(Arc::strong_count(&area), 2);
    assert_eq!(clone, sent);
    drop(clone);
    assert_eq!(Arc::strong_count(&area), 1);
}

#[test]
fn a_received_buffer_can_be_sent_on_without_another_copy() {
    let out = encoded(&Buffer::from(vec![9_u16; 1000])).unwrap();
    let area = Area::shifted(&area_of(&out), 0);
    let received: Buffer<u16> = decode_whole(&out.head, &Buffers::new(area.clone())).unwrap();
    let again = encoded(&received).unwrap();
    assert_eq!(again.buffers[0].bytes().as_ptr(), area.bytes().as_ptr());
    assert_eq!(decode_whole::<Buffer<u16>>(&again.head, &arrived(&again)).unwrap(), received);
}

#[test]
fn a_buffer_that_lies_askew_is_copied() {
    let sent = Buffer::from(vec![0.25_f64; 1000]);
    let out = encoded(&sent).unwrap();
    let askew = Buffers::new(Area::shifted(&area_of(&out), 1));
    assert_eq!(decode_whole::<Buffer<f64>>(&out.head, &askew).unwrap(), sent);
}

/// Encodes something else, in this format and in another, whenever it is encoded.
struct Busy(Buffer<u8>);

impl Serialize for Busy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let other = Buffer::from(vec![3_u8; 4000]);
        let elsewhere = postcard::to_stdvec(&other).unwrap();
        assert_eq!(postcard::from_bytes::<Buffer<u8>>(&elsewhere).unwrap(), other);
        let whole = Encoded::with_spare(|out| encode(&other, out).map(|()| out.area_length())).unwrap();
        assert_eq!(whole, 4032);
        self.0.serialize(serializer)
    }
}

#[test]
fn an_encoding_in_the_midst_of_another_disturbs_neither() {
    let (one, two) = (Buffer::from(vec![1_u8; 2000]), Buffer::from(vec![2_u8; 2000]));
    Encoded::with_spare(|out| {
        encode(&(Busy(one.clone()), Busy(two.clone())), out).unwrap();
        let (first, second): (Buffer<u8>, Buffer<u8>) = decode_whole(&out.head, &arrived(out)).unwrap();
        assert!(first == one && second == two);
    });
}

struct Panicking;

impl Serialize for Panicking {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("as the test wants");
    }
}

#[test]
fn a_panic_in_the_midst_of_an_encoding_does_not_spoil_the_next() {
    let big = Buffer::from(vec![1_u8; 2000]);
    let panicking = || Encoded::with_spare(|out| encode(&(1_u8, &big, Panicking), out).is_ok());
    assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
    Encoded::with_spare(|out| {
        assert!(out.head.is_empty() && out.buffers.is_empty());
        encode(&big, out).unwrap();
        assert_eq!(decode_whole::<Buffer<u8>>(&out.head, &arrived(out)).unwrap(), big);
    });
    assert_eq!(postcard::to_stdvec(&big).unwrap().len(), 2002);
}
