//! What the codec promises: values come back, and nothing that arrives can do harm.

mod buffers;
mod types;
mod value;

use std::cell::Cell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use self::value::{Raw, Value, values, values_without_buffers};
use super::area::{Area, area_of};
use super::nesting::NESTING_LIMIT;
use super::{BUFFER_ALIGNMENT, Buffers, CodecError, Encoded, INLINE_BYTES, decode, decode_whole, encode};
use crate::Buffer;

fn encoded<T: Serialize + ?Sized>(value: &T) -> Result<Encoded, CodecError> {
    let mut out = Encoded::default();
    encode(value, &mut out).map(|()| out)
}

fn arrived(encoded: &Encoded) -> Buffers {
    Buffers::new(Area::shifted(&area_of(encoded), 0))
}

fn send<T: Serialize + DeserializeOwned>(value: &T) -> Result<T, CodecError> {
    let encoded = encoded(value)?;
    decode_whole(&encoded.head, &arrived(&encoded))
}

fn error_text<T>(result: Result<T, CodecError>) -> String {
    result.err().expect("this should have been an error").to_string()
}

proptest! {
    #[test]
    fn every_value_arrives_as_it_was_sent(value in values()) {
        prop_assert_eq!(send(&value).unwrap(), value);
    }

    #[test]
    fn the_head_is_what_postcard_would_write(value in values_without_buffers()) {
        let head = encoded(&value).unwrap().head;
        prop_assert_eq!(&head, &postcard::to_stdvec(&value).unwrap());
        prop_assert_eq!(postcard::from_bytes::<Value>(&head).unwrap(), value);
    }

    #[test]
    fn no_value_without_serde_tricks_is_called_unfaithful(value in values_without_buffers()) {
        super::faithful::try_out::<Value>(&encoded(&value).unwrap().head).unwrap();
    }

    #[test]
    fn values_one_after_another_are_told_apart(values in vec(values(), 0..5)) {
        let mut out = Encoded::default();
        values.iter().for_each(|value| encode(value, &mut out).unwrap());
        let buffers = arrived(&out);
        let mut head = out.head.as_slice();
        for value in &values {
            let (decoded, used): (Value, usize) = decode(head, &buffers).unwrap();
            prop_assert_eq!(&decoded, value);
            head = &head[used..];
        }
        prop_assert!(head.is_empty());
    }

    #[test]
    fn buffers_lie_apart_and_aligned(lengths in vec(0_usize..5000, 0..8)) {
        let buffers: Vec<Buffer<u8>> = lengths.iter().map(|&length| vec![7; length].into()).collect();
        let out = encoded(&buffers).unwrap();
        let mut end = 0;
        for buffer in &out.buffers {
            prop_assert!(buffer.offset.is_multiple_of(BUFFER_ALIGNMENT) && buffer.offset >= end);
            prop_assert!(buffer.bytes().len() > INLINE_BYTES);
            end = buffer.offset + buffer.bytes().len();
        }
        let rounded = |length: &usize| length.next_multiple_of(BUFFER_ALIGNMENT);
        let big = lengths.iter().filter(|&&length| length > INLINE_BYTES);
        prop_assert_eq!(out.area_length(), big.map(rounded).sum::<usize>());
    }

    #[test]
    fn random_bytes_end_in_a_value_or_an_error(
        head in vec(any::<u8>(), 0..200),
        area in vec(any::<u8>(), 0..2000),
    ) {
        decode_as_many_types(&head, &Buffers::new(Area::shifted(&area, 0)));
        decode_as_many_types(&head, &Buffers::NONE);
    }

    #[test]
    fn damaged_values_end_in_a_value_or_an_error(
        value in values(),
        place in any::<prop::sample::Index>(),
        damage in 1_u8..,
    ) {
        let mut out = encoded(&value).unwrap();
        let place = place.index(out.head.len());
        out.head[place] ^= damage;
        decode_as_many_types(&out.head, &arrived(&out));
    }

    #[test]
    fn values_cut_short_are_errors(value in values(), cut in any::<prop::sample::Index>()) {
        let out = encoded(&value).unwrap();
        let cut = cut.index(out.head.len());
        prop_assert!(decode::<Value>(&out.head[..cut], &arrived(&out)).is_err());
    }
}

fn decode_as_many_types(head: &[u8], buffers: &Buffers) {
    let _ = decode::<Value>(head, buffers);
    let _ = decode::<Vec<Value>>(head, buffers);
    let _ = decode::<(Buffer<u32>, Buffer<[f32; 3]>, Buffer<u8>)>(head, buffers);
    let _ = decode::<HashMap<String, Vec<Option<u64>>>>(head, buffers);
    let _ = decode::<Vec<()>>(head, buffers);
    let _ = decode::<List>(head, buffers);
}

// Lengths

#[test]
fn a_length_beyond_the_data_costs_nothing() {
    let boundless = postcard::to_stdvec(&u64::MAX).unwrap();
    assert!(error_text(decode::<Vec<u64>>(&boundless, &Buffers::NONE)).contains("longer than the data"));
    assert!(
        error_text(decode::<HashMap<u8, ()>>(&boundless, &Buffers::NONE)).contains("longer than the data")
    );
    assert!(decode::<String>(&boundless, &Buffers::NONE).is_err());
    assert!(decode::<Raw>(&boundless, &Buffers::NONE).is_err());
    assert!(decode::<Buffer<u8>>(&boundless, &Buffers::NONE).is_err());
}

