//! Values of every kind, to be sent to and fro.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Buffer;

/// One of everything that serde knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Value {
    Nothing,
    Unit(()),
    Marker(Marker),
    Wrapped(Wrapper),
    Truth(bool),
    Signed(i8, i16, i32, i64, i128),
    Unsigned { a: u8, b: u16, c: u32, d: u64, e: u128 },
    Real(f32, f64),
    Letter(char),
    Text(String),
    Raw(Raw),
    Maybe(Option<Box<Value>>),
    Outcome(Result<u8, String>),
    List(Vec<Value>),
    Pair(Box<(Value, Value)>),
    Map(BTreeMap<String, Value>),
    Record { name: String, inside: Box<Value>, fixed: [u16; 3] },
    Numbers(Buffer<f64>),
    Bytes(Buffer<u8>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Marker;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Wrapper(u64);

/// Bytes that go through `serialize_bytes`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Raw(Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        <&[u8]>::deserialize(deserializer).map(|bytes| Raw(bytes.to_vec()))
    }
}

fn simple_values() -> BoxedStrategy<Value> {
    let signed = any::<(i8, i16, i32, i64, i128)>();
    let unsigned = any::<(u8, u16, u32, u64, u128)>();
    prop_oneof![
        Just(Value::Nothing),
        Just(Value::Unit(())),
        Just(Value::Marker(Marker)),
        any::<u64>().prop_map(|number| Value::Wrapped(Wrapper(number))),
        any::<bool>().prop_map(Value::Truth),
        signed.prop_map(|(a, b, c, d, e)| Value::Signed(a, b, c, d, e)),
        unsigned.prop_map(|(a, b, c, d, e)| Value::Unsigned { a, b, c, d, e }),
        any::<(f32, f64)>().prop_map(|(a, b)| Value::Real(a, b)),
        any::<char>().prop_map(Value::Letter),
        ".{0,20}".prop_map(Value::Text),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Raw(Raw(bytes))),
        any::<Result<u8, bool>>().prop_map(|one| Value::Outcome(one.map_err(|flag| flag.to_string()))),
    ]
    .boxed()
}

fn nested(leaves: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let deeper = |inside: BoxedStrategy<Value>| {
        let pairs = (inside.clone(), inside.clone());
        let records = ("[a-z]{0,8}", inside.clone(), any::<[u16; 3]>());
        prop_oneof![
            proptest::option::of(inside.clone()).prop_map(|one| Value::Maybe(one.map(Box::new))),
            vec(inside.clone(), 0..6).prop_map(Value::List),
            pairs.prop_map(|pair| Value::Pair(Box::new(pair))),
            btree_map("[a-z]{0,8}", inside, 0..5).prop_map(Value::Map),
            records.prop_map(|(name, inside, fixed)| Value::Record { name, inside: Box::new(inside), fixed }),
        ]
    };
    leaves.prop_recursive(6, 40, 6, deeper).boxed()
}

pub(super) fn values_without_buffers() -> BoxedStrategy<Value> {
    nested(simple_values())
}

pub(super) fn values() -> BoxedStrategy<Value> {
    let numbers = vec(any::<f64>(), 0..400).prop_map(|numbers| Value::Numbers(numbers.into()));
    let bytes = vec(any::<u8>(), 0..3000).prop_map(|bytes| Value::Bytes(bytes.into()));
    nested(prop_oneof![3 => simple_values(), 1 => numbers, 1 => bytes].boxed())
}
