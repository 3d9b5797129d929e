//! Walks a value and writes it.
//!
//! postcard writes numbers and strings. Structure is walked here, because postcard's own walk has no end on a
//! value without end, drops what a user's `Serialize` says when it fails, and does not know about buffers.
//! Structure is little in postcard's format: a sequence or map is its length and its elements, an enum the
//! index of its variant and the fields, an option a byte and perhaps the value, and all else is just what is
//! inside.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::error::{Fault, Reason};
use super::nesting::Nesting;
use super::{Encoded, INLINE_BYTES, Lent, handover};

/// What is written to.
pub(super) struct Output<'out> {
    encoded: &'out mut Encoded,
    nesting: Nesting,
}

impl<'out> Output<'out> {
    pub(super) fn new(encoded: &'out mut Encoded) -> Output<'out> {
        Output { encoded, nesting: Nesting::begin() }
    }
}

/// A place in a value: where to write to, and how deep we are.
pub(super) struct Encoder<'a, 'out> {
    out: &'a mut Output<'out>,
    depth: u32,
}

/// Lets postcard append to a vector that is there already.
struct Append<'out>(&'out mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl<'a, 'out> Encoder<'a, 'out> {
    pub(super) fn new(out: &'a mut Output<'out>) -> Encoder<'a, 'out> {
        Encoder { out, depth: 0 }
    }

    /// One level down, for what is inside this value.
    #[inline]
    fn inside(self) -> Result<Encoder<'a, 'out>, Fault> {
        let depth = self.depth + 1;
        self.out.nesting.check(depth)?;
        Ok(Encoder { out: self.out, depth })
    }

    /// Writes the next thing that lies at this place.
    #[inline]
    fn next<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        value.serialize(Encoder { out: self.out, depth: self.depth })
    }

    #[inline]
    fn leaf(&mut self) -> postcard::Serializer<Append<'_>> {
        postcard::Serializer { output: Append(&mut self.out.encoded.head) }
    }

    fn length(mut self, length: Option<usize>) -> Result<Encoder<'a, 'out>, Fault> {
        let length = length.ok_or(Reason::UnknownLength)?;
        self.leaf().serialize_u64(length as u64)?;
        self.inside()
    }

    fn variant(mut self, index: u32) -> Result<Encoder<'a, 'out>, Fault> {
        self.leaf().serialize_u32(index)?;
        self.inside()
    }

    /// A buffer is its length in bytes, and then the bytes, or where they are if they are many.
    fn buffer(mut self, content: Lent) -> Result<(), Fault> {
        let length = content.bytes().len();
        self.leaf().serialize_u64(length as u64)?;
        if length <= INLINE_BYTES {
            self.out.encoded.head.extend_from_slice(content.bytes());
        } else {
            let offset = self.out.encoded.place(content);
            self.leaf().serialize_u64(offset as u64)?;
        }
        Ok(())
    }
}

macro_rules! leaves {
    ($($method:ident($type:ty))*) => {$(
        #[inline]
        fn $method(mut self, value: $type) -> Result<(), Fault> {
            Ok(self.leaf().$method(value)?)
        }
    )*};
}

impl<'a, 'out> Serializer for Encoder<'a, 'out> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Encoder<'a, 'out>;
    type SerializeTuple = Encoder<'a, 'out>;
    type SerializeTupleStruct = Encoder<'a, 'out>;
    type SerializeTupleVariant = Encoder<'a, 'out>;
    type SerializeMap = Encoder<'a, 'out>;
    type SerializeStruct = Encoder<'a, 'out>;
    type SerializeStructVariant = Encoder<'a, 'out>;

    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_f32(f32) serialize_f64(f64)
        serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
    }

    fn serialize_unit(self) -> Result<(), Fault> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Fault> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        let mut inside = self.inside()?;
        if name != handover::BUFFER_NAME {
            return inside.next(value);
        }
        match handover::request(|| inside.next(value))? {
            Some(content) => inside.buffer(content),
            None => Ok(()),
        }
    }

    fn serialize_none(mut self) -> Result<(), Fault> {
        Ok(self.leaf().serialize_u8(0)?)
    }

    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Fault> {
        self.leaf().serialize_u8(1)?;
        self.inside()?.next(value)
    }

    fn serialize_unit_variant(mut self, _: &'static str, index: u32, _: &'static str) -> Result<(), Fault> {
        Ok(self.leaf().serialize_u32(index)?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.variant(index)?.next(value)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, Fault> {
        self.variant(index)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, Fault> {
        self.variant(index)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self, Fault> {
        self.length(length)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self, Fault> {
        self.length(length)
    }

    #[inline]
    fn serialize_tuple(self, _length: usize) -> Result<Self, Fault> {
        self.inside()
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self, Fault> {
        self.inside()
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self, Fault> {
        self.inside()
    }
}

/// What the traits of all compound values share: the way to write one of its parts, and nothing at the end.
macro_rules! parts {
    ($(impl $compound:ident { $($method:ident)* $(, named $named:ident)? })*) => {$(
        impl $compound for Encoder<'_, '_> {
            type Ok = ();
            type Error = Fault;

            $(
                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, part: &T) -> Result<(), Fault> {
                    self.next(part)
                }
            )*

            $(
                #[inline]
                fn $named<T: Serialize + ?Sized>(&mut self, _: &'static str, part: &T) -> Result<(), Fault> {
                    self.next(part)
                }

                /// serde's derive calls this when `skip_serializing_if` says so.
                fn skip_field(&mut self, field: &'static str) -> Result<(), Fault> {
                    Err(Reason::SkippedField(field).into())
                }
            )?

            #[inline]
            fn end(self) -> Result<(), Fault> {
                Ok(())
            }
        }
    )*};
}

parts! {
    impl SerializeSeq { serialize_element }
    impl SerializeTuple { serialize_element }
    impl SerializeTupleStruct { serialize_field }
    impl SerializeTupleVariant { serialize_field }
    impl SerializeMap { serialize_key serialize_value }
    impl SerializeStruct { , named serialize_field }
    impl SerializeStructVariant { , named serialize_field }
}
