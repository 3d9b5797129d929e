//! Types that cannot be carried are refused, and with a reason.

use std::collections::HashMap;
use std::num::NonZeroU8;

use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use super::{encoded, error_text, send};
use crate::Buffer;
use crate::codec::{Buffers, CodecError, Encoded, check_faithful, decode, encode};

#[derive(Debug, Serialize, Deserialize)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<u8>,
    number: u8,
}

#[test]
fn a_field_that_is_left_out_is_named() {
    assert!(send(&Skipping { remark: Some(1), number: 2 }).is_ok());
    let text = error_text(encoded(&Skipping { remark: None, number: 2 }));
    assert!(text.contains("`remark`") && text.contains("Skipping"), "{text}");
}

#[derive(Serialize, Deserialize)]
struct Flattened {
    #[serde(flatten)]
    rest: HashMap<String, u8>,
}

#[test]
fn flatten_is_refused_with_a_reason() {
    assert!(error_text(encoded(&Flattened { rest: HashMap::new() })).contains("`flatten`"));
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u8),
}

#[derive(Serialize, Deserialize)]
enum HoleInTheMidst {
    First,
    #[serde(skip)]
    #[expect(dead_code, reason = "its number is what counts")]
    Hidden,
    Third,
    Fourth,
}

#[derive(Serialize, Deserialize)]
struct OneWay {
    #[serde(skip_serializing, default)]
    #[allow(dead_code, reason = "it is what does not arrive")]
    secret: u8,
    number: u8,
}

fn checked<T: Serialize + DeserializeOwned + 'static>(value: &T) -> Result<(), CodecError> {
    let out = encoded(value)?;
    check_faithful::<T>(&out, 0)
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "debug builds only")]
fn types_that_would_arrive_changed_are_refused_in_debug_builds() {
    assert!(error_text(checked(&Untagged::Number(1))).contains("`untagged`"));
    assert!(checked(&HoleInTheMidst::First).is_ok());
    assert!(error_text(checked(&HoleInTheMidst::Third)).contains("does not arrive as it was sent"));
    assert!(error_text(checked(&HoleInTheMidst::Fourth)).contains("does not arrive as it was sent"));
    assert!(error_text(checked(&OneWay { secret: 1, number: 2 })).contains("`skip_serializing`"));
}

#[test]
fn maps_without_order_are_not_called_unfaithful() {
    let squares: HashMap<u64, String> = (0..100).map(|x| (x, (x * x).to_string())).collect();
    checked(&squares).unwrap();
    assert_eq!(send(&squares).unwrap(), squares);
}

/// Is encoded in another way each time.
#[derive(Deserialize)]
#[serde(transparent)]
struct Restless(#[expect(dead_code, reason = "only encoded")] u64);

impl Serialize for Restless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        serializer.serialize_u64(COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

#[test]
fn types_that_are_encoded_differently_each_time_are_not_judged() {
    checked(&Restless(0)).unwrap();
}

struct Unwilling;

impl Serialize for Unwilling {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("the file is not open"))
    }
}

#[test]
fn what_a_type_says_when_it_fails_is_kept() {
    let text = error_text(encoded(&Unwilling));
    assert!(text.starts_with("cannot encode") && text.contains("Unwilling"), "{text}");
    assert!(text.ends_with("the file is not open"), "{text}");
    let text = error_text(decode::<NonZeroU8>(&[0], &Buffers::NONE));
    assert!(text.starts_with("cannot decode") && text.contains("expected a nonzero u8"), "{text}");
}

#[test]
fn a_value_that_fails_leaves_nothing_behind() {
    let mut out = Encoded::default();
    encode(&1_u8, &mut out).unwrap();
    let big = Buffer::from(vec![1_u8; 5000]);
    assert!(encode(&(2_u8, big, Unwilling), &mut out).is_err());
    assert_eq!((out.head.as_slice(), out.area_length()), ([1].as_slice(), 0));
}