#[test]
fn elements_that_take_no_bytes_cannot_be_had_without_end() {
    assert_eq!(send(&vec![(); 1000]).unwrap().len(), 1000);
    let many = postcard::to_stdvec(&vec![1_u64 << 19; 3]).unwrap();
    assert!(error_text(decode::<Vec<Vec<()>>>(&many, &Buffers::NONE)).contains("longer than the data"));
}

#[test]
fn an_option_is_there_or_not() {
    assert!(decode::<Option<u8>>(&[2, 7], &Buffers::NONE).is_err());
}

#[test]
fn bytes_behind_the_value_are_an_error_where_it_should_be_alone() {
    let out = encoded(&(1_u8, 2_u8)).unwrap();
    assert_eq!(decode::<u8>(&out.head, &Buffers::NONE).unwrap(), (1, 1));
    assert!(error_text(decode_whole::<u8>(&out.head, &Buffers::NONE)).contains("1 bytes are left over"));
}

/// Reads only the first of its elements.
struct Hasty(u8);

impl<'de> Deserialize<'de> for Hasty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hasty, D::Error> {
        struct First;
        impl<'de> Visitor<'de> for First {
            type Value = Hasty;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Hasty, A::Error> {
                elements.next_element().map(|first| Hasty(first.unwrap_or(0)))
            }
        }
        deserializer.deserialize_seq(First)
    }
}

#[test]
fn a_type_that_leaves_elements_unread_is_an_error_instead_of_a_shift() {
    assert_eq!(decode::<Hasty>(&[1, 7], &Buffers::NONE).unwrap().0.0, 7);
    assert!(error_text(decode::<Hasty>(&[3, 7, 8, 9], &Buffers::NONE)).contains("2 elements"));
}

thread_local! {
    /// How many elements were promised to a [`Lists`] before any of them was there.
    static PROMISED: Cell<usize> = const { Cell::new(0) };
}

/// Sequences of sequences, of whatever depth the bytes have.
struct Lists;

impl<'de> Deserialize<'de> for Lists {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lists, D::Error> {
        deserializer.deserialize_seq(Lists)
    }
}

impl<'de> Visitor<'de> for Lists {
    type Value = Lists;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Lists, A::Error> {
        PROMISED.set(PROMISED.get() + elements.size_hint().unwrap_or(0));
        while elements.next_element::<Lists>()?.is_some() {}
        Ok(Lists)
    }
}

#[test]
fn nested_lengths_that_lie_promise_no_more_elements_than_there_are_bytes() {
    // Each list claims as many elements as there are bytes left, and the next list is its first element.
    let head: Vec<u8> = (0..100).rev().collect();
    PROMISED.set(0);
    assert!(decode::<Lists>(&head, &Buffers::NONE).is_err());
    assert!(PROMISED.get() <= head.len(), "{} elements for {} bytes", PROMISED.get(), head.len());
}

#[test]
fn lengths_that_are_true_are_all_promised() {
    let head = encoded(&vec![vec![Vec::<()>::new(); 7]; 11]).unwrap().head;
    PROMISED.set(0);
    assert!(decode_whole::<Lists>(&head, &Buffers::NONE).is_ok());
    assert_eq!(PROMISED.get(), 11 + 11 * 7);
}

// Depth

#[derive(Serialize, Deserialize)]
enum List {
    End,
    Cell(Box<List>),
}

impl List {
    fn of(cells: u32) -> List {
        (0..cells).fold(List::End, |rest, _| List::Cell(Box::new(rest)))
    }
}

/// Each of these takes much stack in a debug build.
#[derive(Serialize, Deserialize)]
struct Fat {
    numbers: [[u64; 32]; 16],
    next: Option<Box<Fat>>,
}

/// Runs `action` with the stack that threads have unless they ask for another.
fn on_a_thread(action: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(action).unwrap().join().unwrap();
}

#[test]
fn a_list_of_as_many_cells_as_the_limit_can_be_sent() {
    on_a_thread(|| assert!(matches!(send(&List::of(NESTING_LIMIT)).unwrap(), List::Cell(_))));
}

#[test]
fn values_nested_too_deep_are_errors_on_both_sides() {
    on_a_thread(|| {
        let long = ManuallyDrop::new(List::of(1_000_000));
        assert!(error_text(encoded(&*long)).contains("513 levels deep"));
        assert!(error_text(decode::<List>(&[1; 1_000_000], &Buffers::NONE)).contains("513 levels deep"));
    });
}

#[test]
fn types_that_take_much_stack_end_in_the_same_error() {
    on_a_thread(|| {
        let mut head = Vec::new();
        for _ in 0..NESTING_LIMIT {
            head.extend([0; 512]);
            head.push(1);
        }
        assert!(error_text(decode::<Fat>(&head, &Buffers::NONE)).contains("levels deep"));
    });
}
