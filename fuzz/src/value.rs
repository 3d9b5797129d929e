//! One of everything that serde knows.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU16;
use std::time::Duration;

use procpool::Buffer;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value {
    Nothing,
    Unit(()),
    Wrapped(Wrapper),
    Truth(bool),
    Signed(i8, i16, i32, i64, i128),
    Unsigned { a: u8, b: u16, c: u32, d: u64, e: u128 },
    Real(Bits32, Bits64),
    Letter(char),
    Text(String),
    Maybe(Option<Box<Value>>),
    Outcome(Result<u8, String>),
    List(Vec<Value>),
    Pair(Box<(Value, Value)>),
    Map(BTreeMap<String, Value>),
    Counts(HashMap<u8, u64>),
    Record { name: String, inside: Box<Value>, fixed: [u16; 3] },
    Units(Vec<()>),
    Particular(NonZeroU16, Duration),
    Numbers(Buffer<u64>),
    Triples(Buffer<[u16; 3]>),
    Bytes(Buffer<u8>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wrapper(u64);

/// Numbers that are the same if their bits are, so that a value is the same as itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bits32(f32);

impl PartialEq for Bits32 {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bits64(f64);

impl PartialEq for Bits64 {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
