//! Reads what the encoder wrote, and trusts none of it.
//!
//! As in the encoder, postcard reads numbers and strings, and structure is walked here.

use serde::Deserialize;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::error::{Fault, Reason};
use super::nesting::Nesting;
use super::{Buffers, INLINE_BYTES, handover};

/// How many elements that take no bytes, such as `()`, one decoding may produce: a few bytes can claim any
/// number of them, and each takes time.
const EMPTY_ELEMENTS: usize = 1 << 20;

/// What is still to be read.
pub(super) struct Input<'de> {
    rest: &'de [u8],
    buffers: &'de Buffers,
    empty_elements: usize,
    /// How many elements may still be announced.
    unannounced: usize,
    nesting: Nesting,
}

impl<'de> Input<'de> {
    pub(super) fn new(head: &'de [u8], buffers: &'de Buffers) -> Input<'de> {
        Input {
            rest: head,
            buffers,
            empty_elements: EMPTY_ELEMENTS,
            unannounced: head.len(),
            nesting: Nesting::begin(),
        }
    }

    /// How many bytes have not been used.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn leaf<T: Deserialize<'de>>(&mut self) -> Result<T, Fault> {
        let (value, rest) = postcard::take_from_bytes(self.rest)?;
        self.rest = rest;
        Ok(value)
    }

    /// The number of elements of a sequence or map: no more than there are bytes, but for elements that take
    /// none.
    fn length(&mut self) -> Result<usize, Fault> {
        let length: usize = self.leaf()?;
        let empty = length.saturating_sub(self.rest.len());
        self.empty_elements = self.empty_elements.checked_sub(empty).ok_or(Reason::TooLong(length))?;
        Ok(length)
    }

    /// Whether a collection may hear how many elements it will have, and make room for them before they are there.
    ///
    /// Together they may be announced as many as there are bytes, which is enough for all values that were sent: each
    /// element takes a byte of its own, be it the length of what is inside. Bytes that lie could otherwise make every
    /// level of nested collections take as much memory as all of them account for.
    fn may_announce(&mut self, length: usize) -> bool {
        let left = self.unannounced.checked_sub(length);
        self.unannounced = left.unwrap_or(self.unannounced);
        left.is_some()
    }

    fn bytes(&mut self, length: usize) -> Result<&'de [u8], Fault> {
        let (bytes, rest) =
            self.rest.split_at_checked(length).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// A place in a value: where to read from, and how deep we are.
pub(super) struct Decoder<'input, 'de> {
    input: &'input mut Input<'de>,
    depth: u32,
}

impl<'input, 'de> Decoder<'input, 'de> {
    pub(super) fn new(input: &'input mut Input<'de>) -> Decoder<'input, 'de> {
        Decoder { input, depth: 0 }
    }

    /// One level down, for what is inside this value.
    #[inline]
    fn inside(self) -> Result<Decoder<'input, 'de>, Fault> {
        let depth = self.depth + 1;
        self.input.nesting.check(depth)?;
        Ok(Decoder { input: self.input, depth })
    }

    /// What is inside, `left` times: as many as the type says.
    #[inline]
    fn parts(self, left: usize) -> Result<Elements<'input, 'de>, Fault> {
        Ok(Elements { decoder: self.inside()?, left, announced: true })
    }

    /// What is inside, as often as the bytes say.
    fn elements(self) -> Result<Elements<'input, 'de>, Fault> {
        let left = self.input.length()?;
        let announced = self.input.may_announce(left);
        Ok(Elements { decoder: self.inside()?, left, announced })
    }

    /// The other end of `Encoder::buffer`.
    fn buffer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let length = self.input.leaf()?;
        if length <= INLINE_BYTES {
            return visitor.visit_borrowed_bytes(self.input.bytes(length)?);
        }
        let offset = self.input.leaf()?;
        let content = self.input.buffers.find(offset, length)?;
        handover::deliver(content, || visitor.visit_unit())
    }
}

macro_rules! leaves {
    ($($method:ident($type:ty) => $visit:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(self.input.leaf::<$type>()?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Decoder<'_, 'de> {
    type Error = Fault;

    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        deserialize_bool(bool) => visit_bool
        deserialize_i8(i8) => visit_i8
        deserialize_i16(i16) => visit_i16
        deserialize_i32(i32) => visit_i32
        deserialize_i64(i64) => visit_i64
        deserialize_i128(i128) => visit_i128
        deserialize_u8(u8) => visit_u8
        deserialize_u16(u16) => visit_u16
        deserialize_u32(u32) => visit_u32
        deserialize_u64(u64) => visit_u64
        deserialize_u128(u128) => visit_u128
        deserialize_f32(f32) => visit_f32
        deserialize_f64(f64) => visit_f64
        deserialize_char(char) => visit_char
        deserialize_str(&'de str) => visit_borrowed_str
        deserialize_string(&'de str) => visit_borrowed_str
        deserialize_bytes(&'de [u8]) => visit_borrowed_bytes
        deserialize_byte_buf(&'de [u8]) => visit_borrowed_bytes
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Reason::NotSelfDescribing.into())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.input.leaf::<u8>()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self.inside()?),
            _ => Err(postcard::Error::DeserializeBadOption.into()),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == handover::BUFFER_NAME {
            return self.buffer(visitor);
        }
        visitor.visit_newtype_struct(self.inside()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut elements = self.elements()?;
        let value = visitor.visit_seq(&mut elements)?;
        elements.end()?;
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut elements = self.elements()?;
        let value = visitor.visit_map(&mut elements)?;
        elements.end()?;
        Ok(value)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(&mut self.parts(length)?)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(length, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self)
    }
}

/// The parts of a sequence, map, tuple or struct.
struct Elements<'input, 'de> {
    decoder: Decoder<'input, 'de>,
    left: usize,
    /// Whether `left` is told before it is true.
    announced: bool,
}

impl<'de> Elements<'_, 'de> {
    #[inline]
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(Decoder { input: self.decoder.input, depth: self.decoder.depth })
    }

    #[inline]
    fn next_of_left<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.next(seed).map(Some)
    }

    /// Whoever stops reading early would take the rest of this sequence for what comes behind it.
    fn end(self) -> Result<(), Fault> {
        match self.left {
            0 => Ok(()),
            left => Err(Reason::UnreadElements(left).into()),
        }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.next_of_left(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.announced.then_some(self.left)
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.next_of_left(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.announced.then_some(self.left)
    }
}

impl<'de> EnumAccess<'de> for Decoder<'_, 'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let index: U32Deserializer<Fault> = self.input.leaf::<u32>()?.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Decoder<'_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.inside()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}
